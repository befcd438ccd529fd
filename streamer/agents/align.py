"""align: frames, audio and transcripts in, windows out, in a Faust agent fed by the source. One aligner per partition number.

Laws:
1. Every record read is in a window, in `late`, in `deadletter`, or a counted duplicate or mark.
2. A checkpoint's low-water is the first record that is not yet acknowledged in every window it overlaps; restoring reads
   `windows` from the oldest one that is still needed, so what is read again and stands there is a duplicate.
3. What could not be written stays pending and goes first: handing over the same batch again repeats nothing.
4. A record in our output partition that we did not write is taken over, and what it lacks goes out as a revision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import structlog
from prometheus_client import Histogram

from streamer.agents.host import host
from streamer.config import Config
from streamer.errors import BadRecord, Reason
from streamer.events import SECOND, Clock, Event, Late, Message, Micros, Modality, Origin, Record, SessionId, SessionMark, Window
from streamer.kafka.checkpoints import Checkpoint, Place, decode, encode
from streamer.kafka.client import Kafka, Producer, Written
from streamer.kafka.stateful import START, Batch, Position, ReadLog
from streamer.metrics import Metrics
from streamer.runtime import Runtime
from streamer.stages.align import Aligner, Output, Rejected
from streamer.stages.envelope import read_head
from streamer.stages.wire import dead_letter, read_window, write_deadletter, write_late, write_silence, write_window
from streamer.topology import STAGE

log = structlog.get_logger()

ALIGN, WINDOWS = "align", "windows"
TOPICS = STAGE[ALIGN].reads


@dataclass(slots=True)
class Lane:
    """One partition number: its aligner, its inputs' arrival clocks and next offsets, and the end of its part of `windows`."""

    aligner: Aligner
    read: ReadLog
    clocks: dict[str, Micros]
    end: int
    next: dict[str, int] = field(default_factory=dict)
    counted: Counter[tuple[str, Modality]] = field(default_factory=Counter)


@dataclass(slots=True)
class Aligning:
    """The state behind the source (`Stateful`). `pending`: written next, with the partition and the output each one tells."""

    config: Config
    producer: Producer
    metrics: Metrics
    lanes: dict[int, Lane] = field(default_factory=dict)
    pending: list[tuple[Message, int, Window | SessionMark | None]] = field(default_factory=list)
    gauged: Micros = START
    delays: dict[Modality, Histogram] = field(init=False)

    def __post_init__(self) -> None:
        self.delays = {modality: self.metrics.arrival_delay.labels(modality.value) for modality in Modality}

    async def restore(self, partition: int, saved: Mapping[str, bytes], read: ReadLog) -> Mapping[str, Position]:
        """Read back the windows that are still needed, and where the inputs go on."""
        checkpoint = decode(saved[""]) if "" in saved else Checkpoint(inputs={})
        expected = {SessionId(session.id): session.expected() for session in self.config.sessions}
        start = checkpoint.outputs.get(WINDOWS, 0)
        clocks = {topic: place.clock for topic, place in checkpoint.inputs.items()}
        lane = Lane(aligner=Aligner(self.config.align, expected), read=read, clocks=clocks, end=start)
        standing = await self._standing(lane, start)
        lane.aligner.restore(standing, {Modality(topic): clock for topic, clock in clocks.items()})
        self.lanes[partition] = lane
        return {topic: Position(offset=place.offset, clock=place.clock) for topic, place in checkpoint.inputs.items()}

    async def handle(self, batch: Batch) -> None:
        """Align every record, let time pass, write what comes of it."""
        new = list(self._new(batch))
        self._count(new)
        for lane, record in new:
            self._align(lane, record)
        for number, lane in self.lanes.items():
            clocks = {Modality(topic): clock for (topic, where), clock in batch.clocks.items() if where == number}
            self._tick(number, lane, clocks, batch.now)
        await self._write()
        if batch.now - self.gauged >= SECOND:  # a look at every session
            self.gauged = batch.now
            self._gauge()

    async def checkpoint(self, partition: int, positions: Mapping[str, int]) -> bytes:
        """The low-water of each input, and the oldest window that a restart needs."""
        lane = self.lanes[partition]
        lows = {topic: lane.aligner.low_water(Modality(topic), position) for topic, position in positions.items()}
        oldest = lane.aligner.oldest_out()
        return encode(
            Checkpoint(
                inputs={topic: Place(offset=low.offset, clock=low.clock) for topic, low in lows.items()},
                outputs={WINDOWS: lane.end if oldest is None else oldest},
            )
        )

    async def gap(self, topic: str, partition: int, wanted: int, found: int) -> None:
        """Say in `late` that a stretch of log is gone."""
        log.warning("records are gone before they were aligned", topic=topic, partition=partition, first=wanted, last=found - 1)
        clock = self.lanes[partition].clocks.get(topic, Micros(0))
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

    def _new(self, batch: Batch) -> Iterator[tuple[Lane, Record]]:
        """What this batch brings that no earlier try has dealt with."""
        for record in batch.records:
            lane = self.lanes[record.partition]
            if record.offset >= lane.next.get(record.topic, 0):
                lane.next[record.topic] = record.offset + 1
                yield lane, record

    # one record

    def _align(self, lane: Lane, record: Record) -> None:
        clock = lane.clocks[record.topic] = max(record.arrival, lane.clocks.get(record.topic, record.arrival))
        try:
            item = read_head(record, self.config.kafka.partitions)
        except Exception as exc:  # a codec's own fault must not stop the stage either
            self._bury(record, exc)
            return
        if isinstance(item, Event):
            self.delays[item.track.modality].observe(max(0, item.arrival - item.end) / SECOND)
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
                message = write_window(output)
                first = output.revision == 0
                (self.metrics.windows.labels(output.closed_by.value) if first else self.metrics.revisions).inc()
            elif isinstance(output, SessionMark):
                message = write_silence(WINDOWS, output)
            else:
                continue  # late and refused records come from `push`
            self.pending.append((replace(message, partition=number), number, output))

    # output

    async def _write(self) -> None:
        """Write all that is pending and wait for the broker's yes. Raises Transient; then all of it is still pending."""
        if not self.pending:
            return
        written = await self.producer.send([message for message, _, _ in self.pending])
        done, self.pending = self.pending, []
        for message, _, _ in done:
            self.metrics.written.labels(ALIGN, message.topic).inc()
            self.metrics.written_bytes.labels(ALIGN, message.topic).inc(len(message.value or b""))
        told = [(number, output, at) for (_, number, output), at in zip(done, written, strict=True) if output]
        for number, output, at in told:
            await self._acknowledge(self.lanes[number], output, at)

    async def _acknowledge(self, lane: Lane, output: Window | SessionMark, at: Written) -> None:
        """Tell the aligner where its output stands; before it may be what a replaced worker wrote."""
        if at.offset > lane.end:
            lane.aligner.merge(await self._standing(lane, lane.end, before=at.offset))
        lane.aligner.written(output, at.offset)
        lane.end = max(lane.end, at.offset + 1)

    async def _standing(self, lane: Lane, start: int, *, before: int | None = None) -> list[tuple[int, Window | SessionMark]]:
        """What stands in our partition of `windows` from `start` on; moves the lane's end."""
        found: list[tuple[int, Window | SessionMark]] = []
        async for record in lane.read(WINDOWS, start):
            if before is not None and record.offset >= before:
                break
            lane.end = max(lane.end, record.offset + 1)
            try:
                found.append((record.offset, read_window(record)))
            except BadRecord as exc:
                log.warning("not a window", topic=WINDOWS, partition=record.partition, offset=record.offset, error=exc.detail)
        return found

    # numbers

    def _count(self, new: Iterable[tuple[Lane, Record]]) -> None:
        records, size = Counter[str](), Counter[str]()
        for _, record in new:
            records[record.topic] += 1
            size[record.topic] += len(record.value or b"")
        for topic, count in records.items():
            self.metrics.read.labels(ALIGN, topic).inc(count)
            self.metrics.read_bytes.labels(ALIGN, topic).inc(size[topic])

    def _gauge(self) -> None:
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
        await host(runtime, kafka, owner=ALIGN, topics=TOPICS, stateful=state, producer=producer)
