"""Streams whose events and alarms are laid out by hand; the curve of false alarms against counting at every threshold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.classes import LABELS
from models.evaluation.alarms import Timeline, false_alarms
from models.evaluation.findings import ClassTrack, StreamTrack
from models.evaluation.metrics import Floats
from models.evaluation.scripts import Script
from models.evaluation.streams import Stream, Watch, false_alarm_curve, most_alarms, poisson, track
from tests.models.evaluation.builders import heard, script, seen

MINUTES = 30
SIREN = LABELS.index("siren")
PLACES = st.lists(
    st.tuples(st.tuples(st.integers(0, 2), st.integers(0, 15)), st.integers(0, 6)), min_size=1, max_size=40, unique_by=lambda one: one[0]
)
"""((session, hop), score), in any order."""


def minutes(*events: float) -> list[Script]:
    """Half an hour; a siren of 5 s from each of these seconds on."""
    segments = []
    for number in range(MINUTES):
        here = [start - 60 * number for start in events if 60 * number <= start < 60 * (number + 1)]
        segments.append(script(*(heard("siren", start, start + 5) for start in here), seconds=60.0, start=60.0 * number))
    return segments


def rows_at(stream: Stream, *starts: float) -> list[int]:
    return [int(np.flatnonzero(stream.truth.start_B == start)[0]) for start in starts]


def low(stream: Stream) -> Floats:
    return np.full(stream.truth.truth_BC.shape, 0.1)


def watch(events_BC: Floats, negatives_BC: Floats, *, seed: int = 0, threshold: float = 0.5) -> Watch:
    thresholds_C = np.full(len(LABELS), threshold)
    return Watch(method="gated", seed=seed, events_BC=events_BC, negatives_BC=negatives_BC, thresholds_C=thresholds_C)


def siren(found: StreamTrack) -> ClassTrack:
    return found.methods[0].classes[SIREN]


@pytest.fixture(scope="module")
def with_events() -> Stream:
    return Stream.of(minutes(100.4, 400.0, 900.0, 1300.0, 1500.0))


@pytest.fixture(scope="module")
def negatives() -> Stream:
    return Stream.of(minutes())


def test_an_event_counts_from_its_own_start_in_the_stream(with_events: Stream) -> None:
    onsets = with_events.onset_BC[:, SIREN]
    assert sorted(set(onsets[~np.isnan(onsets)].tolist())) == [100.4, 400.0, 900.0, 1300.0, 1500.0]
    assert (~np.isnan(with_events.onset_BC) == with_events.truth.truth_BC).all()


def test_a_joint_class_begins_with_its_glass() -> None:
    stream = Stream.of([script(heard("glass_break", 4.0, 5.0), seen("person", 5.5, 8.0), seconds=60.0, start=60.0)])
    onsets = stream.onset_BC[:, LABELS.index("intrusion")]
    assert set(onsets[~np.isnan(onsets)].tolist()) == {64.0}


def test_recall_delays_and_false_alarms_at_the_calibrated_threshold(with_events: Stream, negatives: Stream) -> None:
    """Four of five events alarm: one in its first window, three in later ones. One alarm of two windows where nothing is."""
    scored, quiet = low(with_events), low(negatives)
    scored[rows_at(with_events, 99.0, 401.0, 402.0, 903.0, 1301.0), SIREN] = 0.9
    quiet[rows_at(negatives, 20.0, 21.0), SIREN] = 0.8
    found = siren(track([watch(scored, quiet)], with_events, negatives, resamples=50))
    assert found.events == 5 and found.missed == 1.0 and found.recall.mean == pytest.approx(0.8)
    assert found.recall.low <= 0.8 <= found.recall.high
    delays = [101.0 - 100.4, 403.0 - 400.0, 905.0 - 900.0, 1303.0 - 1300.0]
    assert (found.p50_s, found.p95_s) == pytest.approx(tuple(np.quantile(delays, [0.5, 0.95])))
    assert found.calibrated.count == 1.0 and found.calibrated.hours == negatives.hours
    assert found.calibrated.per_hour == pytest.approx(1 / negatives.hours)
    assert found.calibrated.low <= 0.03 / negatives.hours and found.calibrated.high >= 5.57 / negatives.hours
    assert found.alarms.count == 0.0 and found.alarms.low == 0.0 and found.alarms.high >= 3.68 / negatives.hours  # Poisson's of none


def test_all_windows_alarming_is_no_single_false_alarm(with_events: Stream, negatives: Stream) -> None:
    """Five alarms at 0.8 would become one at 0.1, where everything alarms: the one event found there does not make that good."""
    quiet = low(negatives)
    quiet[rows_at(negatives, 20.0, 120.0, 220.0, 320.0, 420.0), SIREN] = 0.8
    found = siren(track([watch(low(with_events), quiet)], with_events, negatives, resamples=20))
    assert found.alarms.count == 5.0 and found.curve[-1].per_hour == pytest.approx(5 / negatives.hours)


def test_seeds_are_averaged(with_events: Stream, negatives: Stream) -> None:
    quiet = low(negatives)
    quiet[rows_at(negatives, 20.0), SIREN] = 0.8
    scored = low(with_events)
    scored[with_events.truth.truth_BC] = 0.9
    given = [watch(scored, quiet, seed=0), watch(low(with_events), low(negatives), seed=1)]
    found = siren(track(given, with_events, negatives, resamples=20))
    assert found.calibrated.count == 0.5 and found.missed == 2.5 and found.recall.mean == 0.5
    assert found.recall.spread == pytest.approx(math.sqrt(0.5))


def test_a_class_without_an_event_has_no_threshold(with_events: Stream, negatives: Stream) -> None:
    found = track([watch(low(with_events), low(negatives))], with_events, negatives, resamples=20).methods[0].classes[0]
    assert found.events == 0 and found.curve == ()
    assert math.isnan(found.alarms.per_hour) and math.isnan(found.recall.mean) and found.calibrated.count == 0.0


@settings(max_examples=100)
@given(PLACES, st.integers(0, 7))
def test_the_curve_is_the_most_false_alarms_at_a_threshold_or_higher(windows: list[tuple[tuple[int, int], int]], cut: int) -> None:
    places, values = zip(*windows, strict=True)
    sessions, hops = zip(*places, strict=True)
    line = Timeline(session_B=np.array(sessions), hop_B=np.array(hops), hop_s=1.0)
    scores_B = np.array(values, dtype=np.float64)
    never = np.zeros(len(windows), dtype=bool)
    slow = max(false_alarms(scores_B >= threshold, never, line) for threshold in range(cut, 8))
    assert most_alarms(false_alarm_curve(scores_B, line), float(cut))[0] == slow


@pytest.mark.parametrize("count, low, high", [(0, 0.0, 3.689), (1, 0.025, 5.572), (5, 1.623, 11.668), (10, 4.795, 18.390)])
def test_poisson_bounds_are_the_published_ones(count: int, low: float, high: float) -> None:
    # Garwood 1936; as tabulated, e.g., in Ulm 1990
    assert poisson(count) == pytest.approx((low, high), abs=1e-3)


def test_half_a_count_has_the_bounds_of_the_whole_numbers_around_it() -> None:
    assert poisson(0.5) == (poisson(0)[0], poisson(1)[1])
    assert poisson(300)[0] < 300 < poisson(300)[1]


def test_what_does_not_fit_is_refused(with_events: Stream, negatives: Stream) -> None:
    with pytest.raises(ValueError, match="windows of the negatives hold an event"):
        track([], with_events, with_events)
    with pytest.raises(ValueError, match="are not the shapes"):
        track([watch(low(with_events)[:5], low(negatives))], with_events, negatives)
