"""Cuts a track's sound into speech segments. The same sound gives the same segments, wherever one starts to listen.

Laws
1. A *boundary* is a moment at which the voice detector starts afresh. Everything after a boundary depends on the sound
   after it alone, so a boundary and the offset of the chunk that holds it are a complete checkpoint.
2. Boundaries follow from the sound: a segment's end, a stretch of silence, a gap between chunks, the end of the track.
3. A progress mark never passes the start of a segment that may still come.
4. A chunk that is already behind the boundary, or before the checkpoint's offset, changes nothing.
5. No more than `longest` of speech is ever held.
6. *Silence is a gap in arrival*: what is held is closed before a chunk that arrives more than the idle timeout after the
   track's last one (recorded: the time to forget). Arrival is the partition's clock, the running maximum of its timestamps.
   A tick closes it sooner, and only where no chunk can come any more that would not: so neither ticks nor batches show.
7. A track is forgotten `session_end` after its last chunk, by arrival: what comes then is another track, whether the old one
   was still in memory or not.
8. What align puts into `deadletter` or `late` for its time is not heard: one bad clock cannot deafen a track.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.config import AlignSettings, TranscribeSettings
from streamer.events import SECOND, Event, Mark, Micros, Modality, Pace, SessionId, Track
from streamer.stages.times import EARLIEST, LATEST

Sound = NDArray[np.float32]

RATE = 16_000
STEP = 512  # samples in one decision of the voice detector: 32 ms
PAD = 6 * STEP  # sound kept before the first and after the last voiced step: 192 ms
QUIET = 64 * STEP  # silence after which the detector starts afresh: about 2 s
RELEASE = 0.15  # a segment ends below threshold - RELEASE
SHORTEST = 4 * STEP  # less voice than this is a click: 128 ms
START = Micros(0)  # an arrival clock before anything was read
GAP = Micros(50_000)  # chunks further apart than this do not belong together


class Vad(Protocol):
    """A voice detector that remembers what it heard since `reset`."""

    def reset(self) -> None:
        """Forget everything."""

    def probability(self, step: Sound) -> float:
        """How sure it is that these 512 samples hold a voice, 0..1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What a recognizer makes of one segment."""

    text: str
    confidence: float
    language: str
    no_speech: float
    log_probability: float
    compression_ratio: float


class Recognizer(Protocol):
    """Speech to text. Blocking; the same sound gives the same words."""

    def transcribe(self, sound: Sound) -> Heard:
        """One segment of speech."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of speech that is over. `offset`: the last chunk that was heard when it was closed."""

    start: Micros
    end: Micros
    sound: Sound
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A track's checkpoint: the boundary, the chunk that reaches past it, and how many of its samples lie before it.

    `before`: the partition's arrival clock before that chunk.
    """

    offset: int
    boundary: Micros
    skip: int = 0
    before: Micros = START


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """One track in a checkpoint. `base`: the start of its first chunk; `last`: the arrival clock at its last one."""

    session: SessionId
    source: str
    pace: Pace
    base: Micros
    last: Micros
    at: Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One partition: where to read on, the arrival clock before that, and its tracks."""

    offset: int
    clock: Micros
    tracks: tuple[Saved, ...] = ()


class _Chunk(NamedTuple):
    """Where a chunk stands in the log, the arrival clock before it, and where its sound starts and ends among what is held."""

    offset: int
    before: Micros
    first: int
    last: int


def verdict(heard: Heard, settings: TranscribeSettings) -> str:
    """`spoken`, or why these words are not believed. Whisper invents text for silence, noise and music."""
    if not any(letter.isalnum() for letter in heard.text):
        return "empty"
    if heard.no_speech > settings.max_no_speech and heard.log_probability < settings.min_log_probability / 2:
        return "no_speech"
    if heard.log_probability < settings.min_log_probability:
        return "low_confidence"
    if heard.compression_ratio > settings.max_compression_ratio:
        return "repetitive"
    return "spoken"


class Segmenter:
    """One track. Push chunks in order; take the segments that they complete."""

    def __init__(self, settings: TranscribeSettings, vad: Vad, resume: Position | None = None) -> None:
        self._settings, self._vad, self._resume = settings, vad, resume
        self._next = resume.offset if resume else 0
        self._boundary: Micros | None
        self._sound: Sound  # everything since the boundary
        self._chunks: list[_Chunk]
        self._at: int  # samples since the boundary that the detector has judged
        self._first: int  # where the first voiced step starts ...
        self._last: int  # ... and the last one ends
        self._voiced: int  # voiced samples
        self._restart(resume.boundary if resume else None)

    @property
    def position(self) -> Position | None:
        """The checkpoint of this track as it stands; None before the first chunk."""
        if self._boundary is None:
            return None
        if not self._chunks:
            return self._resume or Position(offset=self._next, boundary=self._boundary)
        chunk = self._chunks[0]
        return Position(offset=chunk.offset, boundary=self._boundary, skip=max(0, -chunk.first), before=chunk.before)

    @property
    def next(self) -> int:
        """What stands before this offset was heard already."""
        return self._next

    @property
    def holding(self) -> bool:
        """There is sound since the boundary: a restart has to read it again."""
        return bool(self._chunks) or bool(self._resume and self._resume.skip)

    @property
    def progress(self) -> Micros | None:
        """No segment that is still to come starts before this."""
        if self._boundary is None:
            return None
        return self._time(max(0, (self._first if self._voiced else self._at) - PAD))

    def push(self, sound: Sound, *, start: Micros, end: Micros, offset: int, before: Micros) -> Iterator[Segment]:
        """Take one chunk and give the segments that it completes. A detector that raises costs what is held, no more."""
        if offset < self._next:
            return
        resume = self._resume if self._resume and self._resume.offset == offset and self._resume.skip else None
        self._next = offset + 1
        if not resume and self._boundary is not None and end <= self._heard_until() + min(GAP, (end - start) // 2):
            return
        self._resume = None
        if self._boundary is None:
            self._restart(start)
        elif not resume and start > self._heard_until() + GAP:
            yield from self._close()
            self._restart(start)
        skip = resume.skip if resume else _samples(max(0, self._heard_until() - start))
        held = len(self._sound)
        self._chunks.append(_Chunk(offset, before, held - skip, held - skip + len(sound)))
        self._sound = np.concatenate([self._sound, sound[skip:]])
        try:
            yield from self._listen()
        except Exception:
            self._restart(self._heard_until())
            raise

    def flush(self, *, offset: int) -> Iterator[Segment]:
        """The track ended with the record at `offset`: close the open segment."""
        if offset < self._next:
            return
        self._next = offset + 1
        yield from self.pause()

    def pause(self) -> Iterator[Segment]:
        """Nothing has come for long: close the open segment, as a gap would."""
        self._resume = None
        if self._boundary is not None:
            yield from self._close()
            self._restart(self._heard_until())

    def _listen(self) -> Iterator[Segment]:
        """Judge all whole steps. Cutting at a boundary starts the detector afresh on what is left."""
        while len(self._sound) - self._at >= STEP:
            voice = self._vad.probability(self._sound[self._at : self._at + STEP])
            if voice >= self._settings.vad_threshold - (RELEASE if self._voiced else 0.0):
                self._first = self._first if self._voiced else self._at
                self._last, self._voiced = self._at + STEP, self._voiced + STEP
            self._at += STEP
            yield from self._cut()

    def _cut(self) -> Iterator[Segment]:
        """Set a boundary where the sound up to here asks for one."""
        if not self._voiced:
            if self._at >= QUIET:
                self._forget(self._at - PAD)
        elif self._at - self._last >= _samples(self._settings.pause):
            end = min(self._last + PAD, self._at)
            yield from self._segment(end)
            self._forget(end)
        elif self._at - max(0, self._first - PAD) >= _samples(self._settings.longest):
            yield from self._segment(self._at)
            self._forget(self._at)

    def _close(self) -> Iterator[Segment]:
        if self._voiced:
            yield from self._segment(min(self._last + PAD, len(self._sound)))

    def _segment(self, end: int) -> Iterator[Segment]:
        """What was voiced, with its padding; nothing if it is too short to be a word."""
        start = max(0, self._first - PAD)
        if self._voiced >= SHORTEST:
            sound, offset = self._sound[start:end].copy(), self._chunks[-1].offset
            yield Segment(start=self._time(start), end=self._time(end), sound=sound, offset=offset)

    def _forget(self, samples: int) -> None:
        """Move the boundary forward; what was judged after it will be judged again, afresh."""
        boundary = self._time(samples)
        sound = self._sound[samples:]
        chunks = [_Chunk(offset, before, first - samples, last - samples) for offset, before, first, last in self._chunks if last > samples]
        self._restart(boundary)
        self._sound, self._chunks = sound, chunks

    def _restart(self, boundary: Micros | None) -> None:
        self._boundary = boundary
        self._sound, self._chunks = np.zeros(0, np.float32), []
        self._at = self._first = self._last = self._voiced = 0
        self._vad.reset()

    def _heard_until(self) -> Micros:
        return self._time(len(self._sound))

    def _time(self, samples: int) -> Micros:
        assert self._boundary is not None
        return Micros(self._boundary + samples * SECOND // RATE)


@dataclass(slots=True)
class _Ear:
    """One track."""

    segmenter: Segmenter
    pace: Pace
    base: Micros
    last: Micros


class Listener:
    """All tracks of one partition. For every record first `arrive`; then, unless it is refused, `push` or `end`."""

    def __init__(self, settings: TranscribeSettings, align: AlignSettings, new_vad: Callable[[], Vad]) -> None:
        self._settings, self._align, self._new_vad = settings, align, new_vad
        self._ears: dict[Track, _Ear] = {}
        self._before = self._clock = START

    def __len__(self) -> int:
        return len(self._ears)

    def arrive(self, arrival: Micros) -> None:
        """A record came, whatever it is."""
        self._before, self._clock = self._clock, max(self._clock, arrival)

    def refuses(self, item: Event | Mark) -> bool:
        """Law 8. Also what disagrees with its track's pace."""
        ear = self._ears.get(item.track)
        if ear is None or self._clock - ear.last > self._align.session_end:
            return refused(item, self._clock, None, self._align)
        return item.pace is not ear.pace or refused(item, self._clock, ear.base, self._align)

    def push(self, event: Event, sound: Sound) -> Iterator[Segment]:
        """One chunk and what it says."""
        ear, offset = self._ears.get(event.track), event.origin.offset
        if ear and offset < ear.segmenter.next:
            return
        if ear:
            yield from self._rest(ear, self._clock)
        if ear is None or self._clock - ear.last > self._align.session_end:
            ear = self._ears[event.track] = _Ear(self._segmenter(), event.pace, event.start, self._clock)
        ear.last = self._clock
        yield from ear.segmenter.push(sound, start=event.start, end=event.end, offset=offset, before=self._before)

    def end(self, mark: Mark) -> Iterator[Segment]:
        """The track ended, for now."""
        if ear := self._ears.get(mark.track):
            yield from ear.segmenter.flush(offset=mark.origin.offset)

    def tick(self, time: Micros) -> Iterator[tuple[Track, Pace, Segment]]:
        """Close what fell silent. `time`: whatever is still to be read arrives later, by its partition's clock."""
        for track, ear in self._ears.items():
            for segment in self._rest(ear, time):
                yield track, ear.pace, segment

    def holding(self, track: Track) -> bool:
        """Some of its sound is not in a segment yet."""
        return track in self._ears and self._ears[track].segmenter.holding

    def progress(self, track: Track) -> Micros | None:
        """No segment of this track that is still to come starts before this."""
        return self._ears[track].segmenter.progress if track in self._ears else None

    def checkpoint(self, position: int) -> Checkpoint:
        """All records before `position` were given. Drops tracks that law 7 forgets, once nothing of them is read again."""
        places = {track: place for track, ear in self._ears.items() if (place := ear.segmenter.position)}
        held = [(place.offset, place.before) for track, place in places.items() if self._ears[track].segmenter.holding]
        low, clock = min([(position, self._clock), *held])
        for track, ear in list(self._ears.items()):
            over = self._clock - ear.last > self._align.session_end and not ear.segmenter.holding
            if over and ear.segmenter.next <= low:
                del self._ears[track]
        tracks = (_saved(track, ear, places[track]) for track, ear in self._ears.items())
        return Checkpoint(offset=low, clock=clock, tracks=tuple(tracks))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from there: the next record is the one at the checkpoint's offset."""
        self._clock = checkpoint.clock
        for one in checkpoint.tracks:
            track = Track(session=one.session, modality=Modality.AUDIO, source=one.source)
            self._ears[track] = _Ear(self._segmenter(one.at), one.pace, one.base, one.last)

    def _rest(self, ear: _Ear, time: Micros) -> Iterator[Segment]:
        """Law 6."""
        forget = self._align.session_end
        limit = min(self._align.idle, forget) if ear.pace is Pace.LIVE else forget
        if ear.segmenter.holding and time - ear.last > limit:
            yield from ear.segmenter.pause()

    def _segmenter(self, resume: Position | None = None) -> Segmenter:
        return Segmenter(self._settings, self._new_vad(), resume)


def refused(item: Event | Mark, clock: Micros, base: Micros | None, settings: AlignSettings) -> bool:
    """Whether align refuses this record for its time. `clock`: its partition's, it included; `base`: its track's first start."""
    start, end = (item.start, item.end) if isinstance(item, Event) else (item.until, item.until)
    if end > LATEST - settings.length or end - start > settings.longest_event:
        return True
    if item.pace is Pace.LIVE:
        future, late = end - clock > settings.skew, clock - start > settings.horizon
    else:
        first = start if base is None else base
        future = end - first > settings.recorded_span or start < EARLIEST + settings.length
        late = first - start > settings.recorded_span
    return future or (late and isinstance(item, Event))


def _saved(track: Track, ear: _Ear, at: Position) -> Saved:
    return Saved(session=track.session, source=track.source, pace=ear.pace, base=ear.base, last=ear.last, at=at)


def _samples(duration: int) -> int:
    return duration * RATE // SECOND
