"""deliver: alerts to the world. One consumer group per sink, so a slow sink holds up no other.

A position moves after the sink's yes, or after the dead letter of an alert that it will never take. At the start the alerts
before the position are read back, so that a revision that stands twice in the topic is sent once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import stamina
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from streamer.config import LogSinkSettings, WebhookSinkSettings
from streamer.errors import BadRecord, Reason, Transient
from streamer.events import Record
from streamer.health import Health
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.log import LogReader
from streamer.kafka.poll import poll
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
    leave: asyncio.Event = field(default_factory=asyncio.Event)  # what is under way is not ours any more
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
        """Whatever is under way is not ours any more."""
        self.leave.set()
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
            batches = await poll(consumer, self.next, timeout_ms=POLL_MS)
        except OffsetOutOfRangeError:
            self.recent.clear()  # retention overtook the position: begin anew, at the log's start
            consumer.pause(*self.ours)
            return
        if leave.is_set():
            return
        for tp, batch in batches.items():
            for raw in batch:
                if not await self._finish(consumer, tp, self.kafka.record(raw), stop):
                    return

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
        self.board.say(self.name, None)

    async def _finish(self, consumer: AIOKafkaConsumer, tp: TopicPartition, record: Record, stop: asyncio.Event) -> bool:
        """Deliver one record and move the position. False when it is not done: we stop, or the partition is gone."""
        self.metrics.read.labels(STAGE, ALERTS).inc()
        self.metrics.read_bytes.labels(STAGE, ALERTS).inc(len(record.value or b""))
        leave, work = self.leave, asyncio.create_task(self._deliver(record, self.recent[tp]))
        waiters = [asyncio.create_task(event.wait()) for event in (stop, leave)]
        try:
            await asyncio.wait([work, *waiters], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait([work], timeout=GRACE)
        finally:
            for task in (work, *waiters):
                task.cancel()
        await asyncio.wait([work])
        if work.cancelled():
            return False
        work.result()
        self.next[tp] = record.offset + 1
        try:
            await consumer.commit({tp: record.offset + 1})
        except KafkaError as exc:
            log.warning("a position was not moved", sink=self.name, partition=tp.partition, error=repr(exc))
        return not leave.is_set()

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
        """Write the dead letter of a record that cannot be sent."""
        letter = dead_letter(STAGE, record, exc)
        log.warning("an alert cannot be sent", sink=self.name, reason=letter.reason, detail=letter.detail, offset=record.offset)
        async for attempt in stamina.retry_context(
            on=self._again, attempts=None, timeout=None, wait_initial=FIRST_WAIT, wait_max=LONGEST_WAIT, wait_jitter=FIRST_WAIT
        ):
            with attempt:
                await self.producer.send([write_deadletter(letter)])
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
