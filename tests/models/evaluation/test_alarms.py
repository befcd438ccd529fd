"""Episodes, false alarms and the budget's threshold, against slow, obvious versions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.alarms import (
    Delays,
    Timeline,
    episodes,
    false_alarms,
    false_alarms_per_hour,
    lowest_threshold,
    threshold_at_recall,
    time_to_alert,
)
from models.evaluation.metrics import Bools, Floats

Window = tuple[tuple[int, int], int, bool]
WINDOWS = st.lists(
    st.tuples(st.tuples(st.integers(0, 2), st.integers(-3, 15)), st.integers(0, 6), st.sampled_from([False, False, True])),
    min_size=1,
    max_size=40,
    unique_by=lambda window: window[0],
)
"""((session, hop), score, truth), in any order."""


def timeline(places: list[tuple[int, int]], *, hop_s: float = 1.0) -> Timeline:
    sessions, hops = zip(*places, strict=True)
    return Timeline(session_B=np.array(sessions), hop_B=np.array(hops), hop_s=hop_s)


def row(hops: list[int]) -> Timeline:
    return timeline([(7, hop) for hop in hops])


def columns(windows: list[Window]) -> tuple[Floats, Bools, Timeline]:
    places, scores, truth = zip(*windows, strict=True)
    return np.array(scores, dtype=np.float64), np.array(truth), timeline(list(places))


def slow_episodes(windows: list[Window], threshold: float) -> list[list[Window]]:
    """Walk each session and start anew after more than two hops."""
    found: list[list[Window]] = []
    for window in sorted(window for window in windows if window[1] >= threshold):
        (session, hop), before = window[0], found[-1][-1][0] if found else None
        if before is not None and before[0] == session and hop - before[1] <= 2:
            found[-1].append(window)
        else:
            found.append([window])
    return found


def slow_false(windows: list[Window], threshold: float) -> int:
    real = {(session, hop + more) for (session, hop), _, true in windows if true for more in range(-2, 3)}
    return sum(not any(place in real for place, _, _ in episode) for episode in slow_episodes(windows, threshold))


def test_runs_within_two_hops_are_one_episode_and_sessions_never_join() -> None:
    positive = np.array([1, 0, 1, 0, 0, 1, 1], dtype=bool)
    assert episodes(positive, row(list(range(7)))).tolist() == [0, -1, 0, -1, -1, 1, 1]
    assert episodes(np.ones(3, dtype=bool), timeline([(1, 0), (2, 1), (1, 1)])).tolist() == [0, 1, 0]
    assert episodes(np.ones(2, dtype=bool), row([100, 0])).tolist() == [1, 0]
    assert episodes(np.zeros(2, dtype=bool), row([0, 1])).tolist() == [-1, -1]


@settings(deadline=None, max_examples=50)
@given(WINDOWS, st.integers(0, 7))
def test_false_alarms_equal_the_slow_count(windows: list[Window], threshold: int) -> None:
    scores, truth, line = columns(windows)
    assert episodes(scores >= threshold, line).max() + 1 == len(slow_episodes(windows, threshold))
    assert false_alarms(scores >= threshold, truth, line) == slow_false(windows, threshold)


@settings(deadline=None, max_examples=50)
@given(WINDOWS, st.integers(0, 6))
def test_the_threshold_is_where_a_walk_down_the_scores_first_breaks_the_budget(windows: list[Window], allowed: int) -> None:
    scores, truth, line = columns(windows)
    found = lowest_threshold(scores, truth, line, per_hour=allowed / line.hours)
    ladder = sorted({score for _, score, _ in windows}, reverse=True)
    broken = next((score for score in ladder if slow_false(windows, score) > allowed), None)
    let = [score for score in ladder if broken is None or score > broken]
    if not let:
        assert found == math.nextafter(scores.max(), math.inf)
        return
    kept = max([let[-1], *([min(score for _, score, true in windows if true)] if truth.any() else [])])
    assert found == (kept + (ladder[-1] if broken is None else broken)) / 2
    assert all(slow_false(windows, score) <= allowed for score in ladder if score >= found)


def test_a_budget_of_nothing_cuts_just_above_the_highest_false_window() -> None:
    scores, truth = np.array([0.9, 0.7, 0.8]), np.array([False, True, False])
    line = row([0, 10, 20])
    assert lowest_threshold(scores, truth, line, per_hour=0) == math.nextafter(0.9, 1)
    assert lowest_threshold(scores, truth, line, per_hour=1 / line.hours) == pytest.approx(0.85)
    assert lowest_threshold(scores, truth, line, per_hour=2 / line.hours) == 0.7


def test_merged_alarms_never_excuse_a_low_threshold() -> None:
    """0.9 and 0.8 are two false alarms; 0.5, between them, makes one of both; 0.1 all but buries them in the event's own alarm."""
    line, truth = row([0, 4, 2, 6, 8]), np.array([False, False, False, False, True])
    scores = np.array([0.9, 0.8, 0.5, 0.1, 0.1])
    assert [false_alarms(scores >= cut, truth, line) for cut in (0.9, 0.8, 0.5, 0.1)] == [1, 2, 1, 0]
    assert lowest_threshold(scores, truth, line, per_hour=1 / line.hours) == pytest.approx(0.85)


def test_false_alarms_per_hour_at_the_recall_of_events() -> None:
    """Two events of two windows; finding one of them takes 0.8, both 0.4."""
    scores = np.array([0.8, 0.1, 0.0, 0.0, 0.5, 0.0, 0.0, 0.2, 0.4, 0.0, 0.0, 0.6])
    truth = np.array([1, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0], dtype=bool)
    line = timeline([(0, hop) for hop in range(12)], hop_s=300.0)
    assert line.hours == 1.0
    assert [threshold_at_recall(scores, truth, line, recall=r) for r in (0.5, 0.51, 1.0)] == [0.8, 0.4, 0.4]
    assert [false_alarms_per_hour(scores, truth, line, recall=r) for r in (0.5, 1.0)] == [0.0, 2.0]
    assert math.isnan(false_alarms_per_hour(scores, np.zeros(12, dtype=bool), line, recall=0.5))


@settings(deadline=None, max_examples=50)
@given(WINDOWS, st.integers(1, 10))
def test_the_threshold_at_a_recall_reaches_it_and_a_higher_one_does_not(windows: list[Window], tenths: int) -> None:
    scores, truth, line = columns(windows)
    events = slow_episodes([(place, true, true) for place, _, true in windows], 1)
    best = [max(score for place, score, _ in windows if place in {w[0] for w in event}) for event in events]
    if best:
        found = threshold_at_recall(scores, truth, line, recall=tenths / 10)
        assert sum(each >= found for each in best) * 10 >= tenths * len(best) > sum(each > found for each in best) * 10


def test_delays_are_of_the_events_that_were_alerted() -> None:
    starts, alerts = np.array([0.0, 10.0, 20.0, 30.0]), np.array([1.0, 13.0, np.nan, 32.0])
    assert time_to_alert(starts, alerts) == Delays(p50_s=2.0, p95_s=pytest.approx(2.9), events=4, missed=1)
    none = time_to_alert(starts[:1], np.array([np.nan]))
    assert math.isnan(none.p50_s) and math.isnan(none.p95_s) and none.missed == 1


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="1 windows stand where another"):
        row([3, 3])
    with pytest.raises(ValueError, match=r"hop_s=0\.0: above 0"):
        timeline([(0, 0)], hop_s=0.0)
    with pytest.raises(ValueError, match=r"recall=0 must be in \(0, 1\]"):
        threshold_at_recall(np.zeros(1), np.ones(1, dtype=bool), row([0]), recall=0)
    with pytest.raises(ValueError, match="per_hour=-1"):
        lowest_threshold(np.zeros(1), np.ones(1, dtype=bool), row([0]), per_hour=-1)
    with pytest.raises(ValueError, match="one of each an event"):
        time_to_alert(np.zeros(2), np.zeros(1))
