"""Average precision of every resample at once: scores are sorted once, resamples only say how often each group counts.

Laws:
1. A resample's figure is `metrics.average_precision` of its rows, repeated as often as they were drawn; ties count together.
2. A class without a positive drawn is NaN.

How: AP adds recall only at runs of tied scores that hold a positive. So the rows between two of those are counted by group, and one
matrix product weighs the counts of all resamples. Counts are whole numbers below 2 ** 24, which float32 holds exactly.

Shape key: B windows, C classes, G groups, R resamples, P runs of tied scores that hold a positive, from the greatest score down.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.evaluation.metrics import Bools, Floats, pairs

Ints = NDArray[np.int64]
Weights = NDArray[np.float32] | NDArray[np.float64]
_EXACT = 2**24


def average_precisions(scores_BC: Floats, truth_BC: Bools, group_B: Ints, counts_RG: Ints) -> Floats:
    """(R, C). `group_B` counts the groups of `counts_RG` (see `intervals.counts`) from 0."""
    if scores_BC.ndim != 2 or scores_BC.shape != truth_BC.shape or group_B.shape != scores_BC.shape[:1]:
        raise ValueError(f"scores {scores_BC.shape} and truth {truth_BC.shape} must both be (B, C), and groups {group_B.shape} (B,)")
    if group_B.size and not 0 <= group_B.min() <= group_B.max() < counts_RG.shape[1]:
        raise ValueError(f"groups {group_B.min()}..{group_B.max()} must be in 0..{counts_RG.shape[1] - 1}")
    rows = int((counts_RG @ np.bincount(group_B, minlength=counts_RG.shape[1])).max(initial=0))
    weight_RG: Weights = counts_RG.astype(np.float32) if rows < _EXACT else counts_RG.astype(np.float64)
    return np.stack([_of_class(*pairs(scores_BC[:, c], truth_BC[:, c]), group_B, weight_RG) for c in range(scores_BC.shape[1])], axis=1)


def _of_class(scores_B: Floats, truth_B: Bools, group_B: Ints, weight_RG: Weights) -> Floats:
    if not truth_B.any():
        return np.full(len(weight_RG), np.nan)
    order = np.argsort(-scores_B, kind="stable")
    truth_B, group_B = truth_B[order], group_B[order]
    run_B = np.cumsum(np.diff(scores_B[order], prepend=np.inf) != 0)
    holds_P = np.unique(run_B[truth_B])
    at_B = np.searchsorted(holds_P, run_B)  # P for what stands below the last positive
    alarms_RP = weight_RG @ np.cumsum(_table(group_B, at_B, weight_RG.shape[1], holds_P.size), axis=1, dtype=weight_RG.dtype)
    added_RP = weight_RG @ _table(group_B[truth_B], at_B[truth_B], weight_RG.shape[1], holds_P.size).astype(weight_RG.dtype)
    found_RP = np.cumsum(added_RP, axis=1)
    precision_RP = np.divide(found_RP, np.maximum(alarms_RP, 1), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.einsum("rp,rp->r", added_RP, precision_RP) / found_RP[:, -1], dtype=np.float64)


def _table(group_N: Ints, at_N: NDArray[np.intp], groups: int, runs: int) -> Ints:
    """(G, P): how many rows of each group stand at each place."""
    counts = np.bincount(group_N * (runs + 1) + at_N, minlength=groups * (runs + 1))
    return counts.reshape(groups, runs + 1)[:, :runs].astype(np.int64)
