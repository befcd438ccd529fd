"""How well scores rank and how honest they are as probabilities.

Laws:
1. A figure depends on the set of (score, truth) pairs alone: never on their order. Tied scores count together.
2. Ranking figures do not change when scores pass through a strictly rising function.
3. What is undefined (a class without a positive, for AP) is NaN, never 0 or 1. A wrong shape or a score that is no number: ValueError.

Sources: AUROC as the Mann-Whitney statistic, Hanley & McNeil 1982; calibration error, Guo et al. 2017; Brier 1950.
Shape key: B windows, C classes. Scores are floats, truth is bool.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

BINS = 15
"""Of the expected calibration error, as in Guo et al."""


def pairs(scores_B: Floats, truth_B: Bools) -> tuple[Floats, Bools]:
    """The same, as float64 and bool. ValueError where they do not pair up or a score is no finite number."""
    scores_B, truth_B = np.asarray(scores_B, dtype=np.float64), np.asarray(truth_B)
    if scores_B.ndim != 1 or scores_B.shape != truth_B.shape or truth_B.dtype != np.bool_:
        raise ValueError(f"scores {scores_B.shape} and truth {truth_B.shape} {truth_B.dtype} must be one float and one bool a window")
    if not np.isfinite(scores_B).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(scores_B))} of {scores_B.size} scores are not finite")
    return scores_B, truth_B


def average_precision(scores_B: Floats, truth_B: Bools) -> float:
    """Precision at each distinct score, weighted by the recall that it adds (no interpolation). NaN without a positive."""
    scores_B, truth_B = pairs(scores_B, truth_B)
    if not truth_B.any():
        return float("nan")
    order = np.argsort(-scores_B, kind="stable")
    last = np.flatnonzero(np.diff(scores_B[order], append=-np.inf))  # of each run of ties
    found = np.cumsum(truth_B[order])[last]
    return float(np.sum(np.diff(found, prepend=0) * (found / (last + 1))) / found[-1])


def mean_average_precision(scores_BC: Floats, truth_BC: Bools) -> float:
    """The mean over the classes that have a positive. NaN when none has."""
    if scores_BC.ndim != 2 or scores_BC.shape != truth_BC.shape:
        raise ValueError(f"scores {scores_BC.shape} and truth {truth_BC.shape} must both be (B, C)")
    every = [average_precision(scores_BC[:, at], truth_BC[:, at]) for at in range(scores_BC.shape[1]) if truth_BC[:, at].any()]
    return float(np.mean(every)) if every else float("nan")


def auroc(scores_B: Floats, truth_B: Bools) -> float:
    """The chance that a positive window outscores a negative one, a tie being half. NaN unless there are both."""
    scores_B, truth_B = pairs(scores_B, truth_B)
    positives = int(truth_B.sum())
    negatives = truth_B.size - positives
    if not positives or not negatives:
        return float("nan")
    _, at_B, counts = np.unique(scores_B, return_inverse=True, return_counts=True)
    rank_B = (np.cumsum(counts) - (counts - 1) / 2)[at_B]
    return float((rank_B[truth_B].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def calibration_error(probability_B: Floats, truth_B: Bools, *, bins: int = BINS) -> float:
    """Expected calibration error: |mean probability - share of positives| per bin, weighted by the bin's windows. 0..1.

    Bins have equal mass (their edges are quantiles: with rare classes, bins of equal width would leave all but one empty), and tied
    probabilities share one, so there may be fewer. It is biased upwards when bins hold few windows. NaN without a window.
    """
    probability_B, truth_B = _probabilities(probability_B, truth_B)
    if bins < 1:
        raise ValueError(f"bins={bins} must be at least 1")
    if not truth_B.size:
        return float("nan")
    inner = np.unique(np.quantile(probability_B, np.arange(1, bins) / bins, method="inverted_cdf"))
    at_B = np.searchsorted(inner, probability_B, side="left")
    surplus = np.bincount(at_B, weights=probability_B - truth_B)
    return float(np.abs(surplus).sum() / truth_B.size)


def brier(probability_B: Floats, truth_B: Bools) -> float:
    """Mean squared difference of probability and truth, 0..1; smaller is better. NaN without a window."""
    probability_B, truth_B = _probabilities(probability_B, truth_B)
    return float(np.mean((probability_B - truth_B) ** 2)) if truth_B.size else float("nan")


def dominance_gap(fused_B: Floats, left: Mapping[str, Floats], truth_B: Bools) -> float:
    """AP of the fused scores minus the AP of the best single modality of those `left` (scores by name). Below 0, fusing did harm."""
    if not left:
        raise ValueError("no modality is left to compare the fused scores with")
    return average_precision(fused_B, truth_B) - max(average_precision(scores_B, truth_B) for scores_B in left.values())


def retention(degraded: float, full: float) -> float:
    """The share of a figure (AP, mAP) that is kept when modalities are lost or spoilt. NaN when there was none to keep."""
    return degraded / full if full else float("nan")


def _probabilities(probability_B: Floats, truth_B: Bools) -> tuple[Floats, Bools]:
    probability_B, truth_B = pairs(probability_B, truth_B)
    if truth_B.size and not (probability_B.min() >= 0 and probability_B.max() <= 1):
        raise ValueError(f"probabilities in {probability_B.min()}..{probability_B.max()} must be in 0..1")
    return probability_B, truth_B
