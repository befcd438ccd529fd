"""How sure a figure is: bootstrap over recordings, because windows of one recording are not independent.

Laws:
1. What is drawn is a whole group (a recording and what was cut from it), with replacement, as many as there are.
2. The same generator state gives the same interval.
3. Two methods are compared on the same draws, so what they share cancels out.

A statistic takes row numbers (with repeats) and gives one figure. One that counts episodes must not see a session twice: give it one row
a group, with that group's counts and hours, and let it divide their sums.

Sources: Efron 1979; Efron & Tibshirani 1993, chapters 13 (percentile interval) and 16 (tests); cluster draws, Davison & Hinkley 1997, 3.8.
Shape key: B rows, N rows drawn, G groups, R resamples.
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
    return _interval(statistic, group_B, _resampled(statistic, group_B, rng, resamples), level)


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
    known = drawn_R[~np.isnan(drawn_R)]
    beyond = min(np.count_nonzero(known <= 0), np.count_nonzero(known >= 0))
    p = min(1.0, 2 * (beyond + 1) / (known.size + 1)) if known.size else float("nan")
    return Paired(difference=_interval(difference, group_B, drawn_R, level), p=p)


def draws(group_B: NDArray[np.int64], rng: np.random.Generator, resamples: int) -> Iterator[Rows]:
    """Row numbers of each resample: whole groups, with replacement."""
    order = np.argsort(group_B, kind="stable")
    rows_G = np.split(order, np.flatnonzero(np.diff(group_B[order])) + 1)
    if len(rows_G) < 2:
        raise ValueError(f"{group_B.size} rows in {min(group_B.size, 1)} group: a bootstrap over groups needs at least 2")
    for _ in range(resamples):
        yield np.concatenate([rows_G[at] for at in rng.integers(len(rows_G), size=len(rows_G))])


def _resampled(statistic: Statistic, group_B: NDArray[np.int64], rng: np.random.Generator, resamples: int) -> NDArray[np.float64]:
    if resamples < 1:
        raise ValueError(f"resamples={resamples} must be at least 1")
    return np.array([statistic(rows) for rows in draws(group_B, rng, resamples)], dtype=np.float64)


def _interval(statistic: Statistic, group_B: NDArray[np.int64], drawn_R: NDArray[np.float64], level: float) -> Interval:
    if not 0 < level < 1:
        raise ValueError(f"level={level} must be between 0 and 1")
    known = drawn_R[~np.isnan(drawn_R)]
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2]) if known.size else (np.nan, np.nan)
    return Interval(
        figure=float(statistic(np.arange(group_B.size))),
        low=float(low),
        high=float(high),
        groups=np.unique(group_B).size,
        undefined=drawn_R.size - known.size,
    )
