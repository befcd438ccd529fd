"""What an operator counts: alarms per hour and how long they take, not windows.

Laws:
1. An episode is a run of positive windows of one session; runs that are within two hops are one (decide resolves after two windows).
2. An episode is a false alarm when none of its windows is true, or so near to a true one that an alarm there would join it: at an
   event's edge a window holds too little of it to be true, and an alarm for it is no false one. A session's windows never join another's.
3. Episodes can merge when a threshold falls, so their number may fall too. A threshold is therefore sought from above: it and every
   higher one keep the budget.

Shape key: B windows, E events. A window alarms when its score is at least the threshold; it stands for one hop of time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from models.evaluation.metrics import Bools, Floats, pairs

Ints = NDArray[np.int64]

JOIN_HOPS = 2
"""Positive windows at most this far apart are of one episode."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Timeline:
    """Where each window stands: its session (any number for it) and its start in hops. ValueError where two stand at one place.

    `place_B` is one axis for all sessions: windows stand as far apart on it as in hops, or further than any episode reaches.
    """

    session_B: Ints
    hop_B: Ints
    hop_s: float
    place_B: Ints = field(init=False)

    def __post_init__(self) -> None:
        if self.session_B.ndim != 1 or self.session_B.shape != self.hop_B.shape or not 0 < self.hop_s < math.inf:
            raise ValueError(f"sessions {self.session_B.shape}, hops {self.hop_B.shape}: one of each a window; hop_s={self.hop_s}: above 0")
        order = np.lexsort((self.hop_B, self.session_B))
        step = np.minimum(np.diff(self.hop_B[order]), JOIN_HOPS + 1)
        step[np.diff(self.session_B[order]) != 0] = JOIN_HOPS + 1
        if (step == 0).any():
            raise ValueError(f"{np.count_nonzero(step == 0)} windows stand where another of their session does")
        place_B = np.empty(order.size, dtype=np.int64)
        place_B[order] = np.concatenate([np.zeros(min(1, order.size), dtype=np.int64), np.cumsum(step)])
        object.__setattr__(self, "place_B", place_B)

    @property
    def hours(self) -> float:
        """Time watched."""
        return self.place_B.size * self.hop_s / 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """Seconds from an event's start to its alert, over the events that had one. Both are NaN when none had."""

    p50_s: float
    p95_s: float
    events: int
    missed: int


def episodes(positive_B: Bools, timeline: Timeline) -> Ints:
    """Each positive window's episode, counted from 0 in order of place; -1 for the others."""
    rows = np.flatnonzero(positive_B)
    rows = rows[np.argsort(timeline.place_B[rows])]
    episode_B = np.full(positive_B.size, -1, dtype=np.int64)
    episode_B[rows] = np.cumsum(np.diff(timeline.place_B[rows], prepend=timeline.place_B[rows[:1]]) > JOIN_HOPS)
    return episode_B


def false_alarms(alarm_B: Bools, truth_B: Bools, timeline: Timeline) -> int:
    """How many episodes of alarm hold no window that is true or near one."""
    episode_B = episodes(alarm_B, timeline)
    return int(episode_B.max(initial=-1)) + 1 - np.unique(episode_B[alarm_B & near(truth_B, timeline)]).size


def near(truth_B: Bools, timeline: Timeline) -> Bools:
    """Which windows are true, or within JOIN_HOPS of a true one."""
    true_place = timeline.place_B[truth_B]
    reach = np.concatenate([true_place + hops for hops in range(-JOIN_HOPS, JOIN_HOPS + 1)])
    found: Bools = np.isin(timeline.place_B, reach)
    return found


def threshold_at_recall(scores_B: Floats, truth_B: Bools, timeline: Timeline, *, recall: float) -> float:
    """The highest threshold at which that share of the true events (runs of true windows) alarm somewhere. NaN without an event."""
    scores_B, truth_B = pairs(scores_B, truth_B)
    if not 0 < recall <= 1:
        raise ValueError(f"recall={recall} must be in (0, 1]")
    if not truth_B.any():
        return float("nan")
    event_B = episodes(truth_B, timeline)
    best_E = np.full(event_B.max() + 1, -np.inf)
    np.maximum.at(best_E, event_B[truth_B], scores_B[truth_B])
    return float(np.sort(best_E)[-max(1, math.ceil(recall * best_E.size - 1e-9))])


def false_alarms_per_hour(scores_B: Floats, truth_B: Bools, timeline: Timeline, *, recall: float) -> float:
    """False alarms per hour at the highest threshold that reaches the recall of true events. NaN without an event."""
    threshold = threshold_at_recall(scores_B, truth_B, timeline, recall=recall)
    return threshold if math.isnan(threshold) else false_alarms(scores_B >= threshold, truth_B, timeline) / timeline.hours


def lowest_threshold(scores_B: Floats, truth_B: Bools, timeline: Timeline, *, per_hour: float) -> float:
    """The lowest threshold whose false alarms, and those of every higher one, stay within the budget.

    It lies halfway between the lowest score that it lets through, or the lowest true window where that is higher, and the score that
    would break the budget: between them nothing is won, and neither side is cut close. Just above the greatest score when already that
    breaks it. O(B log B).
    """
    scores_B, truth_B = pairs(scores_B, truth_B)
    if not scores_B.size or not 0 <= per_hour < math.inf:
        raise ValueError(f"{scores_B.size} windows, per_hour={per_hour}: must be at least 1, and finite and not below 0")
    score, real, place = scores_B.tolist(), near(truth_B, timeline).tolist(), timeline.place_B.tolist()
    found, broken = math.nextafter(max(score), math.inf), min(score)
    growing = _Growing()
    for value, rows in groupby(np.argsort(-scores_B).tolist(), key=score.__getitem__):
        for row in rows:
            growing.add(place[row], real[row])
        if growing.false > per_hour * timeline.hours + 1e-9:
            broken = value
            break
        found = value
    if found > max(score):
        return found
    kept = max(found, float(scores_B[truth_B].min())) if truth_B.any() else found
    return max((kept + broken) / 2, math.nextafter(broken, math.inf)) if kept > broken else kept


def time_to_alert(start_s_E: Floats, alert_s_E: Floats) -> Delays:
    """From each event's start and its first alert's time (NaN: none came), on one clock. A labelled start may be after its alert."""
    if start_s_E.ndim != 1 or start_s_E.shape != alert_s_E.shape:
        raise ValueError(f"starts {start_s_E.shape} and alerts {alert_s_E.shape} must be one of each an event")
    delay_s = (alert_s_E - start_s_E)[~np.isnan(alert_s_E)]
    p50, p95 = np.quantile(delay_s, [0.5, 0.95]) if delay_s.size else (np.nan, np.nan)
    return Delays(p50_s=float(p50), p95_s=float(p95), events=start_s_E.size, missed=start_s_E.size - delay_s.size)


class _Growing:
    """Episodes while windows turn positive one by one (union-find): how many hold no real one."""

    def __init__(self) -> None:
        self.false = 0
        self._parent: dict[int, int] = {}
        self._real: dict[int, bool] = {}

    def add(self, place: int, real: bool) -> None:
        self._parent[place], self._real[place] = place, real
        self.false += not real
        for other in range(place - JOIN_HOPS, place + JOIN_HOPS + 1):
            if other in self._parent:
                self._join(self._root(place), self._root(other))

    def _join(self, one: int, other: int) -> None:
        if one != other:
            self.false -= not (self._real[one] and self._real[other])
            self._parent[other] = one
            self._real[one] = self._real[one] or self._real[other]

    def _root(self, place: int) -> int:
        while self._parent[place] != place:
            self._parent[place] = self._parent[self._parent[place]]
            place = self._parent[place]
        return place
