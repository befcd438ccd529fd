"""The grid of windows, and one window while it is remembered: from its first event until no event could be in time for it."""

from __future__ import annotations

from typing import NamedTuple

from streamer.events import ClosedBy, EventRef, Micros, Modality, Window

RefKey = tuple[int, str]
"""An event's identity within its session: (number of its track, event id)."""


class Held(NamedTuple):
    """A record that must be read again after a crash: its offset, and its partition's arrival clock before it."""

    offset: int
    before: Micros


class Grid(NamedTuple):
    """Windows start at multiples of `hop` since the epoch and are `length` long."""

    length: int
    hop: int

    def starts(self, start: int, end: int) -> range:
        """Starts of all windows that [start, end) overlaps; a frame (start == end) stands where window.start <= start < window.end."""
        first = (start - self.length) // self.hop + 1
        last = (end - 1 if end > start else start) // self.hop
        return range(first * self.hop, last * self.hop + 1, self.hop)


class WindowState:
    """One window: its manifest, what of it is out, and which records it still needs from the log.

    `revision` is the next one to be emitted (0: not out). `held` names, by modality, the first record that is in the
    manifest and not yet emitted. `offset` is where the log holds what is out (None: nothing acknowledged).
    """

    __slots__ = ("closed_by", "end", "held", "newest", "offset", "refs", "revision", "start")

    def __init__(self, start: int, length: int) -> None:
        self.start = start
        self.end = start + length
        self.refs: dict[RefKey, EventRef] = {}
        self.revision = 0
        self.closed_by = ClosedBy.WATERMARK
        self.held: dict[Modality, Held] = {}
        self.newest = Micros(0)
        self.offset: int | None = None

    @property
    def out(self) -> bool:
        """Whether a first revision was emitted."""
        return self.revision > 0

    def add(self, key: RefKey, ref: EventRef, before: Micros) -> bool:
        """Put an event into the manifest. False: its identity is already there, and nothing changes."""
        if key in self.refs:
            return False
        self.refs[key] = ref
        self.held.setdefault(ref.modality, Held(ref.origin.offset, before))
        self.newest = max(self.newest, ref.arrival)
        return True

    def manifest(self) -> tuple[EventRef, ...]:
        """All events, by (start, modality, source, id)."""
        return tuple(sorted(self.refs.values(), key=_order))

    def adopt(self, refs: dict[RefKey, EventRef], window: Window, offset: int) -> bool:
        """Take over a revision that stands in the log at `offset`. True: what the log holds is not whole, one more must go out."""
        mine, theirs, latest = self.refs.keys(), refs.keys(), window.revision + 1 - self.revision
        if latest > 0:
            lacking = not mine <= theirs
        elif latest == 0:  # two records under one revision: whoever reads keeps the first
            lacking = mine != theirs
        else:
            lacking = not theirs <= mine
        if not self.out:
            self.closed_by = window.closed_by
        replaces = self.offset is None or (latest > 0 and not lacking)
        self.offset = offset if replaces else min(self.offset or 0, offset)
        self.refs = refs | self.refs
        self.revision = max(self.revision, window.revision + 1)
        self.newest = max(self.newest, window.trigger)
        if not lacking:
            self.held.clear()
        return lacking


def _order(ref: EventRef) -> tuple[int, str, str, str]:
    return (ref.start, ref.modality, ref.source, ref.id)
