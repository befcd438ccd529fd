"""deliver: alerts to the world. One consumer group per sink, so a slow sink holds up no other.

A position moves after the sink's yes, or after the dead letter of an alert that it will never take. At the start the alerts
before the position are read back, so that a revision that stands twice in the topic is sent once. An attempt under way when
the group takes a partition is waited for, so that its next owner need not send it again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import stamina
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from streamer.config import LogSinkSettings, WebhookSinkSettings
from streamer.errors import BadRecord, Reason, Transient
from streamer.events import SECOND, Record
from streamer.health import Health
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.log import LogReader
from streamer.kafka.readable import Raw
from streamer.metrics import Metrics
from streamer.runtime import Runtime
from streamer.sinks.log import LogSink
from streamer.sinks.sink import Delivery, Later, Sink
from streamer.sinks.webhook import WebhookSink
from streamer.stages.deliver import FIRST_WAIT, LONGEST_WAIT, REMEMBERED, Outcome, Recent
from streamer.stages.wire import dead_letter, read_alert, write_deadletter

log = structlog.get_logger()

STAGE, ALERTS = "deliver", "alerts"
POLL_MS = 200
GRACE = 2.0  # seconds that an attempt under way gets when we are asked to stop
COMMIT = 1.0  # seconds that a commit may take


async def run(runtime: Runtime) -> None:
    """Deliver to every sink until `runtime.stop` is set. Raises ConfigError for a sink that cannot be used."""
    config = runtime.config
    kafka = Kafka(config.kafka, password=runtime.secrets.get(config.kafka.password_env or ""))
    if not config.deliver.sinks:
        runtime.health.ready()
        await runtime.stop.wait()
        return
    board = Board(runtime.health, {settings.name: "waiting for partitions" for settings in config.deliver.sinks})
    async with Producer(kafka) as producer, asyncio.TaskGroup() as group:
        for settings in config.deliver.sinks:
            group.create_task(_serve(settings, runtime, kafka, producer, board))


async def _serve(settings: LogSinkSettings | WebhookSinkSettings, runtime: Runtime, kafka: Kafka, producer: Producer, board: Board) -> None:
    async with open_sink(settings, runtime.secrets) as sink:
        courier = Courier(name=settings.name, sink=sink, kafka=kafka, producer=producer, metrics=runtime.metrics, board=board)
        await courier.run_until(runtime.stop)


@asynccontextmanager
async def open_sink(settings: LogSinkSettings | WebhookSinkSettings, secrets: Mapping[str, str]) -> AsyncIterator[Sink]:
    """The sink that the settings describe. Raises ConfigError."""
    if isinstance(settings, WebhookSinkSettings):
        async with WebhookSink(settings, secrets.get(settings.secret_env)) as sink:
            yield sink
    else:
        yield LogSink()


@dataclass(slots=True)
class Board:
    """What keeps each sink from working; readiness is the sum."""

    health: Health
    troubles: dict[str, str]
    lags: dict[str, int] = field(default_factory=dict)

    def say(self, sink: str, trouble: str | None) -> None:
        """`trouble` None: this sink works."""
        if trouble is None:
            self.troubles.pop(sink, None)
        else:
            self.troubles[sink] = trouble
        if self.troubles:
            self.health.not_ready("; ".join(f"sink {name}: {why}" for name, why in sorted(self.troubles.items())))
        else:
            self.health.ready()


@dataclass(slots=True)
class Courier(ConsumerRebalanceListener):
    """One sink's way through `alerts`. `ours` are the partitions that the group gave; those not in `recent` are paused."""

    name: str
    sink: Sink
    kafka: Kafka
    producer: Producer
    metrics: Metrics
    board: Board
    ours: frozenset[TopicPartition] = frozenset()
    recent: dict[TopicPartition, Recent] = field(default_factory=dict)
    next: dict[TopicPartition, int] = field(default_factory=dict)
    leave: asyncio.Event = field(default_factory=asyncio.Event)  # the group wants its partitions back
    under_way: asyncio.Event | None = None  # to be set once the attempt, and what follows from it, is done
    _consumer: AIOKafkaConsumer | None = None

    async def run_until(self, stop: asyncio.Event) -> None:
        """Send what comes, in each partition's order, until `stop` is set. Raises Transient when the broker is away."""
        self._consumer = consumer = self.kafka.consumer(group=f"{STAGE}.{self.name}")
        consumer.subscribe([self.kafka.physical(ALERTS)], listener=self)
        try:
            await consumer.start()
            async with LogReader(self.kafka) as reader:
                while not stop.is_set():
                    await self._step(consumer, reader, stop)
        except KafkaError as exc:
            raise Transient(f"sink {self.name}: the broker is away: {exc!r}") from exc
        finally:
            await consumer.stop()

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Nothing new is begun. What is under way is waited for, so that its position moves before the partitions go."""
        self.leave.set()
        if self.under_way:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience + 2 * COMMIT):
                    await self.under_way.wait()
        self.ours, self.recent, self.next = frozenset(), {}, {}
        self.board.say(self.name, "waiting for partitions")

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Nothing is fetched before the position is known."""
        if self._consumer:
            self._consumer.pause(*assigned)
        self.leave = asyncio.Event()  # a new one: who waits for the old one must leave
        self.ours, self.recent, self.next = frozenset(assigned), {}, {}
        if not assigned:
            self.board.say(self.name, None)

    async def _step(self, consumer: AIOKafkaConsumer, reader: LogReader, stop: asyncio.Event) -> None:
        if new := sorted(self.ours - self.recent.keys()):
            await self._restore(consumer, reader, new)
            return
        leave = self.leave
        try:
            batches = await consumer.getmany(timeout_ms=POLL_MS)
        except NoOffsetForPartitionError:
            return  # given to us while we waited, and not sought yet
        except OffsetOutOfRangeError:
            self.recent.clear()  # retention overtook the position: begin anew, at the log's start
            consumer.pause(*self.ours)
            return
        self._measure(consumer)
        if leave.is_set() or not batches:
            return
        started = time.monotonic()
        self.metrics.batch.labels(STAGE).observe(sum(map(len, batches.values())))
        await self._batch(consumer, batches, stop)
        self.metrics.latency.labels(STAGE).observe(time.monotonic() - started)

    async def _batch(self, consumer: AIOKafkaConsumer, batches: Mapping[TopicPartition, Sequence[Raw]], stop: asyncio.Event) -> None:
        for tp, batch in batches.items():
            for raw in batch:
                if not await self._finish(consumer, tp, self.kafka.record(raw), stop):
                    return
                self._measure(consumer)

    def _measure(self, consumer: AIOKafkaConsumer) -> None:
        """The lag of this sink; the gauge is the sum over all sinks."""
        with suppress(KafkaError, AssertionError):  # they were taken from us
            self.board.lags[self.name] = sum(max(0, (consumer.highwater(tp) or at) - at) for tp, at in self.next.items())
        self.metrics.lag.labels(STAGE, ALERTS).set(sum(self.board.lags.values()))

    async def _restore(self, consumer: AIOKafkaConsumer, reader: LogReader, new: list[TopicPartition]) -> None:
        """Find each partition's position, and what was sent before it; then let it flow."""
        leave = self.leave
        starts, found = await reader.starts(new), dict[TopicPartition, tuple[int, Recent]]()
        for tp in new:
            committed = await consumer.committed(tp)
            first, end = starts[tp], await reader.end(tp)
            position = first if committed is None or not first <= committed <= end else committed
            if committed is not None and position != committed:
                log.warning("alerts are gone before they were sent", sink=self.name, partition=tp.partition, first=committed, found=first)
                self.metrics.lost.labels(STAGE, ALERTS).inc(max(0, first - committed))
            recent = Recent()
            if position > first:
                async for record in reader.read(ALERTS, max(first, position - REMEMBERED), partition=tp.partition):
                    if record.offset >= position:
                        break
                    with suppress(BadRecord):
                        recent.add(read_alert(record))
            found[tp] = (position, recent)
        if leave.is_set():
            return
        for tp, (position, recent) in found.items():
            self.next[tp] = position
            consumer.seek(tp, position)
            consumer.resume(tp)
            self.recent[tp] = recent
        await self._commit(consumer, dict(self.next))
        if not leave.is_set():
            self.board.say(self.name, None)

    async def _finish(self, consumer: AIOKafkaConsumer, tp: TopicPartition, record: Record, stop: asyncio.Event) -> bool:
        """Deliver one record and move the position. False when it is not done: we stop, or the partition is gone."""
        self.metrics.read.labels(STAGE, ALERTS).inc()
        self.metrics.read_bytes.labels(STAGE, ALERTS).inc(len(record.value or b""))
        leave, work = self.leave, asyncio.create_task(self._deliver(record, self.recent[tp]))
        self.under_way = done = asyncio.Event()
        try:
            await self._wait_for(work, stop, leave)
            if work.cancelled():
                return False
            work.result()
            self.next[tp] = record.offset + 1
            await self._commit(consumer, {tp: record.offset + 1})
        finally:
            done.set()
        return not leave.is_set()

    async def _wait_for(self, work: asyncio.Task[None], stop: asyncio.Event, leave: asyncio.Event) -> None:
        """Until it is done; once we are asked to stop or to leave, a while longer, and then it is cancelled."""
        waiters = [asyncio.create_task(event.wait()) for event in (stop, leave)]
        try:
            await asyncio.wait([work, *waiters], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait([work], timeout=self._patience if leave.is_set() else GRACE)
        finally:
            for task in (work, *waiters):
                task.cancel()
        await asyncio.wait([work])

    @property
    def _patience(self) -> float:
        """Seconds that the group's other members wait for an attempt of ours."""
        return self.kafka.settings.session_timeout / SECOND / 2

    async def _commit(self, consumer: AIOKafkaConsumer, positions: Mapping[TopicPartition, int]) -> None:
        """What fails is done with the next one; until then the alert could be sent again."""
        try:
            async with asyncio.timeout(COMMIT):
                await consumer.commit(dict(positions))
        except (KafkaError, TimeoutError) as exc:
            log.warning("a position was not moved", sink=self.name, positions=str(positions), error=repr(exc))

    async def _deliver(self, record: Record, recent: Recent) -> None:
        """Until it is done: sent, known as sent, or in `deadletter`."""
        try:
            alert = read_alert(record)
        except Exception as exc:
            await self._patiently(record, exc, Outcome.BROKEN)
            return
        if alert in recent:
            self._count(Outcome.DUPLICATE)
            return
        try:
            await self._send(Delivery(alert=alert, body=record.value or b""))
        except Exception as exc:
            await self._patiently(record, exc, Outcome.REFUSED if isinstance(exc, BadRecord) else Outcome.BROKEN)
        else:
            self._count(Outcome.DELIVERED)
        recent.add(alert)

    async def _send(self, delivery: Delivery) -> None:
        async for attempt in stamina.retry_context(
            on=self._again, attempts=None, timeout=None, wait_initial=FIRST_WAIT, wait_max=LONGEST_WAIT, wait_jitter=FIRST_WAIT
        ):
            with attempt:
                await self.sink.send(delivery)
        self.board.say(self.name, None)

    async def _patiently(self, record: Record, exc: Exception, outcome: Outcome) -> None:
        """Write the dead letter of a record that cannot be sent: this sink will never show that alert."""
        letter = dead_letter(STAGE, record, exc)
        message = write_deadletter(letter)
        log.error("an alert cannot be sent", sink=self.name, reason=letter.reason, detail=letter.detail, offset=record.offset)
        async for attempt in stamina.retry_context(
            on=self._again, attempts=None, timeout=None, wait_initial=FIRST_WAIT, wait_max=LONGEST_WAIT, wait_jitter=FIRST_WAIT
        ):
            with attempt:
                await self.producer.send([message])
        self.metrics.written.labels(STAGE, message.topic).inc()
        self.metrics.written_bytes.labels(STAGE, message.topic).inc(len(message.value or b""))
        reason = exc.reason if isinstance(exc, BadRecord) else Reason.UNEXPECTED
        self.metrics.dead.labels(STAGE, reason.value).inc()
        self._count(outcome)

    def _again(self, exc: Exception) -> bool | float:
        """stamina's question: whether to try again, and after how many seconds if the receiver asked for that."""
        if not isinstance(exc, Transient):
            return False
        self.metrics.retries.labels(STAGE).inc()
        self.board.say(self.name, str(exc))
        if isinstance(exc, Later) and exc.after is not None:
            return max(exc.after, FIRST_WAIT)
        return True

    def _count(self, outcome: Outcome) -> None:
        self.metrics.deliveries.labels(self.name, outcome.value).inc()
