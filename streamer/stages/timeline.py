"""One rule in one session: its positive windows and, kept up to date at each change, its episodes.

Laws:
1. `episodes` is always what `fold` gives for the points held, after the carry.
2. What a change costs does not grow with the session: the windows stand in buckets of `WIDTH` hops, each bucket keeps what its
   chains (stretches of connected windows) sum up to, and a change looks at the buckets of the chain that it touches.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from streamer.events import Micros
from streamer.stages.episodes import Episode, Levels, Point, connected, fold, join, single

WIDTH = 64
"""Hops in a bucket: more than an episode can miss."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Connected windows. `whole`: as if the first one opened them; `opened`: from the first that reaches the threshold on."""

    whole: Episode
    opened: Episode | None


@dataclass(frozen=True, slots=True)
class Change:
    """Between `first` and `last` (starts of windows) the episodes were `old` and are `new`."""

    first: Micros
    last: Micros
    old: list[Episode]
    new: list[Episode]


class Timeline:
    """`carry` is the episode before all points that may go on. `points`: those there are at first, in time order."""

    def __init__(self, levels: Levels, carry: Episode | None = None, points: Iterable[Point] = ()) -> None:
        self.levels, self.carry = levels, carry
        self._buckets: dict[int, list[Point]] = {}
        self._sums: dict[int, list[Chain]] = {}
        for point in points:
            if point.score >= levels.stays:
                self._buckets.setdefault(self._bucket(point.start), []).append(point)
        chains = list(self._sum([*self._carried(), *(chain for bucket in sorted(self._buckets) for chain in self._chains(bucket))]))
        self._tail = chains[-1] if chains else None
        self.episodes = [chain.opened for chain in chains if chain.opened]

    def put(self, start: Micros, point: Point | None) -> Change | None:
        """Set the window at `start`; None: it is negative. Returns None where nothing changed."""
        if point is not None and point.score < self.levels.stays:
            point = None
        tail = self._tail
        if not self._place(start, point):
            return None
        if point is not None and tail and start > tail.whole.last and connected(tail.whole.last, start, self.levels.hop):
            return self._append(tail, point)
        return self._around(start)

    def at(self, start: Micros) -> Episode | None:
        """The episode in which a window lies."""
        found = bisect_right(self.episodes, start, key=_start) - 1
        return self.episodes[found] if found >= 0 and self.episodes[found].last >= start else None

    def between(self, first: Micros, last: Micros) -> list[Episode]:
        """The episodes that overlap a stretch."""
        low = bisect_right(self.episodes, first, key=_start)
        low -= low > 0 and self.episodes[low - 1].last >= first
        return self.episodes[low : bisect_right(self.episodes, last, key=_start)]

    def freeze(self, edge: Micros) -> None:
        """Fold all windows before `edge` into the carry. Episodes that cannot go on are forgotten."""
        leaving = list(self._leave(edge))
        done = fold(leaving, self.levels, carry=self.carry)
        self.carry = done[-1] if done and connected(done[-1].last, edge, self.levels.hop) else None
        gone = 0
        while gone < len(self.episodes) and self.episodes[gone].last < edge and not self._carries(self.episodes[gone]):
            gone += 1
        del self.episodes[:gone]
        if self._tail and self._tail.whole.last < edge:
            self._tail = next(iter(self._carried()), None)

    def _carried(self) -> list[Chain]:
        return [Chain(self.carry, self.carry)] if self.carry else []

    def _carries(self, episode: Episode) -> bool:
        return self.carry is not None and episode.start == self.carry.start

    def _bucket(self, start: Micros) -> int:
        return start // (WIDTH * self.levels.hop)

    def _place(self, start: Micros, point: Point | None) -> bool:
        bucket = self._bucket(start)
        points = self._buckets.get(bucket, [])
        at = bisect_left(points, start, key=_start)
        known = points[at : at + 1] if at < len(points) and points[at].start == start else []
        new = [point] if point else []
        if known == new:
            return False
        points[at : at + len(known)] = new
        self._buckets[bucket] = points
        if not points:
            del self._buckets[bucket]
        self._sums.pop(bucket, None)
        return True

    def _append(self, tail: Chain, point: Point) -> Change:
        self._tail = found = self._plus(tail, self._one(point))
        old = [tail.opened] if tail.opened else []
        new = [found.opened] if found.opened else []
        if new:
            self.episodes[len(self.episodes) - len(old) :] = new
        return Change(tail.whole.start, point.start, old, new)

    def _around(self, start: Micros) -> Change:
        """Sum up the chains near `start` anew, from where one begins to where one ends."""
        merged = list(self._sum(self._near(start)))
        first = min([start, *(chain.whole.start for chain in merged)])
        last = max([start, *(chain.whole.last for chain in merged)])
        new = [chain.opened for chain in merged if chain.opened]
        low, high = bisect_left(self.episodes, first, key=_start), bisect_right(self.episodes, last, key=_start)
        old, self.episodes[low:high] = self.episodes[low:high], new
        if self._tail is None or self._tail.whole.last <= last:
            self._tail = merged[-1] if merged else self._last()
        return Change(first, last, old, new)

    def _last(self) -> Chain | None:
        """The last chain of all, once the one that was it is gone."""
        if not self._buckets:
            return next(iter(self._carried()), None)
        return list(self._sum(self._near(self._buckets[max(self._buckets)][-1].start)))[-1]

    def _near(self, start: Micros) -> list[Chain]:
        """The chains of the bucket of `start`, and those left and right of it that are connected with them or with `start`."""
        home = self._bucket(start)
        chains = list(self._chains(home))
        first = min([start, *(chain.whole.start for chain in chains[:1])])
        last = max([start, *(chain.whole.last for chain in chains[-1:])])
        at = home
        while (found := self._chains(at - 1)) and connected(found[-1].whole.last, first, self.levels.hop):
            chains.insert(0, found[-1])
            first, at = found[-1].whole.start, at - 1
            if len(found) > 1:
                break
        if self.carry and connected(self.carry.last, first, self.levels.hop):
            chains.insert(0, *self._carried())
        at = home
        while (found := self._chains(at + 1)) and connected(last, found[0].whole.start, self.levels.hop):
            chains.append(found[0])
            last, at = found[0].whole.last, at + 1
            if len(found) > 1:
                break
        return chains

    def _chains(self, bucket: int) -> list[Chain]:
        """What a bucket's windows sum up to."""
        if bucket not in self._buckets:
            return []
        if bucket not in self._sums:
            self._sums[bucket] = list(self._sum(self._one(point) for point in self._buckets[bucket]))
        return self._sums[bucket]

    def _sum(self, chains: Iterable[Chain]) -> Iterator[Chain]:
        current: Chain | None = None
        for chain in chains:
            if current and connected(current.whole.last, chain.whole.start, self.levels.hop):
                current = self._plus(current, chain)
            else:
                if current:
                    yield current
                current = chain
        if current:
            yield current

    def _plus(self, one: Chain, following: Chain) -> Chain:
        hop = self.levels.hop
        opened = join(one.opened, following.whole, hop) if one.opened else following.opened
        return Chain(join(one.whole, following.whole, hop), opened)

    def _one(self, point: Point) -> Chain:
        found = single(point)
        return Chain(found, found if point.score >= self.levels.threshold else None)

    def _leave(self, edge: Micros) -> Iterator[Point]:
        while self._buckets and (bucket := min(self._buckets)) <= self._bucket(edge):
            points = self._buckets[bucket]
            count = bisect_left(points, edge, key=_start)
            yield from points[:count]
            if count:
                self._sums.pop(bucket, None)
            if count < len(points):
                self._buckets[bucket] = points[count:]
                return
            del self._buckets[bucket]


def _start(item: Point | Episode) -> Micros:
    return item.start
