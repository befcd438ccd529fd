"""What happens in a scene, and how it is placed: each thing where there is room for it.

Laws:
1. What sounds, is shown or is said never overlaps another of its own kind, and ends within the scene. What finds no room is left out.
2. Pictures change on the grid of the frames, so that a window that a person is counted in holds a frame of that person.
3. An impulse that is short counts with its loudest half second, everything else with all of what sounds.
4. The loudness of what is harmless is drawn as that of events: it tells nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from models.evaluation.library import IMPULSES, RESEMBLES, SPOKEN, Item, Library, Sentence, Span
from models.recordings import Modality

FRAME_S = 0.5
LONGEST_S = 4.0
"""Of a clip that sounds."""
SHORT_S = 2.0
"""An impulse that sounds no longer than this is a short one."""
GAP_S = 0.3
SNR_DB, VOICE_DB = (3.0, 24.0), (6.0, 18.0)
HARMLESS = tuple(name for name in RESEMBLES if name != "speech")
_TRIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """A clip that sounds or is shown from `start` for `seconds`, from its own second `skip` on.

    `counts`: the stretch, in seconds of the scene, that truth goes by. `snr_db`: RMS of that stretch over that of the scene's background.
    """

    item: Item
    start: float
    skip: float
    seconds: float
    counts: Span
    snr_db: float = 0.0

    @property
    def end(self) -> float:
        """When it is over."""
        return self.start + self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A transcript. `confidence` in 0..1, as a recognizer gives it."""

    sentence: Sentence
    start: float
    end: float
    confidence: float


@dataclass(slots=True, kw_only=True)
class Place:
    """A scene while it is being made."""

    rng: np.random.Generator
    library: Library
    seconds: float
    happenings: list[Happening] = field(default_factory=list)
    words: list[Words] = field(default_factory=list)
    lead: str = ""

    def sound(self, *labels: str, near: Span | None = None, snr_db: Span = SNR_DB, times: int = 1) -> Span | None:
        """A clip of one of the labels, wherever or while `near` lasts, up to so many times. Where the first counts; None without room."""
        item = self.library.choose(self.rng, *labels)
        level = float(self.rng.uniform(*snr_db))
        spans = [self._once(item, near, level) for _ in range(times)]
        found = next((span for span in spans if span), None)
        self.lead = self.lead or (item.recording if found else "")
        return found

    def _once(self, item: Item, near: Span | None, snr_db: float) -> Span | None:
        pieces = self._walk(item) if item.label == "footsteps" else [self._piece(item)]
        taken = [(one.start, one.end) for one in self.happenings if one.item.modality is Modality.AUDIO]
        start = self._room(taken, pieces[-1].end, near, step=0.01)
        if start is None:
            return None
        self.happenings.extend(_moved(one, start, snr_db=snr_db) for one in pieces)
        return (start + pieces[0].counts[0], start + pieces[-1].counts[1])

    def _piece(self, item: Item) -> Happening:
        """What of the clip sounds, as if it started at 0."""
        begin, end = item.parts[0]
        seconds = min(end - begin, LONGEST_S)
        latest = max(begin, end - seconds)
        skip = (
            float(np.clip(item.loud[0] - seconds / 4, begin, latest)) if item.label in IMPULSES else float(self.rng.uniform(begin, latest))
        )
        short = item.label in IMPULSES and end - begin <= SHORT_S
        counts = (item.loud[0] - skip, item.loud[1] - skip) if short else (0.0, seconds)
        return Happening(item=item, start=0.0, skip=skip, seconds=seconds, counts=counts)

    def _walk(self, item: Item) -> list[Happening]:
        """Somebody walks: the recording itself where that is long, else four to eight of its steps, one after the other."""
        steps = [one for one in self.library.clips("footsteps") if one.recording == item.recording]
        if max(end - begin for one in steps for begin, end in one.parts) > 1.5:
            return [self._piece(item)]
        walk: list[Happening] = []
        pace = float(self.rng.uniform(0.42, 0.62))
        for _ in range(int(self.rng.integers(4, 9))):
            step = self._piece(steps[int(self.rng.integers(len(steps)))])
            walk.append(_moved(step, max(walk[-1].end, walk[-1].start + pace + self.rng.normal(0, 0.02)) if walk else 0.0))
        return walk

    def show(self, label: str, *, near: Span | None = None) -> Span | None:
        """A picture or a stretch of video instead of the background."""
        item = self.library.choose(self.rng, label, modality=Modality.FRAMES)
        begin, end = item.parts[int(self.rng.integers(len(item.parts)))]
        seconds = float(self.rng.integers(4, 13)) * FRAME_S
        skip = begin + FRAME_S * int(self.rng.integers(max(1, int((end - begin - seconds) / FRAME_S) + 1)))
        taken = [(one.start, one.end) for one in self.happenings if one.item.modality is Modality.FRAMES]
        start = self._room(taken, seconds, near, step=FRAME_S)
        if start is None:
            return None
        span = (start, start + seconds)
        self.happenings.append(Happening(item=item, start=start, skip=skip, seconds=seconds, counts=span))
        self.lead = self.lead or item.recording
        return span

    def say(self, label: str, *, alarming: bool = False) -> Span | None:
        """A sentence; most often a voice sounds with it, which says something else."""
        sentence = self.library.say(self.rng, label, alarming=alarming)
        seconds = 0.4 + 0.3 * len(sentence.text.split())
        start = self._room([(one.start, one.end) for one in self.words], seconds, None, step=0.01)
        if start is None:
            return None
        span = (start, start + seconds)
        self.words.append(Words(sentence=sentence, start=span[0], end=span[1], confidence=float(self.rng.uniform(0.55, 0.98))))
        self.lead = self.lead or sentence.template
        voices = [name for name in ("speech", label) if self.library.clips(name)]
        if voices and self.rng.random() < 0.75:
            self.sound(voices[-1] if label in SPOKEN and self.rng.random() < 0.5 else voices[0], near=span, snr_db=VOICE_DB)
        return span

    def distract(self) -> None:
        """Something that must raise no alert: a sound, words, or a picture of something else."""
        kind = self.rng.random()
        if kind < 0.55:
            self.sound(*(name for name in HARMLESS if self.library.clips(name)))
        elif kind < 0.85:
            self.say("neutral", alarming=kind < 0.75)
        else:
            self.show("photo")

    def _room(self, taken: Sequence[Span], seconds: float, near: Span | None, *, step: float) -> float | None:
        """A start, on the grid of `step`, of a stretch that is free; with `near`, one that touches it."""
        low, high = (0.0, self.seconds - seconds) if near is None else (near[0] - seconds + FRAME_S, near[1] - FRAME_S)
        low, high = max(low, 0.0), min(max(high, low), self.seconds - seconds)
        for _ in range(_TRIES if low <= high else 0):
            start = round(round(float(self.rng.uniform(low, high)) / step) * step, 3)
            clear = all(start >= end + GAP_S or start + seconds + GAP_S <= begin for begin, end in taken)
            if clear and 0 <= start <= self.seconds - seconds:
                return start
        return None


def _moved(one: Happening, by: float, *, snr_db: float = 0.0) -> Happening:
    counts = (one.counts[0] + by, one.counts[1] + by)
    return Happening(item=one.item, start=one.start + by, skip=one.skip, seconds=one.seconds, counts=counts, snr_db=snr_db)
