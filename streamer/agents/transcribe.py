"""transcribe: audio in, transcripts out. Reads from a checkpoint at segment boundaries, so a restart gives the same segments.

Headers that are wrong are align's to dead-letter, sound that cannot be decoded is infer's; here both are only passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec
import structlog

from streamer.config import Config
from streamer.engine import open_recognizer, open_vad
from streamer.errors import BadRecord
from streamer.events import Clock, Event, Mark, Message, Micros, Modality, Pace, Record, SessionId, Track, Transcript, Words
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.source import Batch, Position, ReadLog, Source
from streamer.metrics import Metrics
from streamer.runtime import Runtime
from streamer.stages import transcribe as stage
from streamer.stages.envelope import read_head, write_mark, write_transcript
from streamer.stages.media import decode_sound
from streamer.topology import HOUR

log = structlog.get_logger()

STAGE = "transcribe"
AUDIO = Modality.AUDIO.value


class Saved(msgspec.Struct, frozen=True):
    """One track in the checkpoint. Field names are short because there may be many."""

    session: str
    source: str
    offset: int
    boundary: int
    skip: int
    recorded: bool
    ended: bool


class Checkpoint(msgspec.Struct, frozen=True):
    """One partition: where to read on, the arrival clock before that, and each track's boundary."""

    offset: int
    clock: int
    tracks: list[Saved]


@dataclass(slots=True)
class Listening:
    """One track: its segmenter and what else is known of it."""

    partition: int
    segmenter: stage.Segmenter
    pace: Pace
    last: Micros
    ended: bool = False


@dataclass(slots=True)
class Transcriber:
    """The state behind the source (`Stateful`). `pending` is what a failed write still owes."""

    config: Config
    producer: Producer
    metrics: Metrics
    recognizer: stage.Recognizer
    new_vad: Callable[[], stage.Vad]
    worker: ThreadPoolExecutor
    tracks: dict[Track, Listening] = field(default_factory=dict)
    clocks: dict[int, Micros] = field(default_factory=dict)
    pending: list[Message] = field(default_factory=list)

    async def restore(self, partition: int, saved: Mapping[str, bytes], read: ReadLog) -> Mapping[str, Position]:
        """Take the tracks' boundaries out of the checkpoint; nothing else is remembered."""
        del read
        if "" not in saved:
            return {}
        checkpoint = msgspec.json.decode(saved[""], type=Checkpoint)
        for one in checkpoint.tracks:
            track = Track(session=SessionId(one.session), modality=Modality.AUDIO, source=one.source)
            resume = stage.Position(offset=one.offset, boundary=Micros(one.boundary), skip=one.skip)
            pace = Pace.RECORDED if one.recorded else Pace.LIVE
            self.tracks[track] = self._listening(partition, pace, Micros(checkpoint.clock), resume, ended=one.ended)
        return {AUDIO: Position(offset=checkpoint.offset, clock=Micros(checkpoint.clock))}

    async def handle(self, batch: Batch) -> None:
        """Listen to every chunk, write what was said. Bears repetition: chunks already heard change nothing."""
        await self._send()
        loop = asyncio.get_running_loop()
        for record in batch.records:
            self.pending += await loop.run_in_executor(self.worker, self._hear, record)
        for (_, partition), clock in batch.clocks.items():
            self.clocks[partition] = clock.arrival
            self.pending += await loop.run_in_executor(self.worker, self._idle, partition, clock, batch.now)
        await self._send()

    async def checkpoint(self, partition: int, positions: Mapping[str, int]) -> bytes:
        """Where each track's open sound begins. Tracks that are over or long silent are left out once nothing of them is re-read."""
        position, clock = positions[AUDIO], self.clocks.get(partition, Micros(0))
        own = {key: track for key, track in self.tracks.items() if track.partition == partition}
        starts = {key: p for key, track in own.items() if (p := track.segmenter.position)}
        low = min([position, *(p.offset for key, p in starts.items() if own[key].segmenter.holding)])
        kept: list[Saved] = []
        for key, p in starts.items():
            track = own[key]
            if p.offset <= low and not track.segmenter.holding and (track.ended or track.last < clock - HOUR):
                del self.tracks[key]
            else:
                recorded = track.pace is Pace.RECORDED
                kept.append(Saved(key.session, key.source, p.offset, p.boundary, p.skip, recorded, track.ended))
        return msgspec.json.encode(Checkpoint(offset=low, clock=clock, tracks=kept))

    async def gap(self, topic: str, partition: int, wanted: int, found: int) -> None:
        """Sound that is gone cannot be transcribed; align reports the gap."""
        log.warning("sound is gone before it was transcribed", topic=topic, partition=partition, first=wanted, last=found - 1)

    def drop(self) -> None:
        """Forget every track."""
        self.tracks.clear()
        self.clocks.clear()
        self.pending.clear()

    async def _send(self) -> None:
        if self.pending:
            await self.producer.send(self.pending)
            topic = Modality.TRANSCRIPTS.value
            self.metrics.written.labels(STAGE, topic).inc(len(self.pending))
            self.metrics.written_bytes.labels(STAGE, topic).inc(sum(len(m.value or b"") for m in self.pending))
            self.pending.clear()

    def _hear(self, record: Record) -> list[Message]:
        """One record, in the worker thread."""
        self.metrics.read.labels(STAGE, record.topic).inc()
        self.metrics.read_bytes.labels(STAGE, record.topic).inc(len(record.value or b""))
        try:
            head = read_head(record, self.config.kafka.partitions)
        except BadRecord:
            return []
        track = self.tracks.get(head.track)
        if track is None:
            track = self.tracks[head.track] = self._listening(record.partition, head.pace, head.arrival)
        track.pace, track.last = head.pace, max(track.last, head.arrival)
        if isinstance(head, Mark):
            return self._mark(track, head)
        return self._chunk(track, head, record)

    def _chunk(self, track: Listening, head: Event, record: Record) -> list[Message]:
        track.ended = False
        content_type = (dict(record.headers)["content-type"] or b"").decode()
        try:
            sound = decode_sound(record.value or b"", content_type, Micros(self.config.infer.max_audio))
        except BadRecord:
            self.metrics.segments.labels("undecodable").inc()
            return []
        segments = track.segmenter.push(sound, start=head.start, end=head.end, offset=head.origin.offset)
        return [*self._words(head.track, track.pace, segments), *self._progress(head.track, track)]

    def _mark(self, track: Listening, mark: Mark) -> list[Message]:
        if not mark.final:
            return []
        said = self._words(mark.track, mark.pace, track.segmenter.flush(offset=mark.origin.offset))
        track.ended = True
        return [*said, write_mark(_spoken(mark.track), mark.until, final=True, pace=mark.pace)]

    def _idle(self, partition: int, clock: Clock, now: Micros) -> list[Message]:
        """A microphone that fell silent in mid-sentence: what it heard is written without waiting for its return."""
        time = now if clock.caught_up else clock.arrival
        messages: list[Message] = []
        for key, track in self.tracks.items():
            silent = track.partition == partition and track.pace is Pace.LIVE and time - track.last > self.config.align.idle
            if silent and track.segmenter.holding:
                messages += self._words(key, track.pace, track.segmenter.pause())
        return messages

    def _words(self, track: Track, pace: Pace, segments: Iterable[stage.Segment]) -> list[Message]:
        messages: list[Message] = []
        for segment in segments:
            heard = self.recognizer.transcribe(segment.sound)
            outcome = stage.verdict(heard, self.config.transcribe)
            self.metrics.segments.labels(outcome).inc()
            if outcome == "spoken":
                words = Words(text=heard.text, confidence=heard.confidence, language=heard.language)
                spoken = Transcript(
                    session=track.session, source=track.source, start=segment.start, end=segment.end, words=words, pace=pace
                )
                messages.append(write_transcript(spoken))
        return messages

    def _progress(self, key: Track, track: Listening) -> list[Message]:
        until = track.segmenter.progress
        return [] if until is None else [write_mark(_spoken(key), until, final=False, pace=track.pace)]

    def _listening(
        self, partition: int, pace: Pace, last: Micros, resume: stage.Position | None = None, *, ended: bool = False
    ) -> Listening:
        segmenter = stage.Segmenter(self.config.transcribe, self.new_vad(), resume)
        return Listening(partition=partition, segmenter=segmenter, pace=pace, last=last, ended=ended)


def _spoken(track: Track) -> Track:
    return Track(session=track.session, modality=Modality.TRANSCRIPTS, source=track.source)


async def run(runtime: Runtime) -> None:
    """Transcribe until `runtime.stop` is set. Raises ConfigError where the weights are missing."""
    config = runtime.config
    kafka = Kafka(config.kafka, password=runtime.secrets.get(config.kafka.password_env or ""))
    with ThreadPoolExecutor(1, "speech") as worker:
        recognizer = await asyncio.get_running_loop().run_in_executor(worker, open_recognizer, config.transcribe, config.home)
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
            )
            await source.run_until(runtime.stop)
