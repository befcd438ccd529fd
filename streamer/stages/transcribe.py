"""Cuts a track's sound into speech segments. The same sound gives the same segments, wherever one starts to listen.

Laws
1. A *boundary* is a moment at which the voice detector starts afresh. Everything after a boundary depends on the sound
   after it alone, so a boundary and the offset of the chunk that holds it are a complete checkpoint.
2. Boundaries follow from the sound: a segment's end, a stretch of silence, a gap between chunks, the end of the track.
3. A progress mark never passes the start of a segment that may still come.
4. A chunk that is already behind the boundary, or before the checkpoint's offset, changes nothing.
5. No more than `longest` of speech is ever held.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.config import TranscribeSettings
from streamer.events import SECOND, Micros

Sound = NDArray[np.float32]

RATE = 16_000
STEP = 512  # samples in one decision of the voice detector: 32 ms
PAD = 6 * STEP  # sound kept before the first and after the last voiced step: 192 ms
QUIET = 64 * STEP  # silence after which the detector starts afresh: about 2 s
RELEASE = 0.15  # a segment ends below threshold - RELEASE
SHORTEST = 4 * STEP  # less voice than this is a click: 128 ms
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
    """A stretch of speech that is over."""

    start: Micros
    end: Micros
    sound: Sound


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A track's checkpoint: the boundary, the chunk that reaches past it, and how many of its samples lie before it."""

    offset: int
    boundary: Micros
    skip: int = 0


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
        self._chunks: list[tuple[int, int, int]]  # (offset, where its sound starts and ends in `_sound`)
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
        offset, first, _ = self._chunks[0]
        return Position(offset=offset, boundary=self._boundary, skip=max(0, -first))

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

    def push(self, sound: Sound, *, start: Micros, end: Micros, offset: int) -> Iterator[Segment]:
        """Take one chunk and give the segments that it completes."""
        if offset < self._next:
            return
        resume = self._resume if self._resume and self._resume.offset == offset and self._resume.skip else None
        if not resume and self._boundary is not None and end <= self._heard_until() + GAP:
            return
        self._resume, self._next = None, offset + 1
        if self._boundary is None:
            self._restart(start)
        elif not resume and start > self._heard_until() + GAP:
            yield from self._close()
            self._restart(start)
        skip = resume.skip if resume else _samples(max(0, self._heard_until() - start))
        held = len(self._sound)
        self._chunks.append((offset, held - skip, held - skip + len(sound)))
        self._sound = np.concatenate([self._sound, sound[skip:]])
        yield from self._listen()

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
            yield Segment(start=self._time(start), end=self._time(end), sound=self._sound[start:end].copy())

    def _forget(self, samples: int) -> None:
        """Move the boundary forward; what was judged after it will be judged again, afresh."""
        boundary = self._time(samples)
        sound = self._sound[samples:]
        chunks = [(offset, first - samples, last - samples) for offset, first, last in self._chunks if last > samples]
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


def _samples(duration: int) -> int:
    return duration * RATE // SECOND
