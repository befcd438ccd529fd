"""Ranking and calibration figures against slow, obvious versions, and the examples of their papers' users."""

from __future__ import annotations

import math
from itertools import product
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.metrics import (
    Bools,
    Floats,
    auroc,
    average_precision,
    brier,
    calibration_error,
    dominance_gap,
    mean_average_precision,
    retention,
)

SCORE = st.one_of(st.integers(0, 4).map(float), st.floats(-5, 5))  # the integers tie
PAIRS = st.lists(st.tuples(SCORE, st.booleans()), min_size=1, max_size=40)
CHANCES = st.lists(st.tuples(st.one_of(st.sampled_from([0.0, 0.2, 0.5, 1.0]), st.floats(0, 1)), st.booleans()), min_size=1, max_size=60)


def columns(pairs: list[tuple[float, bool]]) -> tuple[Floats, Bools]:
    scores, truth = zip(*pairs, strict=True)
    return np.array(scores, dtype=np.float64), np.array(truth, dtype=bool)


def slow_average_precision(pairs: list[tuple[float, bool]]) -> float:
    """At every distinct score, from above: the precision there times the recall that it adds."""
    positives, before, total = sum(true for _, true in pairs), 0, 0.0
    for threshold in sorted({score for score, _ in pairs}, reverse=True):
        alarmed = [true for score, true in pairs if score >= threshold]
        total += (sum(alarmed) - before) / positives * sum(alarmed) / len(alarmed)
        before = sum(alarmed)
    return total


@settings(deadline=None, max_examples=50)
@given(PAIRS)
def test_average_precision_equals_the_slow_one_with_ties(pairs: list[tuple[float, bool]]) -> None:
    found = average_precision(*columns(pairs))
    assert math.isnan(found) if not any(true for _, true in pairs) else found == pytest.approx(slow_average_precision(pairs))


def test_average_precision_of_published_examples() -> None:
    # scikit-learn's documentation: average_precision_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) = 0.83...
    found = average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    assert found == pytest.approx(5 / 6)
    # Manning, Raghavan & Schuetze 2008: the mean precision at the relevant of a ranked list, here at ranks 1, 3 and 6
    ranked = np.array([True, False, True, False, False, True])
    assert average_precision(-np.arange(6.0), ranked) == pytest.approx((1 + 2 / 3 + 3 / 6) / 3)


def test_all_tied_scores_have_the_precision_of_chance() -> None:
    assert average_precision(np.zeros(10), np.arange(10) < 3) == pytest.approx(0.3)
    assert auroc(np.zeros(10), np.arange(10) < 3) == 0.5


@settings(deadline=None, max_examples=50)
@given(PAIRS)
def test_auroc_equals_counting_pairs(pairs: list[tuple[float, bool]]) -> None:
    highs, lows = [s for s, true in pairs if true], [s for s, true in pairs if not true]
    wins = [(high > low) + 0.5 * (high == low) for high, low in product(highs, lows)]
    found = auroc(*columns(pairs))
    assert found == pytest.approx(np.mean(wins)) if wins else math.isnan(found)


@settings(deadline=None, max_examples=50)
@given(PAIRS, st.randoms(use_true_random=False))
def test_order_and_a_rising_function_change_no_ranking_figure(pairs: list[tuple[float, bool]], random: Random) -> None:
    scores, truth = columns(pairs)
    at = np.array(random.sample(range(len(pairs)), len(pairs)))
    _, rank = np.unique(scores, return_inverse=True)
    for figure in (average_precision, auroc):
        assert figure(scores[at], truth[at]) == pytest.approx(figure(scores, truth), nan_ok=True)
        assert figure(np.exp(rank / 10), truth) == pytest.approx(figure(scores, truth), nan_ok=True)


def test_the_mean_leaves_out_classes_without_a_positive() -> None:
    scores = np.array([[0.9, 0.1, 0.5], [0.1, 0.9, 0.5]])
    truth = np.array([[True, True, False], [False, False, False]])
    assert mean_average_precision(scores, truth) == pytest.approx((1.0 + 0.5) / 2)
    assert math.isnan(mean_average_precision(scores, np.zeros((2, 3), dtype=bool)))


def test_calibration_error_by_hand() -> None:
    probability = np.array([0.1, 0.1, 0.1, 0.1, 0.8, 0.8])
    truth = np.array([False, False, False, True, True, True])
    assert calibration_error(probability, truth, bins=2) == pytest.approx(4 / 6 * 0.15 + 2 / 6 * 0.2)
    assert brier(probability, truth) == pytest.approx((3 * 0.01 + 0.81 + 2 * 0.04) / 6)


@settings(deadline=None, max_examples=50)
@given(CHANCES, st.integers(1, 20), st.randoms(use_true_random=False))
def test_calibration_error_is_bounded_and_knows_no_order(chances: list[tuple[float, bool]], bins: int, random: Random) -> None:
    probability, truth = columns(chances)
    error = calibration_error(probability, truth, bins=bins)
    assert abs(probability.mean() - truth.mean()) - 1e-9 <= error <= 1 + 1e-9
    assert error <= math.sqrt(brier(probability, truth)) + 1e-9
    at = np.array(random.sample(range(len(chances)), len(chances)))
    assert calibration_error(probability[at], truth[at], bins=bins) == pytest.approx(error)


def test_bins_have_equal_mass_where_nothing_ties() -> None:
    """With bins as fine as the windows, each is its own: the error is the mean absolute one."""
    probability, truth = np.linspace(0.01, 0.99, 30), np.arange(30) % 2 == 0
    assert calibration_error(probability, truth, bins=30) == pytest.approx(np.abs(probability - truth).mean())


def test_honest_probabilities_have_a_small_error_and_overconfident_ones_a_large() -> None:
    rng = np.random.default_rng(3)
    probability = rng.beta(0.3, 3.0, 20_000)
    truth = rng.random(20_000) < probability
    assert calibration_error(probability, truth) < 0.01
    assert calibration_error(np.clip(3 * probability, 0, 1), truth) > 0.1


def test_the_gap_is_against_the_best_modality_left_and_may_be_below_0() -> None:
    truth = np.array([True, False, True, False])
    good, bad = np.array([0.9, 0.1, 0.8, 0.2]), np.array([0.1, 0.9, 0.2, 0.8])
    assert dominance_gap(good, {"frames": bad, "audio": good}, truth) == 0
    assert dominance_gap(bad, {"frames": bad, "audio": good}, truth) < 0 < dominance_gap(good, {"frames": bad}, truth)
    with pytest.raises(ValueError, match="no modality is left"):
        dominance_gap(good, {}, truth)


def test_retention_is_the_share_kept() -> None:
    assert retention(0.3, 0.6) == 0.5
    assert math.isnan(retention(0.3, 0.0))


@pytest.mark.parametrize(
    ("scores", "truth", "said"),
    [
        (np.array([0.1, np.nan]), np.array([True, False]), "1 of 2 scores are not finite"),
        (np.array([0.1]), np.array([True, False]), "must be one float and one bool a window"),
        (np.array([0.1]), np.array([1]), "must be one float and one bool a window"),
        (np.zeros((2, 2)), np.zeros((2, 2), dtype=bool), "must be one float and one bool a window"),
    ],
)
def test_what_is_no_pair_is_refused(scores: Floats, truth: Bools, said: str) -> None:
    for figure in (average_precision, auroc, calibration_error, brier):
        with pytest.raises(ValueError, match=said):
            figure(scores, truth)


def test_a_logit_is_no_probability() -> None:
    for figure in (calibration_error, brier):
        with pytest.raises(ValueError, match=r"must be in 0\.\.1"):
            figure(np.array([-2.0, 0.5]), np.array([True, False]))
