"""All resamples at once against `metrics.average_precision` of the repeated rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation.intervals import counts, draws
from models.evaluation.metrics import average_precision
from models.evaluation.resampled import average_precisions

SCORE = st.one_of(st.integers(0, 3).map(float), st.floats(-5, 5))  # the integers tie
ROW = st.tuples(SCORE, st.booleans(), st.integers(0, 4))


@settings(max_examples=150)
@given(st.lists(ROW, min_size=2, max_size=40).filter(lambda rows: len({row[2] for row in rows}) > 1), st.integers(0, 1000))
def test_each_resample_is_average_precision_of_its_repeated_rows(rows: list[tuple[float, bool, int]], seed: int) -> None:
    scores_B, truth_B, label_B = (np.array(column) for column in zip(*rows, strict=True))
    group_B = np.unique(label_B, return_inverse=True)[1]
    counts_RG = counts(group_B, np.random.default_rng(seed), 8)
    found_R = average_precisions(scores_B[:, None], truth_B[:, None], group_B, counts_RG)[:, 0]
    expected = [average_precision(scores_B[drawn], truth_B[drawn]) for drawn in draws(group_B, np.random.default_rng(seed), 8)]
    np.testing.assert_allclose(found_R, expected, rtol=1e-12)


def test_counts_too_large_for_float32_are_exact_too() -> None:
    scores_BC, truth_BC = np.array([[0.9], [0.8], [0.7]]), np.array([[False], [True], [True]])
    found = average_precisions(scores_BC, truth_BC, np.array([0, 1, 2]), np.array([[2**25 + 1, 1, 1]]))
    a = 2**25 + 1
    assert found[0, 0] == pytest.approx((1 / (a + 1) + 2 / (a + 2)) / 2, rel=1e-12)


def test_a_class_without_a_positive_is_undefined_in_every_resample() -> None:
    found = average_precisions(np.zeros((2, 1)), np.zeros((2, 1), dtype=bool), np.arange(2), np.ones((3, 2), dtype=np.int64))
    assert np.isnan(found).all() and found.shape == (3, 1)


def test_groups_that_were_not_drawn_from_are_refused() -> None:
    with pytest.raises(ValueError, match=r"groups 0\.\.2 must be in 0\.\.1"):
        average_precisions(np.zeros((2, 1)), np.zeros((2, 1), dtype=bool), np.array([0, 2]), np.ones((3, 2), dtype=np.int64))
    with pytest.raises(ValueError, match="must both be"):
        average_precisions(np.zeros((2, 1)), np.zeros((2, 2), dtype=bool), np.array([0, 1]), np.ones((3, 2), dtype=np.int64))
