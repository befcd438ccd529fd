"""When infer is overloaded, and which frames it leaves out then. Audio and words are never left out.

Laws:
1. Overloaded: a live window has waited for infer longer than `after`, and infer is not catching up: what waits becomes less
   than a second less late in a second. So a backlog after a downtime costs no frame while it is worked off at twice the speed
   of life or more, and recorded sessions, for which nobody waits, ask for nothing.
2. At level 0 each frame is kept. At every other, each track keeps the first frame of each cell of event time; cells are twice
   as wide as a level below, at the last level a window's length / `floor`. Whoever sends most loses first, and what stays is
   evenly spread. It is decided once for each frame, when its turn comes: windows that share it agree.
3. The level rises by one while overloaded. It falls by one after `CALM` seconds in which no live window waited half of `after`,
   if what the frames of the lower level will cost leaves room (`ROOM`): steady load does not make it swing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from streamer.events import SECOND, EventRef, Micros, Modality, Origin, Track

LEVELS = 6
"""The first one's cells are 1/2**(LEVELS - 1) of the last one's: 16 frames a second where windows are 2 s long."""
JUDGED = 2.0
"""Seconds in which infer must have caught up by as many."""
CALM = 5.0
ROOM = 0.8
"""Share of a resource's time that may be in use after falling."""
ENOUGH = 16
"""Frames after which a level that left out none of them is known to change nothing."""
MOST_TRACKS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Seconds that one resource (the engine, a decoder) has worked so far: on frames, and on all else."""

    frames: float = 0.0
    others: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sample:
    """Where a calm stretch began."""

    at: float
    spent: tuple[Spent, ...]
    seen: int
    shed: int


class Shedding:
    """See the laws above. `length` is a window's; `floor` the frames of each track that a window keeps at the last level."""

    def __init__(self, *, length: Micros, after: Micros, floor: int = 1, on: bool = True) -> None:
        widest = length // floor
        self._cells = [max(1, widest >> level) for level in reversed(range(LEVELS))]
        self._after, self._on = after / SECOND, on
        self.level = 0
        self.shed = 0
        self._seen = 0
        self._last = dict[Track, int]()
        self._judged: tuple[float, float] | None = None
        self._level_began = (0, 0)
        self._calm: _Sample | None = None

    def sheds(self, track: Track, at: Micros) -> bool:
        """Whether this frame, whose turn it is, is left out. Asked once for each that was read ahead."""
        if not self.level:
            return False
        self._seen += 1
        cell = at // self._cells[self.level - 1]
        if self._last.get(track) == cell:
            self.shed += 1
            return True
        if len(self._last) >= MOST_TRACKS:
            self._last.clear()  # costs one frame more of each
        self._last[track] = cell
        return False

    def thinned(self, wanted: Iterable[EventRef], held: Iterable[EventRef]) -> frozenset[Origin]:
        """Which of a window's `wanted` events are left out: frames whose cell has one that is `held`, or wanted and earlier."""
        if not self.level:
            return frozenset()
        width = self._cells[self.level - 1]
        filled = {(ref.source, ref.start // width) for ref in held if ref.modality is Modality.FRAMES}
        left_out = set[Origin]()
        for ref in sorted((ref for ref in wanted if ref.modality is Modality.FRAMES), key=_start):
            if (cell := (ref.source, ref.start // width)) in filled:
                left_out.add(ref.origin)
            filled.add(cell)
        self.shed += len(left_out)
        return frozenset(left_out)

    def look(self, now: float, *, waits: float, late: float, spent: Sequence[Spent]) -> None:
        """Rise or fall. `now`: seconds of a clock that does not go back; `waits`, `late`: seconds that the live window which waits
        longest has waited for infer, and since it could close; 0 without any."""
        if not self._on:
            return
        if waits < self._after / 2:
            self._fall(now, tuple(spent))
        else:
            self._calm = None
        if waits <= self._after or self._judged is None:
            self._judged = now, late
        elif now - (since := self._judged[0]) >= JUDGED or self._idle():
            if late > self._judged[1] - (now - since):
                self._go(min(self.level + 1, LEVELS))
            self._judged = now, late

    def _fall(self, now: float, spent: tuple[Spent, ...]) -> None:
        """Go down where the calm has lasted, and what the lower level would cost fits."""
        calm = self._calm
        if not self.level or calm is None:
            self._calm = _Sample(at=now, spent=spent, seen=self._seen, shed=self.shed)
        elif (passed := now - calm.at) >= CALM:
            seen = self._seen - calm.seen
            more = seen / max(1, seen - (self.shed - calm.shed)) if seen else 1.0
            if self.level > 1:
                more = min(2.0, more)
            loads = [
                ((after.frames - before.frames) * more + after.others - before.others) / passed
                for before, after in zip(calm.spent, spent, strict=True)
            ]
            if max(loads, default=0.0) <= ROOM:
                self._go(self.level - 1)
            self._calm = None

    def _idle(self) -> bool:
        """Whether this level is known to leave out nothing."""
        seen, shed = self._level_began
        return self.level > 0 and self._seen - seen >= ENOUGH and self.shed == shed

    def _go(self, level: int) -> None:
        self.level = level
        self._last.clear()
        self._level_began = self._seen, self.shed
        self._calm = None


def _start(ref: EventRef) -> Micros:
    return ref.start
