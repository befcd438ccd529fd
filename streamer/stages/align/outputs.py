"""What the aligner hands out: windows, session marks, late records, refusals; and what it counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from streamer.errors import Reason
from streamer.events import Event, EventRef, Late, Mark, Micros, Modality, SessionMark, Window
from streamer.stages.align.tracks import MOST_TRACKS


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


def line_of(event: Event) -> EventRef:
    """The line of a manifest that names this event."""
    return EventRef(
        modality=event.track.modality,
        source=event.track.source,
        id=event.id,
        start=event.start,
        end=event.end,
        arrival=event.arrival,
        origin=event.origin,
        words=event.words,
    )


def late(event: Event, clock: Micros, reason: str) -> Late:
    """It came after `reason`; `clock` is its partition's arrival clock."""
    return Late(
        origin=event.origin,
        session=event.track.session,
        modality=event.track.modality,
        id=event.id,
        start=event.start,
        arrival=event.arrival,
        delay=Micros(clock - event.start),
        reason=reason,
    )


def crowded(event: Event, limit: str) -> Rejected:
    """`limit` says what is full."""
    return Rejected(item=event, reason=Reason.CROWDED, detail=f"there is no place: {limit}, and no more")


def too_many_tracks(item: Event | Mark) -> Rejected:
    """A source too many."""
    return Rejected(item=item, reason=Reason.TOO_MANY_TRACKS, detail=f"ce_source: the session has {MOST_TRACKS} sources, and no more")
