"""What a head says of windows, and which modality said how much of it: all in calibrated log-odds.

Laws:
1. Shares are exact Shapley values (models/explain.py). With `empty_BC`, what the head would say of nothing at all, they sum to the
   log-odds of the probability.
2. A modality that is absent has a share of exactly 0.
3. In float64 a window scores the same whatever else is in its batch, to more digits than `DIGITS`: a replay repeats a score to the digit.

Shape key: as in models/fusion/windows.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from models.calibration import Calibration
from models.explain import shapley
from models.fusion.windows import Windows
from models.head import FusionHead

DIGITS = 9
"""Significant, of what is written down."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdict:
    """Float64. Probabilities, and the log-odds that they are made of."""

    probability_BC: Tensor
    share_BMC: Tensor
    empty_BC: Tensor


def judge(head: FusionHead, windows: Windows) -> Verdict:
    """The windows are read once, then fused in one batch of eight rows each. ValueError: the head is not calibrated, or of other widths."""
    calibration, present_BM = calibration_of(head), windows.present_BM
    found = shapley(*head.read(windows))
    return Verdict(
        probability_BC=calibration.apply(found.logit_BC, present_BM),
        share_BMC=found.share_BMC * calibration.slopes(present_BM)[:, None, :],
        empty_BC=calibration.odds(found.empty_BC, present_BM),
    )


def calibration_of(head: FusionHead) -> Calibration:
    """ValueError where it has none."""
    if head.calibration is None:
        raise ValueError(f"the head {head.about.method} is not calibrated")
    return head.calibration


def written(value: float) -> float:
    """As it stands in a record: rounded to DIGITS."""
    return float(f"{value:.{DIGITS}g}")
