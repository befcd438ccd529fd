"""What all sessions of one aligner have in common: settings, counts, what must be read again after a crash, what is lost, alarms."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

from streamer.config import AlignSettings
from streamer.events import Micros, Modality, SessionId
from streamer.stages.align.outputs import Tally
from streamer.stages.align.tracks import NEVER
from streamer.stages.align.windows import Grid, Held


class Unread:
    """One topic's records that must be read again after a crash, in the order of the log. What is not needed any more goes lazily."""

    __slots__ = ("_most", "_queue")

    def __init__(self) -> None:
        self._queue: deque[Held] = deque()
        self._most = 1_024

    def add(self, held: Held) -> None:
        """The newest record of its topic."""
        self._queue.append(held)
        if len(self._queue) > self._most:
            self._queue = deque(one for one in self._queue if one.needed)
            self._most = 2 * len(self._queue) + 1_024

    def first(self) -> Held | None:
        """The first that is still needed."""
        while self._queue and not self._queue[0].needed:
            self._queue.popleft()
        return self._queue[0] if self._queue else None


class Alarms:
    """When, on one clock, each session must be looked at again. At most one time counts for each: the earliest that was set."""

    __slots__ = ("_heap", "_times")

    def __init__(self) -> None:
        self._heap: list[tuple[Micros, SessionId]] = []
        self._times: dict[SessionId, Micros] = {}

    def set(self, name: SessionId, at: Micros) -> None:
        """No later than `at`; too early costs a look, and nothing else."""
        if at < self._times.get(name, NEVER):
            self._times[name] = at
            heappush(self._heap, (at, name))

    def drop(self, name: SessionId) -> None:
        """The session is no more."""
        self._times.pop(name, None)

    def due(self, clock: Micros) -> Iterator[SessionId]:
        """Each session whose time has come; its alarm is spent."""
        while self._heap and self._heap[0][0] <= clock:
            at, name = heappop(self._heap)
            if self._times.get(name) == at:
                del self._times[name]
                yield name


@dataclass(slots=True)
class Gap:
    """Records of one topic that retention took before they were aligned, from `offset` on.

    `since`: the arrival clock before them; `until`: the one at the first record behind them, NEVER while there is none.
    """

    offset: int
    since: Micros
    until: Micros = NEVER

    def touches(self, start: int, end: int, settings: AlignSettings) -> bool:
        """Whether a lost record could overlap [start, end): it was not late, and not from the future."""
        return end > self.since - settings.horizon and start < self.until + settings.skew

    def over(self, low: Micros, settings: AlignSettings) -> bool:
        """Whether all that it touches is beyond the horizon, once every topic's low-water has passed `low`."""
        return low >= self.until + settings.skew + settings.length + settings.horizon


class Reached(NamedTuple):
    """How far each topic's partition has been read, in arrival time; `now` where it is caught up. `least` and `top` of the three."""

    clocks: Mapping[Modality, Micros]
    least: Micros
    top: Micros


@dataclass(slots=True)
class Shared:
    """One for all sessions of an aligner. `full`: nothing more may be held, as of the last tick.

    Alarms: `idle` by each topic's own clock; `slowest` by the least of them; `forgetting` by the least at any low-water.
    """

    settings: AlignSettings
    grid: Grid
    tally: Tally = field(default_factory=Tally)
    unread: dict[Modality, Unread] = field(default_factory=lambda: {modality: Unread() for modality in Modality})
    gaps: dict[Modality, Gap] = field(default_factory=dict)
    full: bool = False
    idle: dict[Modality, Alarms] = field(default_factory=lambda: {modality: Alarms() for modality in Modality})
    slowest: Alarms = field(default_factory=Alarms)
    forgetting: Alarms = field(default_factory=Alarms)

    def hold(self, modality: Modality, offset: int, before: Micros) -> Held:
        """This record must be read again after a crash while anybody needs it."""
        held = Held(offset, before)
        self.unread[modality].add(held)
        return held

    def drop(self, name: SessionId) -> None:
        """The session is no more."""
        for alarms in (*self.idle.values(), self.slowest, self.forgetting):
            alarms.drop(name)


@dataclass(slots=True)
class Room:
    """What all aligners of one process hold together (law 9)."""

    tallies: list[Tally] = field(default_factory=list)

    @property
    def open(self) -> int:
        """References in windows that are not out."""
        return sum(tally.open_events for tally in self.tallies)

    @property
    def held(self) -> int:
        """References in all windows that are not forgotten."""
        return sum(tally.held_events for tally in self.tallies)
