"""transcribe: audio in, transcripts out. Reads from a checkpoint at segment boundaries, so a restart gives the same segments.

Headers and times that are wrong are align's to put aside, sound that cannot be decoded is infer's; here both are only passed over.
A fault of our own, in a codec, the detector or the recognizer, costs the record at hand: it is buried, and the next one is heard.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec
import structlog

from streamer.config import Config
from streamer.engine import open_recognizer, open_vad
from streamer.errors import BadRecord, ConfigError, Reason
from streamer.events import FRESH, Clock, Event, Mark, Message, Micros, Modality, Pace, Record, Track, Transcript, Words
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.source import Batch, Position, ReadLog, Source
from streamer.metrics import Metrics
from streamer.runtime import Runtime, settle
from streamer.stages import headers as header
from streamer.stages import transcribe as stage
from streamer.stages.envelope import CONTENT_TYPES, read_head, write_mark, write_transcript
from streamer.stages.media import decode_sound
from streamer.stages.offsets import Offsets
from streamer.stages.wire import dead_letter, write_deadletter

log = structlog.get_logger()

STAGE = "transcribe"
AUDIO = Modality.AUDIO.value
AT_ONCE = 4
"""Chunks handed over together: a checkpoint, and the watchdog's 120 s, come between. Four of a minute's speech take a core about 20 s."""


@dataclass(slots=True)
class Lane:
    """One partition: its tracks, the next offset, and the last chunk of each track that holds sound."""

    listener: stage.Listener
    next: int = 0
    latest: dict[Track, Record] = field(default_factory=dict)


@dataclass(slots=True)
class Transcriber:
    """The state behind the source (`Stateful`). `pending` is what a failed write still owes."""

    config: Config
    producer: Producer
    metrics: Metrics
    recognizer: stage.Recognizer
    new_vad: Callable[[], stage.Vad]
    worker: ThreadPoolExecutor
    lanes: dict[int, Lane] = field(default_factory=dict)
    pending: list[Message] = field(default_factory=list)
    offsets: Offsets = field(init=False)

    def __post_init__(self) -> None:
        self.offsets = Offsets(self.config.sessions)

    async def restore(self, partition: int, saved: Mapping[str, bytes], read: ReadLog) -> Mapping[str, Position]:
        """Take the tracks' boundaries out of the checkpoint; nothing else is remembered."""
        del read
        lane = self.lanes[partition] = Lane(stage.Listener(self.config.transcribe, self.config.align, self.new_vad))
        if "" not in saved:
            return {}
        checkpoint = _checkpoint(saved[""])
        await asyncio.get_running_loop().run_in_executor(self.worker, lane.listener.restore, checkpoint)
        return {AUDIO: Position(offset=checkpoint.offset, clock=checkpoint.clock)}

    async def handle(self, batch: Batch) -> None:
        """Listen to every chunk, write what was said. Bears repetition: records already read change nothing."""
        await self._send()
        await asyncio.get_running_loop().run_in_executor(self.worker, self._listen, batch)
        await self._send()

    async def checkpoint(self, partition: int, positions: Mapping[str, int]) -> bytes:
        """Where each track's open sound begins."""
        return msgspec.json.encode(self.lanes[partition].listener.checkpoint(positions[AUDIO]))

    async def gap(self, topic: str, partition: int, wanted: int, found: int) -> None:
        """Sound that is gone cannot be transcribed; align reports the gap."""
        self.metrics.lost.labels(STAGE, topic).inc(found - wanted)
        log.warning("sound is gone before it was transcribed", topic=topic, partition=partition, first=wanted, last=found - 1)

    def drop(self) -> None:
        """Forget every partition."""
        self.lanes.clear()
        self.pending.clear()

    async def _send(self) -> None:
        if not self.pending:
            return
        await self.producer.send(self.pending)
        done, self.pending = self.pending, []
        for topic, count in Counter(message.topic for message in done).items():
            self.metrics.written.labels(STAGE, topic).inc(count)
            self.metrics.written_bytes.labels(STAGE, topic).inc(sum(len(m.value or b"") for m in done if m.topic == topic))

    # in the worker thread

    def _listen(self, batch: Batch) -> None:
        for record in batch.records:
            lane = self.lanes[record.partition]
            if record.offset >= lane.next:
                lane.next = record.offset + 1
                self._hear(lane, record)
        for (_, partition), clock in batch.clocks.items():
            self._tick(self.lanes[partition], clock, batch.now)

    def _hear(self, lane: Lane, record: Record) -> None:
        self.metrics.read.labels(STAGE, record.topic).inc()
        self.metrics.read_bytes.labels(STAGE, record.topic).inc(len(record.value or b""))
        lane.listener.arrive(record.arrival)
        try:
            head = read_head(record, self.config.kafka.partitions)
            if self.offsets:
                head = self.offsets.corrected(head)
            if not lane.listener.refuses(head):
                self._take(lane, head, record)
        except BadRecord:
            return
        except Exception as exc:
            self._bury(record, exc)

    def _take(self, lane: Lane, head: Event | Mark, record: Record) -> None:
        if isinstance(head, Event):
            sound = self._decode(record)
            try:
                self._say(lane, head.track, head.pace, lane.listener.push(head, sound), record)
            finally:
                self._keep(lane, head.track, record)
            if (until := lane.listener.progress(head.track)) is not None:
                self.pending.append(write_mark(_spoken(head.track), until, pace=head.pace))
        elif head.final:
            self._say(lane, head.track, head.pace, lane.listener.end(head))
            self._keep(lane, head.track)
            self.pending.append(write_mark(_spoken(head.track), head.until, final=True, pace=head.pace))

    def _decode(self, record: Record) -> stage.Sound:
        content_type = header.media_type(header.fields(record.headers), CONTENT_TYPES[Modality.AUDIO])
        try:
            return decode_sound(record.value or b"", content_type, Micros(self.config.infer.max_audio))
        except BadRecord:
            self.metrics.segments.labels("undecodable").inc()
            raise

    def _tick(self, lane: Lane, clock: Clock, now: Micros) -> None:
        """That a partition was read to its end may be `FRESH` old, and its broker's clock is not ours."""
        present = now - self.config.align.skew - FRESH
        time = Micros(max(clock.arrival, present)) if clock.caught_up else clock.arrival
        for track, pace, segment in lane.listener.tick(time):
            self._say(lane, track, pace, (segment,))
        for track in list(lane.latest):
            self._keep(lane, track)

    def _say(self, lane: Lane, track: Track, pace: Pace, segments: Iterable[stage.Segment], record: Record | None = None) -> None:
        """Write what was said. `record`: the one at hand. A segment that cannot be recognized is buried with its last chunk."""
        for segment in segments:
            try:
                self._write(track, pace, segment)
            except Exception as exc:
                self.metrics.segments.labels("failed").inc()
                self._bury(record if record and record.offset == segment.offset else lane.latest.get(track), exc)

    def _write(self, track: Track, pace: Pace, segment: stage.Segment) -> None:
        heard = self.recognizer.transcribe(segment.sound)
        outcome = stage.verdict(heard, self.config.transcribe)
        if outcome == "spoken":
            words = Words(text=heard.text, confidence=heard.confidence, language=heard.language)
            self.pending.append(
                write_transcript(
                    Transcript(session=track.session, source=track.source, start=segment.start, end=segment.end, words=words, pace=pace)
                )
            )
        self.metrics.segments.labels(outcome).inc()

    def _keep(self, lane: Lane, track: Track, record: Record | None = None) -> None:
        """The last chunk of a track is kept as long as its sound is held."""
        if not lane.listener.holding(track):
            lane.latest.pop(track, None)
        elif record:
            lane.latest[track] = record

    def _bury(self, record: Record | None, exc: Exception) -> None:
        log.error("a record was given up by our own fault", stage=STAGE, offset=record and record.offset, error=repr(exc))
        if record:
            self.metrics.dead.labels(STAGE, Reason.UNEXPECTED.value).inc()
            self.pending.append(write_deadletter(dead_letter(STAGE, record, exc)))


def _checkpoint(saved: bytes) -> stage.Checkpoint:
    try:
        return msgspec.json.decode(saved, type=stage.Checkpoint)
    except msgspec.MsgspecError as exc:
        raise ConfigError(f"{STAGE}'s record in `checkpoints` was written by another version: {exc}") from exc


def _spoken(track: Track) -> Track:
    return Track(session=track.session, modality=Modality.TRANSCRIPTS, source=track.source)


async def run(runtime: Runtime) -> None:
    """Transcribe until `runtime.stop` is set. Raises ConfigError where the weights are missing."""
    config = runtime.config
    kafka = Kafka(config.kafka, password=runtime.secrets.get(config.kafka.password_env or ""))
    with ThreadPoolExecutor(1, "speech") as worker:
        recognizer = await asyncio.get_running_loop().run_in_executor(worker, open_recognizer, config.transcribe, config.home)
        settle()
        async with Producer(kafka) as producer:
            state = Transcriber(
                config=config, producer=producer, metrics=runtime.metrics, recognizer=recognizer, new_vad=open_vad, worker=worker
            )
            source = Source(
                kafka,
                owner=STAGE,
                topics=(AUDIO,),
                stateful=state,
                producer=producer,
                metrics=runtime.metrics,
                ready=runtime.health.tell,
                at_once=AT_ONCE,
            )
            await source.run_until(runtime.stop)
