"""Features of one partition, by where their event stands in the log. Losing one costs time, never a result.

Laws:
1. What is held and what is being encoded never cost more than `bound` together, but for the *reserve*: the events of
   one manifest (the window that is next), which always have a place.
2. What a waiting window names is pinned: it is not evicted.
3. Only what nobody needs any more is evicted, oldest first: no waiting window names it, and it ends before its session's
   newest window or arrived `UNNAMED` ago. When that is not enough there is no room, and whoever reads ahead must wait.
   Whatever is held may therefore be evicted `UNNAMED` of arrival after the last window that names it is done.
4. An event that is held or being encoded is known: it is not encoded again.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass

import numpy as np

from streamer.events import SECOND, EventRef, Micros, Origin, SessionId

UNNAMED = Micros(60 * SECOND)
ENTRY_BYTES = 1_024
"""What an entry costs besides its arrays: objects, keys, references."""
SLACK = 16
"""An eviction frees up to 1/SLACK of the bound."""
ROOMY = 2
"""Reading ahead goes on once 1/ROOMY of the bound is free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unusable:
    """In the place of features: the event is broken, gone, or was left out, and why: a `Reason`, or `shed`."""

    reason: str


SHED = Unusable(reason="shed")
"""The frame was left out, because infer was overloaded (`stages/shed.py`)."""


@dataclass(slots=True, kw_only=True)
class _Entry:
    """One event. `value` is None while it is being encoded."""

    session: SessionId
    end: Micros
    arrival: Micros
    cost: int
    value: object | None = None


def footprint(value: object) -> int:
    """Bytes that features hold: their arrays, and those of what they consist of."""
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, tuple | list):
        return sum(map(footprint, value))
    if is_dataclass(value) and not isinstance(value, type):
        return sum(footprint(getattr(value, field.name)) for field in fields(value))
    return 64


class FeatureCache:
    """See the laws above. `bound` is in bytes."""

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.used = 0
        self.reserved = 0
        self._main = OrderedDict[Origin, _Entry]()
        self._reserve = dict[Origin, _Entry]()
        self._pins = Counter[Origin]()
        self._next = frozenset[Origin]()
        self._newest = OrderedDict[SessionId, tuple[Micros, Micros]]()
        self._clock = Micros(0)

    def __len__(self) -> int:
        return len(self._main) + len(self._reserve)

    def known(self, origin: Origin) -> bool:
        """Whether the event is held or being encoded."""
        return origin in self._main or origin in self._reserve

    def get(self, origin: Origin) -> object | None:
        """The event's features, or Unusable; None where they are not there (yet)."""
        entry = self._main.get(origin) or self._reserve.get(origin)
        return entry.value if entry else None

    def passed(self, arrival: Micros) -> None:
        """Everything up to this arrival time was read."""
        self._clock = max(self._clock, arrival)

    def admit(self, origin: Origin, *, session: SessionId, end: Micros, arrival: Micros, size: int) -> bool:
        """Make room for an event that is to be encoded, `size` bytes large. False: there is none. It must not be known."""
        cost = size + ENTRY_BYTES
        if not self._room(cost):
            return False
        self._main[origin] = _Entry(session=session, end=end, arrival=arrival, cost=cost)
        self.used += cost
        return True

    def roomy(self) -> bool:
        """Whether reading ahead is worth the while again, after evicting what nobody needs."""
        return self._room(self.bound // ROOMY)

    def reserve(self, ref: EventRef, session: SessionId) -> None:
        """A place for an event of the next window, in the reserve if there is no other. It must not be known.

        Its payload is not charged while it is encoded: one manifest's at most is under way besides what was read ahead.
        """
        arrival = min(ref.arrival, self._clock)  # what a window says of it may not keep it for ever
        if not self.admit(ref.origin, session=session, end=ref.end, arrival=arrival, size=0):
            self._keep(ref.origin, _Entry(session=session, end=ref.end, arrival=arrival, cost=ENTRY_BYTES))

    def withdraw(self, origin: Origin) -> None:
        """What came of it does not count any more: the event is not known now."""
        if entry := self._main.pop(origin, None):
            self.used -= entry.cost
        elif entry := self._reserve.pop(origin, None):
            self.reserved -= entry.cost

    def put(self, origin: Origin, value: object) -> None:
        """What came of an event that was admitted. Without room for it, it is only kept if the next window needs it."""
        if entry := self._reserve.get(origin):
            self.reserved -= entry.cost
            self._keep(origin, _filled(entry, value))
        elif entry := self._main.pop(origin, None):
            self.used -= entry.cost
            if self._room(_filled(entry, value).cost):
                self._main[origin] = entry
                self.used += entry.cost
            elif origin in self._next:
                self._keep(origin, entry)

    def name(self, manifest: Iterable[EventRef]) -> None:
        """A window that waits names these: they are pinned until `release`."""
        for ref in manifest:
            self._pins[ref.origin] += 1

    def newest(self, session: SessionId, start: Micros) -> None:
        """A window of this session was read: what ends before the newest one's start is needed by revisions only.

        Sessions whose last window was read `UNNAMED` ago are forgotten: all that is held of them may go in any case.
        """
        before = self._newest.pop(session, (start, self._clock))[0]
        self._newest[session] = max(start, before), self._clock
        while next(iter(self._newest.values()))[1] + UNNAMED < self._clock:
            self._newest.popitem(last=False)

    def forget(self, session: SessionId) -> None:
        """The session has ended: what no waiting window names is dropped at once."""
        self._newest.pop(session, None)
        for origin, entry in list(self._main.items()):
            if entry.session == session and entry.value is not None and origin not in self._pins:
                self.used -= self._main.pop(origin).cost

    def release(self, manifest: Iterable[EventRef]) -> None:
        """The window that waited is done."""
        for ref in manifest:
            self._pins[ref.origin] -= 1
            if not self._pins[ref.origin]:
                del self._pins[ref.origin]

    def next_is(self, manifest: Iterable[EventRef]) -> None:
        """Another window is next: the reserve keeps what that one names. The rest moves out, or goes where there is no room."""
        self._next = frozenset(ref.origin for ref in manifest)
        for origin, entry in list(self._reserve.items()):
            if self._room(entry.cost):
                self._main[origin] = entry
                self.used += entry.cost
            elif origin in self._next:
                continue
            del self._reserve[origin]
            self.reserved -= entry.cost

    def _keep(self, origin: Origin, entry: _Entry) -> None:
        self._reserve[origin] = entry
        self.reserved += entry.cost

    def _room(self, cost: int) -> bool:
        """Whether `cost` more fits, after evicting what nobody needs (and some more, so that not every event has to look)."""
        if self.used + cost <= self.bound:
            return True
        for origin in [origin for origin, entry in self._main.items() if self._idle(origin, entry)]:
            self.used -= self._main.pop(origin).cost
            if self.used + cost <= self.bound - self.bound // SLACK:
                break
        return self.used + cost <= self.bound

    def _idle(self, origin: Origin, entry: _Entry) -> bool:
        if origin in self._pins or entry.value is None:
            return False
        newest = self._newest.get(entry.session)
        return entry.arrival + UNNAMED < self._clock or (newest is not None and entry.end < newest[0])


def _filled(entry: _Entry, value: object) -> _Entry:
    entry.value, entry.cost = value, ENTRY_BYTES + footprint(value)
    return entry
