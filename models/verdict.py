"""What a head says of windows, and which modality said how much of it: all in calibrated log-odds.

Laws:
1. Shares are exact Shapley values (models/explain.py). With `empty_BC`, what the head would say of nothing at all, they sum to the
   log-odds of the probability.
2. A modality that is absent has a share of exactly 0.
3. In float64 the same features score the same whatever else is in the batch, to more digits than are written. What encoders make of an
   event, in float32, depends on the batch in the seventh digit: a replay repeats a score but for what lies that near to where it is
   rounded.

Shape key: as in models/fusion/windows.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from models.calibration import Calibration
from models.explain import shapley
from models.fusion.windows import Windows
from models.head import FusionHead

DIGITS = 5
"""Of what is written down: significant ones of a probability, decimals of a share."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdict:
    """Float64. Probabilities, and the log-odds that they are made of."""

    probability_BC: Tensor
    share_BMC: Tensor
    empty_BC: Tensor

    def take(self, rows_N: Tensor) -> Verdict:
        """Of those windows, in that order."""
        return Verdict(probability_BC=self.probability_BC[rows_N], share_BMC=self.share_BMC[rows_N], empty_BC=self.empty_BC[rows_N])


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


def probability_written(value: float) -> float:
    """As it stands in a record."""
    return float(f"{value:.{DIGITS}g}")


def share_written(value: float) -> float:
    """As it stands in a record: what is 0 but for rounding is 0."""
    return round(value, DIGITS) + 0.0
