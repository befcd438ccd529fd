"""Fitting: known scales, biases and temperatures come back, fallbacks say so, thresholds keep their budget."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.calibrate import CAUTIOUS, FEWEST, FEWEST_WINDOWS, Split, Views, fit, platt, scale, targets, temperature
from models.calibration import LEAST_SCALE, NEVER, PATTERNS, Calibration
from models.evaluation.alarms import Timeline, false_alarms

Array = NDArray[np.float64]


def sigmoid(odds: Array) -> Array:
    return 1 / (1 + np.exp(-odds))


def split(logits_BC: Array, truth_BC: NDArray[np.bool_], pattern_B: NDArray[np.int64] | None = None, /, **change: Any) -> Split:
    """One session of windows a second; all modalities present unless patterns are given."""
    B, C = logits_BC.shape
    present_BM = (pattern_B if pattern_B is not None else np.full(B, 7))[:, None] >> np.arange(3) & 1
    made: dict[str, Any] = {
        "name": "calibration",
        "classes": tuple(f"class{c}" for c in range(C)),
        "logits_BC": torch.tensor(logits_BC),
        "truth_BC": torch.tensor(truth_BC),
        "present_BM": torch.tensor(present_BM, dtype=torch.bool),
        "timeline": Timeline(session_B=np.zeros(B, dtype=np.int64), hop_B=np.arange(B), hop_s=1.0),
    }
    return Split(**{**made, **change})


def drawn(rng: np.random.Generator, B: int, scales: list[float], biases: list[float]) -> tuple[Array, NDArray[np.bool_]]:
    """Logits, and truths that are so likely as sigmoid(scale * logit + bias) says."""
    logits_BC = rng.normal(0, 2, (B, len(scales)))
    return logits_BC, rng.random(logits_BC.shape) < sigmoid(np.array(scales) * logits_BC + np.array(biases))


def test_known_scales_and_biases_come_back() -> None:
    scales, biases = [0.5, 1.0, 2.5], [-1.0, 0.0, -3.0]
    found = fit(split(*drawn(np.random.default_rng(0), 20_000, scales, biases)), per_hour=60.0)
    assert [each.scale for each in found.classes] == pytest.approx(scales, rel=0.1)
    assert [each.bias for each in found.classes] == pytest.approx(biases, abs=0.15)
    assert [each.fallback for each in found.classes] == [None] * 3
    assert found.temperatures[PATTERNS[7]].value == pytest.approx(1.0, abs=0.02)
    assert (found.split, found.windows, found.hours, found.per_hour) == ("calibration", 20_000, 20_000 / 3600, 60.0)
    assert Calibration.from_dict(found.to_dict()) == found


def test_known_temperatures_come_back_by_pattern() -> None:
    """Relative to each other: scales come first, so what all patterns share is in the scales."""
    rng = np.random.default_rng(1)
    pattern_B, heat_P = rng.choice([1, 2, 7], 30_000), {1: 4.0, 2: 2.0, 7: 1.0}
    logits_BC = rng.normal(0, 3, (30_000, 2))
    truth_BC = rng.random((30_000, 2)) < sigmoid(logits_BC / np.array([heat_P[p] for p in pattern_B.tolist()])[:, None])
    found = fit(split(logits_BC, truth_BC, pattern_B), per_hour=1.0).temperatures
    assert found["frames"].value / found[PATTERNS[7]].value == pytest.approx(4.0, rel=0.1)
    assert found["audio"].value / found[PATTERNS[7]].value == pytest.approx(2.0, rel=0.1)
    assert found["frames"].windows == np.count_nonzero(pattern_B == 1)
    assert [found[name].fitted_on for name in ("frames", "audio", PATTERNS[7])] == ["frames", "audio", PATTERNS[7]]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.floats(-3, 3), st.floats(-3, 3))
def test_no_other_scale_and_bias_is_likelier(seed: int, da: float, db: float) -> None:
    rng = np.random.default_rng(seed)
    logits_B = rng.normal(rng.normal(0, 50), rng.choice([1e-2, 1.0, 30.0]), 60)
    target_B = targets(rng.random(60) < 0.3)

    def loss(a: float, b: float) -> float:
        odds = a * logits_B + b
        return float(np.sum(np.logaddexp(0, odds) - target_B * odds))

    a, b = platt(logits_B, target_B)
    spread = logits_B.std()
    assert loss(a, b) <= loss(a + da / spread, b + db - da / spread * logits_B.mean()) + 1e-6


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.floats(0.05, 20))
def test_no_other_temperature_is_likelier(seed: int, other: float) -> None:
    rng = np.random.default_rng(seed)
    odds_N = rng.normal(0, rng.choice([0.3, 3.0, 30.0]), 50)
    target_N = targets(rng.random(50) < sigmoid(odds_N / 3))

    def loss(value: float) -> float:
        return float(np.sum(np.logaddexp(0, odds_N / value) - target_N * odds_N / value))

    assert loss(temperature(odds_N, target_N)) <= loss(other) + 1e-6


def test_separated_classes_stay_finite_and_short_of_certainty() -> None:
    found = scale("siren", np.array([-4.0] * 50 + [4.0] * 10), np.arange(60) >= 50)
    assert sigmoid(np.array(4.0 * found.scale + found.bias)) == pytest.approx(11 / 12)
    assert sigmoid(np.array(-4.0 * found.scale + found.bias)) == pytest.approx(1 / 52)


@pytest.mark.parametrize(
    ("positives", "fallback"), [(0, "few_positives"), (FEWEST - 1, "few_positives"), (300 - FEWEST + 1, "few_negatives")]
)
def test_a_class_with_few_labels_keeps_its_logit_and_a_cautious_threshold(positives: int, fallback: str) -> None:
    rng = np.random.default_rng(2)
    logits_BC, truth_BC = rng.normal(-3, 1, (300, 1)), (np.arange(300) < positives)[:, None]
    found = fit(split(logits_BC, truth_BC), per_hour=1e6)
    one = found.classes[0]
    assert (one.scale, one.bias, one.positives, one.fallback) == (1.0, 0.0, positives, fallback)
    assert one.threshold >= CAUTIOUS
    assert {each.fitted_on for each in found.temperatures.values()} == {None}


def test_a_class_on_its_fallback_has_no_say_in_the_temperatures() -> None:
    logits_BC, truth_BC = drawn(np.random.default_rng(5), 500, [1.0], [0.0])
    never = np.zeros((500, 1), dtype=bool)
    both = split(np.hstack([logits_BC, np.full((500, 1), 9.0)]), np.hstack([truth_BC, never]))
    assert fit(both, per_hour=1.0).temperatures == fit(split(logits_BC, truth_BC), per_hour=1.0).temperatures


@pytest.mark.parametrize("logits", [np.zeros(200), np.full(200, 3.1), -1e-9 * np.arange(200.0), np.where(np.arange(200) < 40, -1.0, 1.0)])
def test_a_class_whose_logits_do_not_rank_says_its_base_rate(logits: Array) -> None:
    found = scale("siren", logits, np.arange(200) < 40)
    assert found.fallback == "no_order" and found.scale == LEAST_SCALE
    assert sigmoid(found.scale * logits + found.bias) == pytest.approx(np.full(200, 0.2), abs=0.01)


def test_a_pattern_with_too_little_takes_the_nearest_ones_temperature() -> None:
    rng = np.random.default_rng(3)
    pattern_B = np.array([3] * 2000 + [4] * 1000 + [1] * (FEWEST_WINDOWS - 1) + [2] * 200)
    logits_BC, truth_BC = drawn(rng, pattern_B.size, [1.0], [0.0])
    truth_BC[pattern_B == 2] = np.arange(200)[:, None] < FEWEST - 1
    found = fit(split(logits_BC, truth_BC, pattern_B), per_hour=1.0).temperatures
    nearest = {"nothing": 4, "frames": 3, "audio": 3, "frames+audio": 3, "transcripts": 4, "frames+transcripts": 4}
    assert {name: PATTERNS.index(str(found[name].fitted_on)) for name in nearest} == nearest
    assert found["audio"].value == found["frames+audio"].value and found["frames"].windows == FEWEST_WINDOWS - 1


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 30.0, 120.0, 600.0]))
def test_thresholds_keep_the_budget_and_one_step_lower_breaks_it(seed: int, per_hour: float) -> None:
    rng = np.random.default_rng(seed)
    logits_BC, truth_BC = drawn(rng, 400, [1.0], [-2.0])
    data = split(logits_BC.round(1), truth_BC, rng.choice([1, 3], 400), logits_BC=torch.tensor(logits_BC.round(1), dtype=torch.float32))
    found = fit(data, per_hour=per_hour)
    probability_B = found.apply(data.logits_BC, data.present_BM).numpy()[:, 0]
    truth_B, allowed = truth_BC[:, 0], per_hour * found.hours
    cut = found.classes[0].threshold
    assert false_alarms(probability_B >= cut, truth_B, data.timeline) <= allowed
    lower = probability_B[probability_B < cut].max(initial=0.0)
    assert lower < probability_B[truth_B].min() or false_alarms(probability_B >= lower, truth_B, data.timeline) > allowed


def test_a_class_that_is_false_at_the_top_never_alarms_without_a_budget() -> None:
    logits_BC = np.array([100.0, *np.zeros(100)])[:, None]
    found = fit(split(logits_BC, np.zeros((101, 1), dtype=bool)), per_hour=0.0)
    assert found.classes[0].threshold == NEVER


def test_calibration_makes_overconfident_logits_honest() -> None:
    rng = np.random.default_rng(4)
    pattern_B, logits_BC = rng.choice([1, 7], 6000), rng.normal(-2, 3, (6000, 1))
    truth_BC = rng.random((6000, 1)) < sigmoid(logits_BC / np.where(pattern_B == 1, 5.0, 2.0)[:, None])
    halves = [slice(0, 3000), slice(3000, 6000)]
    fitting, fresh = (split(logits_BC[half], truth_BC[half], pattern_B[half]) for half in halves)
    probability_BC = fit(fitting, per_hour=1.0).apply(fresh.logits_BC, fresh.present_BM)

    def loss(p: torch.Tensor) -> float:
        return torch.nn.functional.binary_cross_entropy(p, fresh.truth_BC.double()).item()

    assert loss(probability_BC) < 0.8 * loss(fresh.logits_BC.sigmoid())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": ("one", "two")}, r"logits \(3, 1\)"),
        ({"present_BM": torch.ones(3, 2)}, r"present \(3, 2\)"),
        ({"truth_BC": torch.zeros(2, 1)}, r"truth \(2, 1\)"),
        ({"logits_BC": torch.tensor([[0.0], [math.nan], [math.inf]])}, "2 logits of split 'calibration' are not finite"),
    ],
)
def test_a_split_that_does_not_fit_together_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        split(np.zeros((3, 1)), np.zeros((3, 1), dtype=bool), **change)


def test_views_tell_temperatures_alone() -> None:
    rng = np.random.default_rng(3)
    logits_BC, truth_BC = drawn(rng, 2000, [1.0, 1.0], [0.0, -1.0])
    one = split(logits_BC, truth_BC)
    doubled_B = torch.arange(2000).repeat(2)
    present_BM = torch.tensor([[True, True, True], [True, False, False]]).repeat_interleave(2000, dim=0)
    told = torch.where(present_BM[:, 1:2], one.logits_BC[doubled_B], 3.0 * one.logits_BC[doubled_B])
    found = fit(one, per_hour=60.0, views=Views(logits_BC=told, truth_BC=one.truth_BC[doubled_B], present_BM=present_BM))
    plain = fit(one, per_hour=60.0)
    assert [(each.scale, each.bias, each.positives) for each in found.classes] == [(e.scale, e.bias, e.positives) for e in plain.classes]
    assert (found.windows, found.hours) == (plain.windows, plain.hours) == (2000, 2000 / 3600)
    assert found.temperatures[PATTERNS[1]].value == pytest.approx(3.0, rel=0.1)
    assert found.temperatures[PATTERNS[7]].value == pytest.approx(1.0, rel=0.1)
