"""What infer reads: media ahead of their windows as far as the cache allows, and windows always.

Laws:
1. Only `windows` is committed, up to what is done; partitions that were taken away are never committed.
2. While the gate is closed nothing is taken in. It closes at once when partitions are revoked, and opens in the same step
   in which every partition has been sought. Revoked partitions leave nothing behind.
3. A media partition whose lane is full is sought back and paused until there is room. So is `windows` where a lane holds
   as many as it may, and media that are newer than those: until half of them are done.
4. What a failed read may have swallowed is read again: every partition is sought back to what was taken of it.
5. A process that stood still for half the session timeout drops all it holds and joins again before it does anything else.
6. Windows that retention took before they were scored are counted and logged; nothing else is passed over.
7. Between records others have their turn, at least every `PULSE` seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import partial

import structlog
from aiokafka import ConsumerRebalanceListener
from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from streamer.agents.infer_encode import Encoder, Payload, never
from streamer.agents.infer_write import Writer
from streamer.config import Config
from streamer.errors import BadRecord, ConfigError, Transient
from streamer.events import Event, Mark, Modality, Record, Window
from streamer.health import Health
from streamer.kafka.client import Kafka
from streamer.kafka.fence import Fence
from streamer.kafka.log import LogReader
from streamer.kafka.readable import Raw
from streamer.metrics import Metrics
from streamer.stages.accept import accept_window
from streamer.stages.envelope import read_head
from streamer.stages.lane import Admission, Lane
from streamer.stages.offsets import Offsets
from streamer.stages.resume import LOOK, media_positions
from streamer.stages.shed import Shedding
from streamer.topology import MIB, STAGE

POLL_MS = 100
FETCH_WAIT_MS = 25  # how long the broker may hold a fetch open; a partition cannot be asked for again meanwhile
PULSE = 0.01  # seconds of taking in at a stretch
BEAT = 0.2  # seconds between two looks at the clock
AGAIN = 0.2  # seconds before the log is asked again where it could not be read
WINDOWS = "windows"
MEDIA = tuple(modality.value for modality in Modality)

log = structlog.get_logger()


class Intake:
    """The group's consumer and the lanes of its partitions. `lock` is held by whoever writes for these lanes."""

    def __init__(
        self,
        kafka: Kafka,
        config: Config,
        metrics: Metrics,
        health: Health,
        *,
        reader: LogReader,
        encoder: Encoder,
        writer: Writer,
        shedding: Shedding,
        changed: asyncio.Event,
    ) -> None:
        self._kafka, self._config, self._metrics, self._health = kafka, config, metrics, health
        self._reader, self._encoder, self._writer, self._shedding = reader, encoder, writer, shedding
        self._consumer = kafka.consumer(group="infer", fetch_max_wait_ms=FETCH_WAIT_MS)
        self._offsets = Offsets(config.sessions)
        self._numbers: tuple[int, ...] | None = None
        self._next = dict[TopicPartition, int]()
        self._paused = dict[TopicPartition, Callable[[], bool]]()
        self._committed = dict[TopicPartition, int]()
        self._saved = time.monotonic()
        self.lanes = dict[int, Lane]()
        self.lock = asyncio.Lock()
        self.open = False
        self.generation = 0
        self._changed = changed
        self._fence = Fence(kafka.settings)

    async def start(self) -> None:
        """Join the group. Raises Transient."""
        self._consumer.subscribe([self._kafka.physical(topic) for topic in STAGE["infer"].reads], listener=_Listener(self))
        try:
            await self._consumer.start()
        except KafkaError as exc:
            raise self._fence.refused(exc) from exc

    async def stop(self) -> None:
        """Leave the group. What was done is committed before."""
        self.open = False
        await self.commit()
        await self._consumer.stop()

    async def run(self) -> None:
        """Read until cancelled. Raises Transient."""
        while True:
            self._fence.check_name()
            if self._fence.up:
                await self._join_again()
            elif self.open:
                await self._step()
            elif self._numbers is None or not await self._restore(self.generation):
                await asyncio.sleep(AGAIN)

    async def watch(self) -> None:
        """Look at the clock until cancelled."""
        while True:
            self.ours(self.generation)
            await asyncio.sleep(BEAT)

    def ours(self, generation: int) -> bool:
        """Whether what was held then may still be written: asked right before. Not after this process stood still."""
        if still := self._fence.look(working=self.open):
            log.warning("this process stood still: starting over", seconds=round(still, 1))
            self.open = False
            self.generation += 1
            self._health.not_ready("stood still")
        return self.open and generation == self.generation

    async def _join_again(self) -> None:
        async with self.lock:
            if self._fence.up:
                self._numbers = None
                self._forget()
                self._fence.join_again(self._consumer)

    async def commit(self) -> None:
        """Tell the group how far `windows` is done. What fails is told again the next time."""
        done = {self._kafka.partition(WINDOWS, number): lane.next_offset for number, lane in self.lanes.items()}
        if not done or done == self._committed:
            if self.open:  # else nothing is done because nothing is restored yet
                self._saved = time.monotonic()
            return
        try:
            await self._consumer.commit(done)
            self._committed, self._saved = done, time.monotonic()
        except (KafkaError, IllegalStateError) as exc:
            log.warning("not committed", error=repr(exc))

    def measure(self) -> None:
        """Set the gauges."""
        self._metrics.cached.set(sum(len(lane.cache) for lane in self.lanes.values()))
        self._metrics.checkpoint_age.labels("infer").set(time.monotonic() - self._saved if self._numbers else 0)
        for topic in STAGE["infer"].reads:
            tps = [self._kafka.partition(topic, number) for number in self.lanes]
            self._metrics.lag.labels("infer", topic).set(sum((self._consumer.highwater(tp) or 0) - self._at(tp) for tp in tps))

    async def waiting(self) -> dict[str, int]:
        """What waits -> where it stands: the first window of each lane, and each partition that has more than was read."""
        found = {f"windows/{number} to be scored": lane.next_offset for number, lane in self.lanes.items() if len(lane)}
        try:
            for tp in [tp for tp in self._next if tp not in self._paused]:
                at = await self._consumer.position(tp)  # past what is no record, such as the end of a transaction
                if at < (self._consumer.highwater(tp) or 0):
                    found[f"{self._kafka.logical(tp.topic)}/{tp.partition} to be read"] = at
        except (KafkaError, IllegalStateError):
            return {}  # they were taken from us
        return found if self.open else {}

    def _at(self, tp: TopicPartition) -> int:
        end: int = self._consumer.highwater(tp) or 0
        lane = self.lanes.get(tp.partition)
        at = lane.next_offset if lane and tp.topic == self._kafka.physical(WINDOWS) else self._next.get(tp, end)
        return min(at, end)

    # reading

    async def _step(self) -> None:
        generation = self.generation
        try:
            batches = await self._consumer.getmany(timeout_ms=POLL_MS)
        except NoOffsetForPartitionError:
            return  # asked before it was sought: it has a position now
        except OffsetOutOfRangeError as exc:
            log.warning("retention overtook the reader: starting over", partitions=str(exc))
            await self.give_up()
            return
        except KafkaError as exc:
            log.warning("cannot read", error=repr(exc))
            if self.ours(generation):
                self._seek_back()
            return
        for tp in sorted(batches, key=self._windows_last):
            if self.ours(generation):
                await self._take(tp, batches[tp], generation)
        if batches:
            self._changed.set()
        self._resume()

    def _windows_last(self, tp: TopicPartition) -> bool:
        return bool(tp.topic == self._kafka.physical(WINDOWS))

    def _seek_back(self) -> None:
        """A read that fails for one partition has moved on in those that it read before."""
        for tp, offset in self._next.items():
            self._consumer.seek(tp, offset)

    async def _take(self, tp: TopicPartition, batch: Iterable[Raw], generation: int) -> None:
        lane, pulse = self.lanes[tp.partition], time.monotonic() + PULSE
        for raw in batch:
            if raw.offset < self._next[tp]:
                continue
            record = self._kafka.record(raw)
            until = await self._window(lane, record) if record.topic == WINDOWS else self._media(lane, record)
            if not self.ours(generation):
                return
            if until:
                self._hold(tp, raw.offset, until)
                return
            self._next[tp] = raw.offset + 1
            self._metrics.read.labels("infer", record.topic).inc()
            self._metrics.read_bytes.labels("infer", record.topic).inc(len(record.value or b""))
            if time.monotonic() > pulse:
                await asyncio.sleep(0)
                if not self.ours(generation):
                    return
                pulse = time.monotonic() + PULSE

    async def _window(self, lane: Lane, record: Record) -> Callable[[], bool] | None:
        """Give the lane a record of `windows`. Where it holds too many: when to go on."""
        if lane.crowded():
            return lambda: not lane.crowded()
        what = None
        try:
            what = accept_window(record, self._config.kafka.partitions)
        except BadRecord as exc:
            await self._writer.bury(record, exc)
        lane.window(record.offset, record.arrival, what)
        return None

    def _media(self, lane: Lane, record: Record) -> Callable[[], bool] | None:
        """Hand an event to the encoder. Where there is no place for it: when to go on. Bad headers are align's to bury."""
        if lane.early(record.arrival):
            return lambda: not lane.crowded()
        try:
            head = read_head(record, self._config.kafka.partitions)
            if self._offsets:
                head = self._offsets.corrected(head)
        except BadRecord:
            return None
        if isinstance(head, Mark):
            lane.cache.passed(head.arrival)
            return None
        admission = lane.event(head, headers=_header_bytes(record))
        if admission is Admission.ENCODE:
            modality = head.track.modality
            sheds = partial(self._shedding.sheds, head.track, head.start) if modality is Modality.FRAMES else never
            self._encoder.submit(lane, head.origin, modality, payload_of(head, record), sheds=sheds)
        return lane.cache.roomy if admission is Admission.FULL else None

    def _hold(self, tp: TopicPartition, offset: int, until: Callable[[], bool]) -> None:
        self._consumer.seek(tp, offset)
        self._consumer.pause(tp)
        self._paused[tp] = until

    def _resume(self) -> None:
        for tp in [tp for tp, until in self._paused.items() if until()]:
            self._consumer.resume(tp)
            del self._paused[tp]

    # whose partitions

    async def _restore(self, generation: int) -> bool:
        """Find out where to read on, seek everything, open the gate."""
        numbers = self._numbers or ()
        try:
            positions = {number: await self._positions(number) for number in numbers}
        except (KafkaError, Transient) as exc:
            log.warning("cannot find out where to read on", error=repr(exc))
            return False
        if generation != self.generation:
            return False
        self._forget()
        bound = self._config.infer.cache_mb * MIB // max(1, len(numbers))
        for number, at in positions.items():  # no await from here to the end: the gate opens on exactly these positions
            self.lanes[number] = Lane(number, bound=bound, next_offset=at[WINDOWS])
            for topic, offset in at.items():
                tp = self._kafka.partition(topic, number)
                self._next[tp] = offset
                self._consumer.seek(tp, offset)
                self._consumer.resume(tp)
        self.open, self._fence.beat = True, time.monotonic()
        self._health.ready()
        log.info("partitions restored", partitions=numbers, positions=positions)
        return True

    async def _positions(self, number: int) -> dict[str, int]:
        """Topic -> the offset to read on from."""
        tps = {topic: self._kafka.partition(topic, number) for topic in (*MEDIA, WINDOWS)}
        starts = await self._reader.starts(tps.values())
        end = await self._reader.end(tps[WINDOWS])
        committed = await self._consumer.committed(tps[WINDOWS])
        if committed is not None and committed > end:
            raise ConfigError(
                f"infer has committed windows/{number}@{committed}, but that log ends at {end}: the topic was made anew. "
                f"Use another prefix, or delete the group {self._kafka.physical('infer')}"
            )
        at = max(committed or 0, starts[tps[WINDOWS]])
        if committed is not None and committed < at:
            log.error("windows were gone before they were scored", partition=number, committed=committed, first=at, windows=at - committed)
            self._metrics.lost.labels("infer", WINDOWS).inc(at - committed)
        before, after = list[Window](), list[Window]()
        async for record in self._reader.read(WINDOWS, max(0, at - LOOK), partition=number):
            if record.offset >= at + LOOK:
                break
            (before if record.offset < at else after).extend(_windows(record, self._config.kafka.partitions))
        media = media_positions(before, after, {topic: starts[tps[topic]] for topic in MEDIA}, committed=committed is not None)
        ends = {topic: await self._reader.end(tps[topic]) for topic in MEDIA}
        return {topic: ends[topic] if offset is None else min(offset, ends[topic]) for topic, offset in media.items()} | {WINDOWS: at}

    def assigned(self, partitions: set[TopicPartition]) -> None:
        """The group gives partitions: nothing is fetched from them until they are restored."""
        self._consumer.pause(*partitions)
        self.generation += 1
        self._numbers, self._saved = tuple(sorted({tp.partition for tp in partitions})), time.monotonic()

    async def revoked(self) -> None:
        """The group takes our partitions. Everything before the first await happens before anybody else can run."""
        self.open = False
        self.generation += 1
        self._health.not_ready("waiting for partitions")
        async with self.lock:  # what is being written is finished first; `generation` tells it to hurry
            await self.commit()
            self._numbers, self._fence.up = None, False
            self._forget()
        self._fence.revoked(self._consumer)

    async def give_up(self) -> None:
        """Start over with the same partitions."""
        self.open = False
        async with self.lock:
            await self.commit()
            self._consumer.pause(*self._next)

    def _forget(self) -> None:
        self._encoder.drop()
        self.lanes.clear()
        self._next.clear()
        self._paused.clear()
        self._committed.clear()


class _Listener(ConsumerRebalanceListener):
    """aiokafka's callbacks."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        await self._intake.revoked()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._intake.assigned(assigned)


def payload_of(event: Event, record: Record) -> Payload:
    """What is to be encoded of an event."""
    return event.words or record


def _header_bytes(record: Record) -> int:
    return sum(len(name) + len(value or b"") for name, value in record.headers)


def _windows(record: Record, partitions: int) -> list[Window]:
    try:
        what = accept_window(record, partitions)
    except BadRecord:
        return []
    return [what] if isinstance(what, Window) else []
