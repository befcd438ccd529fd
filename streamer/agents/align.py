"""align: frames, audio and transcripts in, windows out, in a Faust agent fed by the source. One aligner per partition number.

Laws:
1. Every record read is in a window, in `late`, in `deadletter`, or a counted duplicate or mark.
2. A checkpoint's low-water is the first record that is not yet acknowledged in every window it overlaps; restoring reads
   `windows` from the oldest one that is still needed, so what is read again and stands there is a duplicate.
3. What could not be written stays pending and goes first: handing over the same batch again repeats nothing.
4. A record in our output partition that we did not write is taken over, and what it lacks goes out as a revision. It is noticed by
   the offset of our next write, or by the partition's end at the next checkpoint.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import structlog

from streamer.agents.align_clocks import ClockWatch
from streamer.agents.host import host
from streamer.config import Config
from streamer.errors import BadRecord, Reason
from streamer.events import SECOND, Clock, Event, Late, Message, Micros, Modality, Origin, Record, SessionId, SessionMark, Window
from streamer.kafka.checkpoints import Checkpoint, Place, decode, encode
from streamer.kafka.client import Kafka, Producer, Written
from streamer.kafka.stateful import START, Batch, Position, ReadLog
from streamer.metrics import Metrics, observe_all
from streamer.runtime import Runtime
from streamer.stages.align import Aligner, Output, Rejected, Room
from streamer.stages.envelope import read_head
from streamer.stages.offsets import Offsets
from streamer.stages.wire import dead_letter, read_window, write_deadletter, write_late, write_silence, write_window
from streamer.topology import STAGE

log = structlog.get_logger()

ALIGN, WINDOWS = "align", "windows"
TOPICS = STAGE[ALIGN].reads

Pending = tuple[Message, int, Window | SessionMark | None]
"""What is to be written, by which partition's aligner, and the output that it tells."""


@dataclass(slots=True)
class Lane:
    """One partition number: its aligner, its inputs' arrival clocks and next offsets, and the end of its part of `windows`."""

    aligner: Aligner
    read: ReadLog
    clocks: dict[str, Micros]
    end: int
    next: dict[str, int] = field(default_factory=dict)
    reread: Micros = START
    counted: Counter[tuple[str, Modality]] = field(default_factory=Counter)


@dataclass(slots=True)
class Aligning:
    """The state behind the source (`Stateful`). `pending`: written next, with the partition and the output each one tells.

    `told`: written, and where; the aligner has still to be told.
    """

    config: Config
    producer: Producer
    metrics: Metrics
    lanes: dict[int, Lane] = field(default_factory=dict)
    pending: list[Pending] = field(default_factory=list)
    told: deque[tuple[int, Window | SessionMark, Written]] = field(default_factory=deque)
    gauged: Micros = START
    room: Room = field(default_factory=Room)
    delays: dict[Modality, list[float]] = field(default_factory=lambda: {modality: [] for modality in Modality})
    offsets: Offsets = field(init=False)
    clocks: ClockWatch = field(init=False)

    def __post_init__(self) -> None:
        self.offsets = Offsets(self.config.sessions)
        self.clocks = ClockWatch(self.config.align, self.metrics)

    async def restore(self, partition: int, saved: Mapping[str, bytes], read: ReadLog) -> Mapping[str, Position]:
        """Read back the windows that are still needed, and where the inputs go on."""
        checkpoint = decode(saved[""]) if "" in saved else Checkpoint(inputs={})
        expected = {SessionId(session.id): session.expected() for session in self.config.sessions}
        start = checkpoint.outputs.get(WINDOWS, 0)
        clocks = {topic: place.clock for topic, place in checkpoint.inputs.items()}
        lane = Lane(aligner=Aligner(self.config.align, expected, self.room), read=read, clocks=clocks, end=start)
        standing, lane.end = await self._standing(lane)
        lane.aligner.restore(standing, {Modality(topic): clock for topic, clock in clocks.items()})
        self.lanes[partition] = lane
        return {topic: Position(offset=place.offset, clock=place.clock) for topic, place in checkpoint.inputs.items()}

    async def handle(self, batch: Batch) -> None:
        """Align every record, let time pass, write what comes of it."""
        new = list(self._new(batch))
        self._count(new)
        for lane, record in new:
            self._align(lane, record)
        self._observe()
        clocks: dict[int, dict[Modality, Clock]] = {number: {} for number in self.lanes}
        for (topic, number), clock in batch.clocks.items():
            if number in clocks:
                clocks[number][Modality(topic)] = clock
        for number, lane in self.lanes.items():
            self._tick(number, lane, clocks[number], batch.now)
        await self._write()
        if batch.now - self.gauged >= SECOND:  # a look at every session
            self.gauged = batch.now
            self._gauge()

    async def checkpoint(self, partition: int, positions: Mapping[str, int]) -> bytes:
        """The low-water of each input, and the oldest window that a restart needs. What another wrote meanwhile is taken over."""
        lane = self.lanes[partition]
        if positions.get(WINDOWS, 0) > lane.end:
            await self._take_over(lane)
            lane.end = max(lane.end, positions[WINDOWS])  # read, though the last offsets may hold no record
        lows = {topic: lane.aligner.low_water(Modality(topic), at) for topic, at in positions.items() if topic != WINDOWS}
        began = [
            (lane.clocks.get(topic, low.clock), low.clock) for topic, low in lows.items() if low.clock
        ]  # 0: before the log's first record
        lane.reread = Micros(max((clock - low for clock, low in began), default=0))
        oldest = lane.aligner.oldest_out()
        return encode(
            Checkpoint(
                inputs={topic: Place(offset=low.offset, clock=low.clock) for topic, low in lows.items()},
                outputs={WINDOWS: lane.end if oldest is None else oldest},
            )
        )

    async def gap(self, topic: str, partition: int, wanted: int, found: int) -> None:
        """Say in `late` that a stretch of log is gone, and in the windows that could have had some of it."""
        log.warning("records are gone before they were aligned", topic=topic, partition=partition, first=wanted, last=found - 1)
        clock = self.lanes[partition].clocks.get(topic, Micros(0))
        self.lanes[partition].aligner.gap(Modality(topic), wanted)
        late = Late(
            origin=Origin(topic=topic, partition=partition, offset=wanted),
            session=None,
            modality=Modality(topic),
            id=None,
            start=None,
            arrival=Micros(max(0, clock)),
            delay=Micros(0),
            reason="gap",
        )
        self.pending.append((write_late(late), partition, None))
        await self._write()

    def drop(self) -> None:
        """Forget every partition."""
        self.lanes.clear()
        self.pending.clear()
        self.told.clear()
        self.room = Room()
        self.clocks.drop()

    def _new(self, batch: Batch) -> Iterator[tuple[Lane, Record]]:
        """What this batch brings that no earlier try has dealt with."""
        for record in batch.records:
            lane = self.lanes[record.partition]
            if record.offset >= lane.next.get(record.topic, 0):
                lane.next[record.topic] = record.offset + 1
                yield lane, record

    # one record

    def _align(self, lane: Lane, record: Record) -> None:
        clock = lane.clocks.get(record.topic, record.arrival)
        if record.arrival > clock:
            clock = record.arrival
        lane.clocks[record.topic] = clock
        try:
            item = read_head(record, self.config.kafka.partitions)
            if self.offsets:
                item = self.offsets.corrected(item)
        except Exception as exc:  # a codec's own fault must not stop the stage either
            self._bury(record, exc)
            return
        if isinstance(item, Event):
            self.clocks.see(item)
            self.delays[item.track.modality].append(max(0, item.arrival - item.end) / SECOND)
        for output in lane.aligner.push(item, clock):
            self._refuse(record, output)

    def _refuse(self, record: Record, output: Output) -> None:
        if isinstance(output, Rejected):
            self._bury(record, BadRecord(output.reason, output.detail))
        elif isinstance(output, Late):
            self.metrics.late.labels(output.modality.value).inc()
            self.pending.append((write_late(output), record.partition, None))

    def _bury(self, record: Record, exc: Exception) -> None:
        reason = exc.reason if isinstance(exc, BadRecord) else Reason.UNEXPECTED
        self.metrics.dead.labels(ALIGN, reason.value).inc()
        self.pending.append((write_deadletter(dead_letter(ALIGN, record, exc)), record.partition, None))

    def _tick(self, number: int, lane: Lane, clocks: Mapping[Modality, Clock], now: Micros) -> None:
        for output in lane.aligner.tick(clocks, now):
            if isinstance(output, Window):
                self.pending.append((write_window(output, partition=number), number, output))
            elif isinstance(output, SessionMark):  # late and refused records come from `push`
                self.pending.append((write_silence(WINDOWS, output, partition=number), number, output))

    # output

    async def _write(self) -> None:
        """Write all that is pending and wait for the broker's yes. Raises Transient; then what was not done is done with the next call."""
        if self.pending:
            await self._send()
        while self.told:
            number, output, at = self.told[0]
            await self._acknowledge(self.lanes[number], output, at)
            self.told.popleft()

    async def _send(self) -> None:
        written = await self.producer.send([message for message, _, _ in self.pending])
        done, self.pending = self.pending, []
        self._count_written(done)
        self.told.extend((number, output, at) for (_, number, output), at in zip(done, written, strict=True) if output)

    async def _acknowledge(self, lane: Lane, output: Window | SessionMark, at: Written) -> None:
        """Tell the aligner where its output stands; before it may be what a replaced worker wrote."""
        if at.offset > lane.end:
            await self._take_over(lane, before=at.offset)
        lane.aligner.written(output, at.offset)
        lane.end = max(lane.end, at.offset + 1)

    async def _take_over(self, lane: Lane, *, before: int | None = None) -> None:
        """What stands behind our last acknowledged record (and `before`): another worker's. What it lacks goes out with the next tick."""
        found, end = await self._standing(lane, before=before)
        log.warning(
            "records that we saw no acknowledgement of: taken over", topic=WINDOWS, first=lane.end, last=end - 1, windows=len(found)
        )
        lane.aligner.merge(found)
        lane.end = end

    async def _standing(self, lane: Lane, *, before: int | None = None) -> tuple[list[tuple[int, Window | SessionMark]], int]:
        """What stands in our partition of `windows` from the lane's end on (and `before`), and the end after it."""
        found, end = list[tuple[int, Window | SessionMark]](), lane.end
        async for record in lane.read(WINDOWS, lane.end):
            if before is not None and record.offset >= before:
                break
            end = record.offset + 1
            try:
                found.append((record.offset, read_window(record)))
            except BadRecord as exc:
                log.warning("not a window", topic=WINDOWS, partition=record.partition, offset=record.offset, error=exc.detail)
        return found, end

    # numbers

    def _count(self, new: Iterable[tuple[Lane, Record]]) -> None:
        records, size = Counter[str](), Counter[str]()
        for _, record in new:
            records[record.topic] += 1
            size[record.topic] += len(record.value or b"")
        for topic, count in records.items():
            self.metrics.read.labels(ALIGN, topic).inc(count)
            self.metrics.read_bytes.labels(ALIGN, topic).inc(size[topic])

    def _count_written(self, done: Iterable[Pending]) -> None:
        sizes, closed, revisions = defaultdict[str, list[int]](list), Counter[str](), 0
        for message, _, output in done:
            sizes[message.topic].append(len(message.value or b""))
            if isinstance(output, Window) and output.revision:
                revisions += 1
            elif isinstance(output, Window):
                closed[output.closed_by.value] += 1
        for topic, each in sizes.items():
            self.metrics.written.labels(ALIGN, topic).inc(len(each))
            self.metrics.written_bytes.labels(ALIGN, topic).inc(sum(each))
        for closed_by, count in closed.items():
            self.metrics.windows.labels(closed_by).inc(count)
        self.metrics.revisions.inc(revisions)

    def _observe(self) -> None:
        for modality, delays in self.delays.items():
            observe_all(self.metrics.arrival_delay.labels(modality.value), delays)
            delays.clear()

    def _gauge(self) -> None:
        self.clocks.gauge(self.gauged)
        self.metrics.reread.set(max((lane.reread for lane in self.lanes.values()), default=0) / SECOND)
        tallies = [lane.aligner.tally for lane in self.lanes.values()]
        self.metrics.open_windows.set(sum(tally.open_windows for tally in tallies))
        self.metrics.held_events.set(sum(tally.held_events for tally in tallies))
        delays = [lane.aligner.delays() for lane in self.lanes.values()]
        for modality in Modality:
            worst = max((found[modality] for found in delays if modality in found), default=0)
            self.metrics.watermark_delay.labels(modality.value).set(worst / SECOND)
        for lane in self.lanes.values():
            for name, family, totals in (
                ("duplicates", self.metrics.duplicates, lane.aligner.tally.duplicates),
                ("marks", self.metrics.marks, lane.aligner.tally.marks),
            ):
                for modality, total in totals.items():
                    family.labels(modality.value).inc(total - lane.counted[name, modality])
                    lane.counted[name, modality] = total


async def run(runtime: Runtime) -> None:
    """Align until `runtime.stop` is set."""
    config = runtime.config
    kafka = Kafka(config.kafka, password=runtime.secrets.get(config.kafka.password_env or ""))
    async with Producer(kafka) as producer:
        state = Aligning(config=config, producer=producer, metrics=runtime.metrics)
        await host(runtime, kafka, owner=ALIGN, topics=TOPICS, outputs=(WINDOWS,), stateful=state, producer=producer)
