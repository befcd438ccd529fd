"""The grid of windows, and one window while it is remembered: from its first event until no event could be in time for it."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import NamedTuple

import msgspec

from streamer.events import ClosedBy, EventRef, Micros, Modality, Pace, Presence, SessionId, Window, Words
from streamer.ids import window_id
from streamer.stages.align.tracks import TrackClock

MOST_EVENTS = 2_000
"""Events of one modality in one window. More than that is no camera, and would make a record that no topic takes."""
MOST_WORDS = 512 * 1024
"""Bytes of JSON that the words in one window may take."""

RefKey = tuple[TrackClock, str]
"""An event's identity within its session: (its track, event id)."""
_order = attrgetter("start", "modality", "source", "id")


class Held:
    """A record that must be read again after a crash: its offset, and its partition's arrival clock before it.

    `needed`: how many windows have it as their first record of that topic that is not out yet.
    """

    __slots__ = ("before", "needed", "offset")

    def __init__(self, offset: int, before: Micros) -> None:
        self.offset = offset
        self.before = before
        self.needed = 0


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
    `unwritten`: the last revision that went out from here, while it is not acknowledged.
    """

    __slots__ = ("closed_by", "counts", "end", "held", "newest", "offset", "refs", "revision", "start", "unwritten", "words")

    def __init__(self, start: int, length: int) -> None:
        self.start = start
        self.end = start + length
        self.refs: dict[RefKey, EventRef] = {}
        self.counts: dict[Modality, int] = {}
        self.words = 0
        self.revision = 0
        self.closed_by = ClosedBy.WATERMARK
        self.held: dict[Modality, Held] = {}
        self.newest = Micros(0)
        self.offset: int | None = None
        self.unwritten: int | None = None

    @property
    def out(self) -> bool:
        """Whether a first revision was emitted."""
        return self.revision > 0

    @property
    def settled(self) -> int | None:
        """Where the log holds what is out; None while something that went out is not acknowledged."""
        return self.offset if self.unwritten is None else None

    def crowded(self, modality: Modality, words: int) -> bool:
        """Whether one more has no place. Each modality has one order in the log, so a replay refuses the same events."""
        return self.counts.get(modality, 0) >= MOST_EVENTS or self.words + words > MOST_WORDS

    def put(self, key: RefKey, ref: EventRef, words: int) -> None:
        """Into the manifest. `words`: bytes of JSON that its words take."""
        self.refs[key] = ref
        key[0].held += 1
        self.counts[ref.modality] = self.counts.get(ref.modality, 0) + 1
        self.words += words
        if ref.arrival > self.newest:
            self.newest = ref.arrival

    def release(self) -> None:
        """What it needed from the log is out."""
        for held in self.held.values():
            held.needed -= 1
        self.held = {}

    def revise(self, session: SessionId, pace: Pace, completeness: Mapping[Modality, Presence], trigger: Micros) -> Window:
        """The next revision, whole."""
        revision = self.unwritten = self.revision
        self.revision += 1
        self.release()
        return Window(
            id=window_id(session, Micros(self.start), Micros(self.end)),
            session=session,
            start=Micros(self.start),
            end=Micros(self.end),
            revision=revision,
            closed_by=self.closed_by,
            manifest=self.manifest(),
            completeness=completeness,
            trigger=trigger,
            pace=pace,
        )

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
            lacking = waits or mine != theirs
        else:
            lacking = waits or not theirs <= mine
        if not self.out:
            self.closed_by = window.closed_by
        replaces = self.offset is None or (latest > 0 and not lacking)
        self.offset = offset if replaces else min(self.offset or 0, offset)
        for key, ref in refs.items():
            if key not in self.refs:
                self.put(key, ref, words_size(ref.words))
        self.revision = max(self.revision, window.revision + 1)
        self.newest = max(self.newest, window.trigger)
        if not lacking:
            self.release()
        return lacking


def words_size(words: Words | None) -> int:
    """Bytes of JSON."""
    return len(msgspec.json.encode(words)) if words is not None else 0
