"""Episodes: stretches of windows in which one rule holds. `fold` says which there are; `timeline.py` keeps them up to date.

Laws:
1. The episodes are a function of the windows' scores alone: when a score came, or in which revision, is not looked at.
2. An episode opens at the threshold, and a window of an open episode is positive down to the off-threshold.
3. A window without a score, once a later one has its score, is negative. Two negatives in a row close the episode.
4. `longest` counts consecutive positive windows only: a negative one starts the count anew, though the episode stays open.
5. Folding the first windows into a carry and going on from there gives what folding all of them gives: `join` is associative.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from streamer.events import Micros

MISSES = 2
"""Negative windows in a row that close an episode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """What a rule asks of scores, in 0..1, and how far apart windows start, in microseconds."""

    threshold: float
    stays: float
    hop: Micros


class Point(msgspec.Struct, frozen=True):
    """One window as one rule sees it: its score, and the score that could upgrade the alert."""

    start: Micros
    end: Micros
    score: float
    second: float = 0.0


class Episode(msgspec.Struct, frozen=True):
    """One episode. `start`, `last` are the starts of its first and last positive window, `end` the end of the last.

    `head`, `run` and `longest` count consecutive positive windows: from the first on, up to the last, at most; `solid`: all
    of them are consecutive. `peak` is the highest score and `peak_at` the start of the (first) window that has it; `second`
    is the highest upgrading score.
    """

    start: Micros
    last: Micros
    end: Micros
    head: int
    run: int
    longest: int
    solid: bool
    peak: float
    peak_at: Micros
    second: float

    def closed(self, newest: Micros, hop: Micros) -> bool:
        """No window after the `newest` can continue it, because two negative ones lie between."""
        return (newest - self.last) // hop >= MISSES


def fold(points: Iterable[Point], levels: Levels, *, carry: Episode | None = None) -> list[Episode]:
    """All episodes in time order. `carry` is one of earlier windows that may go on."""
    found = [carry] if carry else list[Episode]()
    for point in points:
        if point.score < levels.stays:
            continue
        if found and connected(found[-1].last, point.start, levels.hop):
            found[-1] = join(found[-1], single(point), levels.hop)
        elif point.score >= levels.threshold:
            found.append(single(point))
    return found


def connected(last: Micros, start: Micros, hop: Micros) -> bool:
    """Whether a positive window at `start` goes on with what had its last one at `last`."""
    return (start - last) // hop - 1 < MISSES


def single(point: Point) -> Episode:
    """One window as an episode."""
    return Episode(
        start=point.start,
        last=point.start,
        end=point.end,
        head=1,
        run=1,
        longest=1,
        solid=True,
        peak=point.score,
        peak_at=point.start,
        second=point.second,
    )


def join(one: Episode, following: Episode, hop: Micros) -> Episode:
    """Two connected stretches as one."""
    touching = (following.start - one.last) // hop <= 1
    higher = following.peak > one.peak
    return Episode(
        start=one.start,
        last=following.last,
        end=max(one.end, following.end),
        head=one.head + following.head if one.solid and touching else one.head,
        run=one.run + following.run if following.solid and touching else following.run,
        longest=max(one.longest, following.longest, one.run + following.head if touching else 0),
        solid=one.solid and following.solid and touching,
        peak=following.peak if higher else one.peak,
        peak_at=following.peak_at if higher else one.peak_at,
        second=max(one.second, following.second),
    )
