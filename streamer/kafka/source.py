"""The source: reads input topics from a checkpoint, hands over whole batches in order, survives any crash.

Laws:
1. What `restore` asks for is where reading starts, in every topic of a partition; the group's commit is a lag gauge only.
2. A batch is handed over whole, once, in each partition's order; the next one waits until it is done.
3. While the gate is closed nothing is handed over. It closes at once when partitions are revoked or the process was frozen
   for longer than half the session timeout, and opens in the same step in which every partition has been sought.
4. A batch whose work fails is tried again while its partitions are ours, and never passed over: what cannot be done ends
   the process, and readiness fails first.
5. A checkpoint is only written between two batches. Revoked partitions leave no state behind.
6. The topics of a partition number are handed over in arrival order, over all their fetches (`merge`): what is ahead waits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import mode
import structlog
from aiokafka import ConsumerRebalanceListener
from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from streamer.errors import ConfigError, Transient
from streamer.kafka import checkpoints
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.fence import Fence
from streamer.kafka.intake import Intake, Part
from streamer.kafka.log import LogReader
from streamer.kafka.merge import AT_ONCE
from streamer.kafka.restore import Restorer
from streamer.kafka.stateful import Batch, Deliver, Position, ReadLog, Stateful
from streamer.kafka.topics import check_topics
from streamer.metrics import Metrics

__all__ = ["Batch", "Deliver", "Position", "ReadLog", "Source", "Stateful"]

FETCH_WAIT_MS = 50  # how long the broker may hold a fetch open; a partition cannot be asked for again meanwhile
CHECKPOINT_EVERY = 0.5  # seconds
FIRST_RETRY, LONGEST_RETRY, GIVE_UP = 0.1, 5.0, 120.0  # seconds
STALLED = 120.0  # seconds without a step: input waits and nothing is read, or the partitions do not come, or are not restored
LONGEST_STOP = 5.0  # seconds
BEAT = 0.2  # seconds between two looks at the clock
MEASURE_EVERY = 0.5  # seconds

log = structlog.get_logger()

Ready = Callable[[str | None], None]
"""What the process can say of itself: None when it works, else why not (`Health` takes it)."""


class Source(mode.Service):
    """Feeds one Stateful from the partitions that the group gives this process. See the laws above.

    `deliver` is how a batch reaches `stateful.handle` (by default directly). `outputs` are topics of which the owner of a
    partition number is the only writer of that number's partition: their ends are told at each checkpoint. All have as
    many partitions as the inputs: `check_topics` sees to it at the start.
    """

    def __init__(
        self,
        kafka: Kafka,
        *,
        owner: str,
        topics: Sequence[str],
        outputs: Sequence[str] = (),
        stateful: Stateful,
        producer: Producer,
        metrics: Metrics,
        ready: Ready,
        deliver: Deliver | None = None,
        at_once: int = AT_ONCE,
        beacon: Any = None,
    ) -> None:
        super().__init__(beacon=beacon)
        self._kafka, self._owner, self._topics, self._outputs = kafka, owner, tuple(topics), tuple(outputs)
        self._stateful, self._producer, self._metrics, self._ready = stateful, producer, metrics, ready
        self._deliver: Deliver = deliver or stateful.handle
        self._at_once = at_once
        self._consumer = kafka.consumer(group=owner, fetch_max_wait_ms=FETCH_WAIT_MS)
        self._intake = Intake(kafka, self._consumer)
        self._reader = LogReader(kafka)
        self._restorer = Restorer(kafka, self._reader, stateful, owner=owner, topics=self._topics, moved=self._step_forward)
        self._fence = Fence(kafka.settings)
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()  # something to do: partitions to restore, or to read
        self._open = False  # the gate
        self._holds = False  # the Stateful has state of our partitions, whole
        self._generation = 0
        self._numbers: tuple[int, ...] = ()
        self._written: dict[int, bytes] = {}
        self._moved = self._saved = time.monotonic()
        self._failure: BaseException | None = None
        self.failed = asyncio.Event()

    async def run_until(self, stop: asyncio.Event) -> None:
        """Start, work until `stop` is set, finish cleanly. Raises whatever ended the work before."""
        await self.start()
        try:
            await self.wait_for(stop)
        finally:
            await self.stop()

    async def wait_for(self, stop: asyncio.Event) -> None:
        """Wait until `stop` is set. Raises whatever ended the work before."""
        waiters = [asyncio.ensure_future(event.wait()) for event in (stop, self.failed)]
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()
        if self._failure:
            raise self._failure

    # start and end

    async def on_start(self) -> None:
        """Refuse topics that do not fit, connect, join the group."""
        await check_topics(self._kafka)
        await self._reader.__aenter__()
        self._consumer.subscribe([self._kafka.physical(topic) for topic in self._topics], listener=_Listener(self))
        try:
            await self._consumer.start()
        except KafkaError as exc:
            raise self._fence.refused(exc) from exc

    async def on_stop(self) -> None:
        """Close the gate, save what is held, leave the group."""
        self._open = False
        self._wake.set()
        with suppress(TimeoutError):  # work that hangs must not keep the process from ending
            async with asyncio.timeout(LONGEST_STOP), self._lock:
                await self._let_go()
        await self._consumer.stop()
        await self._reader.__aexit__()

    @mode.Service.task
    async def _work(self) -> None:
        try:
            while not self.should_stop:
                await self._wake.wait()
                if not self.should_stop:
                    await self._step()
        except Exception as exc:
            if not self.should_stop:
                self._fail(exc)

    @mode.Service.task
    async def _watch(self) -> None:
        while not self.should_stop:
            self._look_at_the_clock()
            self._metrics.checkpoint_age.labels(self._owner).set(self._fence.beat - self._saved if self._numbers else 0)
            still = self._fence.beat - self._moved
            if still > STALLED and not self._failure:
                self._fail(Transient(f"{self._owner}: nothing moves for {STALLED:.0f} s: {self._state}"))
            elif still > STALLED / 2 and self._open:
                self._ready(f"nothing moves for {still:.0f} s: {self._state}")
            await asyncio.sleep(BEAT)

    @mode.Service.task
    async def _measure(self) -> None:
        """Apart from the work, so that the lag is told while a step hangs or is tried again."""
        while not self.should_stop:
            for topic in self._topics:
                self._metrics.lag.labels(self._owner, topic).set(await self._intake.lag(topic))
            await asyncio.sleep(MEASURE_EVERY)

    @property
    def _state(self) -> str:
        return "input is waiting" if self._open else "the partitions are not restored" if self._numbers else "no partitions came"

    def _fail(self, exc: BaseException) -> None:
        log.error("the source ends", owner=self._owner, error=repr(exc))
        self._ready(f"{type(exc).__name__}: {exc}")
        self._failure, self._open, self._holds = exc, False, False
        self.failed.set()

    # one step

    async def _step(self) -> None:
        if self._failure:
            self._wake.clear()
        elif self._fence.up:
            await self._join_again()
        elif not self._open:
            await self._restore()
        elif (parts := await self._fetch()) is not None and self._open:
            generation = self._generation
            async with self._lock:
                for part in parts:
                    self._look_at_the_clock()
                    if not self._open or generation != self._generation:
                        return  # what is left of it comes again, to whoever has the partitions then
                    await self._hand_over(part)
                    if self._open and self._holds and time.monotonic() - self._saved >= CHECKPOINT_EVERY:
                        await self._patiently(self._save)
                    await asyncio.sleep(0)  # heartbeats must get their turn

    async def _fetch(self) -> Iterator[Part] | None:
        """What may be handed over now. None when it belongs to nobody. Holds no lock: it may wait for a rebalance."""
        try:
            return await self._intake.fetch(at_once=self._at_once, ours=lambda: self._open)
        except OffsetOutOfRangeError:
            # retention overtook us: start over from the checkpoint, which reports the gap
            self._open = False
            self._fence.raise_()
        except KafkaError as exc:
            if self._open:
                raise
            log.warning("nothing was read while the partitions were not ours", owner=self._owner, error=repr(exc))
        return None

    async def _hand_over(self, part: Part) -> None:
        """Under the lock: the batch is done when this returns, or our partitions are gone."""
        batch = await self._intake.batch(part)
        started = time.monotonic()
        self._holds = False  # half a batch is in the state: nothing to save
        if not await self._patiently(partial(self._deliver, batch)):
            return
        self._holds = True
        self._intake.done(part[0])
        if batch.records or all(clock.caught_up for clock in batch.clocks.values()):
            self._step_forward()
        if batch.records:
            self._metrics.batch.labels(self._owner).observe(len(batch.records))
            self._metrics.latency.labels(self._owner).observe(time.monotonic() - started)

    async def _patiently(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Do it, again after each Transient with growing pauses. False when the gate closed meanwhile. Raises when patience ends."""
        pause, deadline, generation = FIRST_RETRY, time.monotonic() + GIVE_UP, self._generation
        while True:
            try:
                await work()
            except Transient as exc:
                self._metrics.retries.labels(self._owner).inc()
                self._ready(f"trying again: {exc}")
                if time.monotonic() > deadline:
                    raise
                log.warning("trying again", owner=self._owner, error=str(exc), pause=pause)
            else:
                if pause > FIRST_RETRY and self._open:
                    self._ready(None)
                return True
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_RETRY)
            if generation != self._generation or self.should_stop:
                return False

    # checkpoints

    async def _save(self) -> None:
        """Under the lock: write each partition's checkpoint where it changed, then the group's commit. Raises Transient."""
        messages = []
        ends = await self._reader.ends(self._all(self._outputs))
        for number in self._numbers:
            positions = self._intake.positions(self._topics, number)
            positions |= {topic: ends[self._kafka.partition(topic, number)] for topic in self._outputs}
            value = await self._stateful.checkpoint(number, positions)
            if value != self._written.get(number):
                messages.append(checkpoints.message(self._owner, number, value))
        await self._producer.send(messages)
        self._written |= {m.partition: m.value for m in messages if m.partition is not None and m.value is not None}
        if messages and not self.should_stop:
            await self._intake.commit()
        self._saved = time.monotonic()

    async def _let_go(self) -> None:
        """Under the lock: save if the state is whole, then forget all of it."""
        if self._holds:
            try:
                await self._save()
            except Transient as exc:
                log.warning("the last checkpoint was not written: the one before it counts", owner=self._owner, error=str(exc))
        self._drop()

    def _drop(self) -> None:
        self._holds = False
        self._stateful.drop()
        self._intake.clear()
        self._written.clear()

    # whose partitions

    async def revoked(self) -> None:
        """The group takes our partitions. Everything before the first await happens before anybody else can run."""
        self._open = False
        self._generation += 1
        self._wake.clear()
        self._step_forward()
        self._ready("waiting for partitions")
        async with self._lock:
            await self._let_go()
            self._numbers, self._fence.up = (), False
        self._fence.revoked(self._consumer)
        self._fence.check_name()

    def assigned(self, partitions: set[TopicPartition]) -> None:
        """The group gives partitions: nothing is fetched from them until they are restored."""
        self._consumer.pause(*partitions)
        self._generation += 1
        self._numbers, self._saved = tuple(sorted({tp.partition for tp in partitions})), time.monotonic()
        if partitions != set(self._all(self._topics)):
            self._fail(ConfigError(f"{self._owner} was given {len(partitions)} partitions of {self._topics} that do not belong together"))
        self._wake.set()

    def _all(self, topics: Sequence[str]) -> list[TopicPartition]:
        return [self._kafka.partition(topic, number) for topic in topics for number in self._numbers]

    async def _restore(self) -> None:
        """Rebuild the state of all partitions, seek them, open the gate."""
        async with self._lock:
            generation, positions = self._generation, dict[TopicPartition, Position]()

            async def rebuild() -> None:
                self._drop()
                positions.clear()
                positions.update(await self._restorer.positions(self._numbers, ours=lambda: generation == self._generation))

            if not await self._patiently(rebuild) or generation != self._generation or self.should_stop:
                self._drop()
                return
            self._intake.begin(positions)  # no await from here to the end: the gate opens on exactly these positions
            self._open = self._holds = True
            self._fence.beat = self._moved = self._saved = time.monotonic()
            log.info("partitions restored", owner=self._owner, partitions=self._numbers)
            self._ready(None)

    def _step_forward(self) -> None:
        self._moved = time.monotonic()

    # the fence

    def _look_at_the_clock(self) -> None:
        """Close the gate at once if this process stood still so long that another may have taken its partitions."""
        if still := self._fence.look(working=self._open):
            log.warning("this process stood still: starting over", owner=self._owner, seconds=round(still, 1))
            self._open = False
            self._ready("stood still")

    async def _join_again(self) -> None:
        async with self._lock:
            if self._fence.up:
                self._drop()
                self._wake.clear()
                self._fence.join_again(self._consumer)


class _Listener(ConsumerRebalanceListener):
    """aiokafka's callbacks. An exception out of them would only be logged, so it ends the source instead."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        try:
            await self._source.revoked()
        except Exception as exc:
            self._source._fail(exc)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._source.assigned(assigned)
