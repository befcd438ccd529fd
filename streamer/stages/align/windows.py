"""The grid of windows, and one window while it is remembered: from its first event until no event could be in time for it."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from streamer.events import ClosedBy, EventRef, Micros, Modality, Window

MOST_EVENTS = 2_000
"""Events of one modality in one window. More than that is no camera, and would make a record that no topic takes."""
MOST_WORDS = 512 * 1024
"""Bytes of JSON that the words in one window may take."""

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

    def has(self, start: int, end: int) -> bool:
        """Whether this is one of its windows."""
        return end - start == self.length and start % self.hop == 0


class WindowState:
    """One window: its manifest, what of it is out, and which records it still needs from the log.

    `revision` is the next one to be emitted (0: not out). `held` names, by modality, the first record that is in the
    manifest and not yet emitted. `offset` is where the log holds what is out (None: nothing acknowledged).
    """

    __slots__ = ("closed_by", "counts", "end", "held", "newest", "offset", "refs", "revision", "start", "words")

    def __init__(self, start: int, length: int) -> None:
        self.start = start
        self.end = start + length
        self.refs: dict[RefKey, EventRef] = {}
        self.counts: dict[Modality, int] = dict.fromkeys(Modality, 0)
        self.words = 0
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
        self._put(key, ref)
        self.held.setdefault(ref.modality, Held(ref.origin.offset, before))
        self.newest = max(self.newest, ref.arrival)
        return True

    def crowded(self, key: RefKey, ref: EventRef) -> bool:
        """Whether there is no place for it. Each modality has one order in the log, so a replay refuses the same events."""
        if key in self.refs:
            return False
        return self.counts[ref.modality] >= MOST_EVENTS or (ref.words is not None and self.words + _bytes(ref) > MOST_WORDS)

    def _put(self, key: RefKey, ref: EventRef) -> None:
        self.refs[key] = ref
        self.counts[ref.modality] += 1
        if ref.words is not None:
            self.words += _bytes(ref)

    def manifest(self) -> tuple[EventRef, ...]:
        """All events, by (start, modality, source, id)."""
        return tuple(sorted(self.refs.values(), key=_order))

    def adopt(self, refs: dict[RefKey, EventRef], window: Window, offset: int, *, waits: bool) -> bool:
        """Take over a revision that stands in the log at `offset`. True: what the log holds is not whole, one more must go out.

        `waits`: before this one, one more had to go out already.
        """
        mine, theirs, latest = self.refs.keys(), refs.keys(), window.revision + 1 - self.revision
        if latest > 0:
            lacking = not mine <= theirs
        elif latest == 0:  # two records under one revision: whoever reads keeps the first
            lacking = mine != theirs
        else:
            lacking = waits or not theirs <= mine
        if not self.out:
            self.closed_by = window.closed_by
        replaces = self.offset is None or (latest > 0 and not lacking)
        self.offset = offset if replaces else min(self.offset or 0, offset)
        for key, ref in refs.items():
            if key not in self.refs:
                self._put(key, ref)
        self.revision = max(self.revision, window.revision + 1)
        self.newest = max(self.newest, window.trigger)
        if not lacking:
            self.held.clear()
        return lacking


def _bytes(ref: EventRef) -> int:
    return len(msgspec.json.encode(ref.words))


def _order(ref: EventRef) -> tuple[int, str, str, str]:
    return (ref.start, ref.modality, ref.source, ref.id)
