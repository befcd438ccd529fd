"""What the aligner hands out: windows, session marks, late records, refusals; and what it counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from streamer.errors import Reason
from streamer.events import Event, Late, Mark, Micros, Modality, SessionMark, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A record that belongs in `deadletter`: its time or pace cannot be. It has changed nothing but the clock."""

    item: Event | Mark
    reason: Reason
    detail: str


Output = Window | SessionMark | Late | Rejected


@dataclass(frozen=True, slots=True)
class LowWater:
    """Where an input partition must be read from again, and its arrival clock before that record."""

    offset: int
    clock: Micros


@dataclass(slots=True)
class Tally:
    """Totals since this aligner was built, and what it holds now.

    Every event that was pushed is in exactly one of: aligned, duplicates, a Late, a Rejected. Every mark: marks or a Rejected.
    """

    aligned: Counter[Modality] = field(default_factory=Counter)
    duplicates: Counter[Modality] = field(default_factory=Counter)
    marks: Counter[Modality] = field(default_factory=Counter)
    open_windows: int = 0
    open_events: int = 0
    held_events: int = 0
    """`open_events`: references in windows that are not out; `held_events`: in all windows that are not forgotten."""
