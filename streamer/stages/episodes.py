"""Episodes: stretches of windows in which one rule holds. One fold over the windows of a session, in time order.

Laws:
1. The episodes are a function of the windows' scores alone: when a score came, or in which revision, is not looked at.
2. An episode opens at the threshold, and a window of an open episode is positive down to the off-threshold.
3. A window without a score, once a later one has its score, is negative. Two negatives in a row close the episode.
4. `longest` counts consecutive positive windows only: a negative one starts the count anew, though the episode stays open.
5. Folding the first windows into a carry and going on from there gives what folding all of them gives.
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

    `run` and `longest` count consecutive positive windows; `peak` is the highest score and `peak_at` the start of the
    (first) window that has it; `second` is the highest upgrading score; `misses` counts the negatives since `last`.
    """

    start: Micros
    last: Micros
    end: Micros
    run: int
    longest: int
    peak: float
    peak_at: Micros
    second: float
    misses: int = 0

    @property
    def closed(self) -> bool:
        """No later window can continue it."""
        return self.misses >= MISSES


def fold(points: Iterable[Point], levels: Levels, *, carry: Episode | None = None, before: Micros | None = None) -> list[Episode]:
    """All episodes in time order; only the last one can be open. `carry` is the open episode after the window at `before`."""
    found, current = list[Episode](), carry
    for point in points:
        if current is not None:
            gap = 0 if before is None else max(0, (point.start - before) // levels.hop - 1)
            current = _go_on(_miss(current, gap), point, levels)
            if current.closed:
                found.append(current)
                current = None
        if current is None and point.score >= levels.threshold:
            current = _open(point)
        before = point.start
    return [*found, current] if current is not None else found


def _open(point: Point) -> Episode:
    return Episode(
        start=point.start,
        last=point.start,
        end=point.end,
        run=1,
        longest=1,
        peak=point.score,
        peak_at=point.start,
        second=point.second,
    )


def _miss(episode: Episode, windows: int) -> Episode:
    if windows == 0 or episode.closed:
        return episode
    return msgspec.structs.replace(episode, run=0, misses=min(MISSES, episode.misses + windows))


def _go_on(episode: Episode, point: Point, levels: Levels) -> Episode:
    if episode.closed:
        return episode
    if point.score < levels.stays:
        return _miss(episode, 1)
    higher = point.score > episode.peak
    return msgspec.structs.replace(
        episode,
        last=point.start,
        end=max(episode.end, point.end),
        run=episode.run + 1,
        longest=max(episode.longest, episode.run + 1),
        peak=point.score if higher else episode.peak,
        peak_at=point.start if higher else episode.peak_at,
        second=max(episode.second, point.second),
        misses=0,
    )
