"""Log-odds: late fusion without anything that looks across modalities.

The mean of the experts' log-odds is the logarithmic opinion pool (Genest and Zidek, Statistical Science 1986); the sum relative to the
prior is Bayes' rule where modalities are independent given the class.

Laws:
1. Mean: each expert with a voice in a class counts the same.
2. Total: prior + the sum of what each adds to the prior.
3. With one modality present both are its expert, to the bit.

Shape key: B windows, M modalities, C classes.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.fusion.experts import Experts
from models.fusion.windows import Widths, Windows


class LogOdds(nn.Module):
    """experts -> mean or total."""

    def __init__(self, widths: Widths, *, dropout: float = 0.0, total: bool = False) -> None:
        super().__init__()
        self.experts = Experts(widths, dropout)
        self.total = total

    def forward(self, windows: Windows) -> Tensor:
        """(B, C) logits."""
        opinions = self.experts(windows)
        count_BC = opinions.voices_BMC.sum(1).clamp(min=1)
        pooled_BC: Tensor = opinions.pooled(opinions.voices_BMC / count_BC[:, None], count_BC if self.total else 1.0)
        return pooled_BC
