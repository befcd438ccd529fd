"""How sure a figure is: bootstrap over recordings, because windows of one recording are not independent.

Laws:
1. What is drawn is a whole group (a recording and what was cut from it), with replacement, as many as there are.
2. The same generator state gives the same interval.
3. Two methods are compared on the same draws, so what they share cancels out.

A statistic takes row numbers (with repeats) and gives one figure. One that counts episodes must not see a session twice: give it one row
a group, with that group's counts and hours, and let it divide their sums.

Sources: Efron 1979; Efron & Tibshirani 1993, chapters 13 (percentile interval) and 16 (tests); cluster draws, Davison & Hinkley 1997, 3.8.
Shape key: B rows, N rows drawn, G groups in rising order of their numbers, R resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.intp]
Statistic = Callable[[Rows], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A figure on the data as they are, and where it may lie. `undefined` resamples gave NaN and were left out."""

    figure: float
    low: float
    high: float
    groups: int
    undefined: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """The first method's figure minus the second's, and the two-sided chance of a difference this large if there were none."""

    difference: Interval
    p: float


def bootstrap(
    statistic: Statistic, group_B: NDArray[np.int64], rng: np.random.Generator, *, resamples: int = 2000, level: float = 0.95
) -> Interval:
    """Percentile interval of a statistic. ValueError with fewer than two groups.

    Too narrow with few groups: for a mean of normal groups it holds the truth 90 % of the time at ten, 91 % at twenty, 93 % at forty.
    """
    figure = statistic(np.arange(group_B.size))
    return around(figure, _resampled(statistic, group_B, rng, resamples), groups=np.unique(group_B).size, level=level)


def paired(
    first: Statistic,
    second: Statistic,
    group_B: NDArray[np.int64],
    rng: np.random.Generator,
    *,
    resamples: int = 2000,
    level: float = 0.95,
) -> Paired:
    """Compare two methods on the same groups.

    p is twice the smaller share of resamples at or beyond 0, the data as they are counted once: it agrees with the interval, is never 0
    and never above 1. NaN when no resample is defined.
    """

    def difference(rows: Rows) -> float:
        return first(rows) - second(rows)

    drawn_R = _resampled(difference, group_B, rng, resamples)
    figure = difference(np.arange(group_B.size))
    return Paired(difference=around(figure, drawn_R, groups=np.unique(group_B).size, level=level), p=chance(drawn_R))


def draws(group_B: NDArray[np.int64], rng: np.random.Generator, resamples: int) -> Iterator[Rows]:
    """Row numbers of each resample: whole groups, with replacement."""
    order = np.argsort(group_B, kind="stable")
    rows_G = np.split(order, np.flatnonzero(np.diff(group_B[order])) + 1)
    for drawn_G in _drawn(len(rows_G), group_B.size, rng, resamples):
        yield np.concatenate([rows_G[at] for at in drawn_G])


def counts(group_B: NDArray[np.int64], rng: np.random.Generator, resamples: int) -> NDArray[np.int64]:
    """(R, G): how often each of the resamples that `draws` makes with the same generator holds each group."""
    groups = np.unique(group_B).size
    drawn = [np.bincount(drawn_G, minlength=groups) for drawn_G in _drawn(groups, group_B.size, rng, resamples)]
    return np.array(drawn, dtype=np.int64)


def around(figure: float, drawn_R: NDArray[np.float64], *, groups: int, level: float = 0.95) -> Interval:
    """The percentile interval of a figure of which the resamples gave `drawn_R`."""
    if not 0 < level < 1:
        raise ValueError(f"level={level} must be between 0 and 1")
    known = drawn_R[~np.isnan(drawn_R)]
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2]) if known.size else (np.nan, np.nan)
    return Interval(figure=float(figure), low=float(low), high=float(high), groups=groups, undefined=drawn_R.size - known.size)


def chance(difference_R: NDArray[np.float64]) -> float:
    """The p of `paired`, of a difference's resamples."""
    known = difference_R[~np.isnan(difference_R)]
    beyond = min(np.count_nonzero(known <= 0), np.count_nonzero(known >= 0))
    return min(1.0, 2 * (beyond + 1) / (known.size + 1)) if known.size else float("nan")


def _drawn(groups: int, rows: int, rng: np.random.Generator, resamples: int) -> Iterator[Rows]:
    if groups < 2:
        raise ValueError(f"{rows} rows in {min(rows, 1)} group: a bootstrap over groups needs at least 2")
    if resamples < 1:
        raise ValueError(f"resamples={resamples} must be at least 1")
    for _ in range(resamples):
        yield rng.integers(groups, size=groups)


def _resampled(statistic: Statistic, group_B: NDArray[np.int64], rng: np.random.Generator, resamples: int) -> NDArray[np.float64]:
    return np.array([statistic(rows) for rows in draws(group_B, rng, resamples)], dtype=np.float64)
