"""Bootstrap by recording: coverage on clustered data, whole groups, same draws for both methods."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from models.evaluation.intervals import Rows, Statistic, bootstrap, draws, paired

Values = NDArray[np.float64]


def mean_of(values: Values) -> Statistic:
    return lambda rows: float(values[rows].mean())


def clustered(rng: np.random.Generator, groups: int, size: int) -> tuple[Values, NDArray[np.int64]]:
    """Rows with mean 0 that mostly share their group's luck."""
    values = rng.normal(size=groups).repeat(size) + 0.3 * rng.normal(size=groups * size)
    return values, np.arange(groups).repeat(size)


def test_whole_groups_are_drawn_and_as_many_as_there_are() -> None:
    group = np.array([5, 2, 5, 9, 2, 5])
    for rows in draws(group, np.random.default_rng(0), 200):
        counts = {g: np.bincount(rows, minlength=6)[group == g].tolist() for g in (2, 5, 9)}
        assert all(len(set(each)) == 1 for each in counts.values())
        assert sum(each[0] for each in counts.values()) == 3


def test_the_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    covered, naive, trials = 0, 0, 150
    for seed in range(trials):
        rng = np.random.default_rng(seed)
        values, group = clustered(rng, groups=30, size=4)
        by_group = bootstrap(mean_of(values), group, rng, resamples=150)
        by_row = values.std() / math.sqrt(values.size) * 1.96
        covered += by_group.low <= 0 <= by_group.high
        naive += abs(values.mean()) <= by_row
    assert 0.90 <= covered / trials <= 0.98
    assert naive / trials < 0.75  # windows taken as independent: what the groups are for


def test_the_same_seed_gives_the_same_interval_around_the_figure() -> None:
    values, group = clustered(np.random.default_rng(1), groups=12, size=4)
    one, other = (bootstrap(mean_of(values), group, np.random.default_rng(2), resamples=100) for _ in range(2))
    assert one == other
    assert one.low < one.figure < one.high and one.groups == 12 and one.undefined == 0
    wide = bootstrap(mean_of(values), group, np.random.default_rng(2), resamples=100, level=0.99)
    assert wide.low <= one.low and one.high <= wide.high


def test_undefined_resamples_are_counted_and_left_out() -> None:
    truth = np.array([1.0, 0.0, 0.0])

    def undefined_without_truth(rows: Rows) -> float:
        return float(truth[rows].mean()) if truth[rows].any() else float("nan")

    found = bootstrap(undefined_without_truth, np.arange(3), np.random.default_rng(4), resamples=500)
    assert found.undefined / 500 == pytest.approx((2 / 3) ** 3, abs=0.07)
    assert found.low >= 1 / 3 and found.high <= 1.0
    never = bootstrap(lambda rows: float("nan"), np.arange(3), np.random.default_rng(4), resamples=5)
    assert math.isnan(never.low) and never.undefined == 5


def test_methods_that_are_the_same_do_not_differ() -> None:
    values, group = clustered(np.random.default_rng(5), groups=10, size=3)
    same = paired(mean_of(values), mean_of(values), group, np.random.default_rng(6), resamples=100)
    assert (same.difference.low, same.difference.high, same.p) == (0.0, 0.0, 1.0)


def test_a_small_steady_difference_shows_only_when_paired() -> None:
    rng = np.random.default_rng(7)
    values, group = clustered(rng, groups=30, size=4)
    better = values + 0.1 + 0.02 * rng.normal(size=values.size)
    found = paired(mean_of(better), mean_of(values), group, np.random.default_rng(8), resamples=400)
    assert found.p == pytest.approx(2 / 401) and 0 < found.difference.low < 0.1 < found.difference.high < 0.12
    turned = paired(mean_of(values), mean_of(better), group, np.random.default_rng(8), resamples=400)
    assert turned.p == found.p and turned.difference.low == pytest.approx(-found.difference.high)
    alone = [bootstrap(mean_of(each), group, np.random.default_rng(8), resamples=400) for each in (better, values)]
    assert alone[0].low < alone[1].high  # the two intervals overlap


def test_p_is_small_as_often_as_it_says_when_there_is_no_difference() -> None:
    small, trials = 0, 120
    for seed in range(trials):
        rng = np.random.default_rng(1000 + seed)
        one, group = clustered(rng, groups=25, size=2)
        other, _ = clustered(rng, groups=25, size=2)
        found = paired(mean_of(one), mean_of(other), group, rng, resamples=120)
        small += found.p < 0.05
        assert (found.p < 0.03) <= (not found.difference.low <= 0 <= found.difference.high)  # test and interval agree
    assert 0.01 <= small / trials <= 0.10


def test_what_cannot_be_resampled_is_refused() -> None:
    rng = np.random.default_rng(9)
    with pytest.raises(ValueError, match="5 rows in 1 group"):
        bootstrap(mean_of(np.zeros(5)), np.zeros(5, dtype=np.int64), rng)
    with pytest.raises(ValueError, match="resamples=0"):
        bootstrap(mean_of(np.zeros(2)), np.arange(2), rng, resamples=0)
    with pytest.raises(ValueError, match=r"level=1\.0"):
        bootstrap(mean_of(np.zeros(2)), np.arange(2), rng, resamples=2, level=1.0)
