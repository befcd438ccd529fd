"""Concatenation: the summaries side by side, and a learned vector where a modality is missing.

The plain fusion of features that Baltrusaitis et al. describe (arXiv:1705.09406, section 6.1).

Law: an absent modality is always the same learned vector.

Shape key: B windows, M modalities, D width of the model, C classes.
"""

from __future__ import annotations

from torch import Tensor, nn

from models.fusion.parts import Head, Summaries
from models.fusion.windows import MODALITIES, Widths, Windows


class Concatenation(nn.Module):
    """summaries -> [x; y; z] -> head."""

    def __init__(self, widths: Widths, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.summaries = Summaries(widths, dropout, missing=True)
        self.head = Head(len(MODALITIES) * widths.model, widths, dropout)

    def forward(self, windows: Windows) -> Tensor:
        """(B, C) logits."""
        summary_BMD = self.summaries(windows)
        logits_BC: Tensor = self.head(summary_BMD.flatten(1), windows.present_BM)
        return logits_BC
