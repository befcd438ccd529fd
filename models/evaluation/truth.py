"""What is true in each window of a scene, by its script alone.

Laws:
1. An event counts in a window that holds 0.3 s of it, or half of it where that is less.
2. Where glass counts, exactly one of `intrusion` and `breakage` does; they do so nowhere else.
3. A window conflicts where something harmless resembles a class that is not true in it: a sound, alarming words in a harmless sense, or
   any harmless sound while a person is seen.
4. Steps and shots that follow each other within 0.7 s are one event.

Shape key: B windows, C classes in the order of LABELS.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.classes import CLASSES, LABELS
from models.evaluation.library import RESEMBLES, SPOKEN, Span
from models.evaluation.metrics import Bools, Floats
from models.evaluation.scripts import NEAR_S, Script
from models.recordings import Modality

WINDOW_S, HOP_S = 2.0, 1.0
ENOUGH_S = 0.3
JOIN_S = 0.7
ALARMING = "alarming"
"""The label of neutral words that sound like a threat or a call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What happens from `start` to `end`, in seconds of its scene. `modality` as in `fusion.windows.MODALITIES`."""

    label: str
    modality: str
    start: float
    end: float
    recordings: frozenset[str]

    def counts(self, window: Span) -> bool:
        """Whether the window holds enough of it."""
        held = min(self.end, window[1]) - max(self.start, window[0])
        return held + 1e-9 >= min(ENOUGH_S, (self.end - self.start) / 2)

    def near(self, other: Event) -> bool:
        """Whether no more than two seconds lie between them."""
        return self.start <= other.end + NEAR_S and other.start <= self.end + NEAR_S


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Truth:
    """The windows of scenes. `script_B`: which scene; `start_B`: seconds, of the stream where it is one.

    `single_B`: there are events, all in one modality. `recordings` are those of a window's events, harmless ones and background.
    `group_B` numbers `groups`, the recordings or templates that scenes are about: what `intervals` draws from.
    """

    truth_BC: Bools
    script_B: NDArray[np.int64]
    start_B: Floats
    conflict_B: Bools
    single_B: Bools
    group_B: NDArray[np.int64]
    groups: tuple[str, ...]
    recordings: tuple[frozenset[str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    start: float
    labels: frozenset[str]
    conflict: bool
    single: bool
    recordings: frozenset[str]


def events(script: Script) -> list[Event]:
    """By start, harmless ones too; what follows each other closely as one."""
    single = [*_heard_and_seen(script), *_said(script)]
    joined: list[Event] = []
    for event in sorted(single, key=lambda one: (one.modality, one.label, one.start)):
        last = joined[-1] if joined else None
        if last and (last.modality, last.label) == (event.modality, event.label) and event.start - last.end <= JOIN_S:
            joined[-1] = _join(last, event)
        else:
            joined.append(event)
    return sorted(joined, key=lambda one: one.start)


def _heard_and_seen(script: Script) -> Iterator[Event]:
    for one in script.happenings:
        modality = "audio" if one.item.modality is Modality.AUDIO else "frames"
        start, end = one.counts
        yield Event(label=one.item.label, modality=modality, start=start, end=end, recordings=frozenset((one.item.recording,)))


def _said(script: Script) -> Iterator[Event]:
    for one in script.words:
        label = ALARMING if one.sentence.alarming else one.sentence.label
        recordings = frozenset((one.sentence.template,))
        yield Event(label=label, modality="transcripts", start=one.start, end=one.end, recordings=recordings)


def _join(one: Event, other: Event) -> Event:
    recordings = one.recordings | other.recordings
    return Event(label=one.label, modality=one.modality, start=one.start, end=max(one.end, other.end), recordings=recordings)


def label(scripts: Iterable[Script]) -> Truth:
    """Truth of every window of the scenes, in their order."""
    kept = [(at, script.lead, window) for at, script in enumerate(scripts) for window in _windows(script)]
    windows = [window for _, _, window in kept]
    groups, group_B = np.unique([lead for _, lead, _ in kept], return_inverse=True)
    return Truth(
        truth_BC=np.array([[name in window.labels for name in LABELS] for window in windows], dtype=np.bool_).reshape(-1, len(LABELS)),
        script_B=np.array([at for at, _, _ in kept], dtype=np.int64),
        start_B=np.array([window.start for window in windows], dtype=np.float64),
        conflict_B=np.array([window.conflict for window in windows], dtype=np.bool_),
        single_B=np.array([window.single for window in windows], dtype=np.bool_),
        group_B=group_B.astype(np.int64),
        groups=tuple(str(name) for name in groups),
        recordings=tuple(window.recordings for window in windows),
    )


def _windows(script: Script) -> Iterator[_Window]:
    every = events(script)
    behind = frozenset((script.sound.recording, script.picture.recording))
    for number in range(int((script.seconds - WINDOW_S) / HOP_S) + 1):
        start = number * HOP_S
        here = [event for event in every if event.counts((start, start + WINDOW_S))]
        real = [event for event in here if event.label in CLASSES]
        labels = frozenset(event.label for event in real)
        yield _Window(
            start=script.start + start,
            labels=labels | _joint(here, every),
            conflict=any(_conflicts(event, labels) for event in here),
            single=len({event.modality for event in real}) == 1,
            recordings=behind.union(*(event.recordings for event in here)),
        )


def _joint(here: Sequence[Event], every: Sequence[Event]) -> frozenset[str]:
    """Of the glass that counts here: with a person near, or without."""
    glass = [event for event in here if event.label == "glass_break"]
    seen = any(event.near(other) for event in glass for other in every if other.label == "person")
    return frozenset(("intrusion" if seen else "breakage",)) if glass else frozenset()


def _conflicts(event: Event, labels: frozenset[str]) -> bool:
    if event.label == ALARMING:
        return labels.isdisjoint(SPOKEN)
    if event.modality != "audio" or event.label not in RESEMBLES:
        return False
    likely = RESEMBLES[event.label]
    return (bool(likely) and labels.isdisjoint(likely)) or "person" in labels
