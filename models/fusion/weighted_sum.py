"""Weighted sum: one learned weight by modality, the same for every window.

Laws:
1. Weights are positive, and those of the present modalities sum to one: a missing modality leaves its share to the others.
2. With one modality present the sum is its summary.

Shape key: B windows, M modalities, D width of the model, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.fusion.parts import Head, Summaries, masked_softmax
from models.fusion.windows import MODALITIES, Widths, Windows


class WeightedSum(nn.Module):
    """summaries -> w1 x + w2 y + w3 z -> head."""

    def __init__(self, widths: Widths, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.summaries = Summaries(widths, dropout)
        self.weights_M = nn.Parameter(torch.zeros(len(MODALITIES)))
        self.head = Head(widths.model, widths, dropout)

    def forward(self, windows: Windows) -> Tensor:
        """(B, C) logits."""
        summary_BMD = self.summaries(windows)
        weights_BM = masked_softmax(self.weights_M, windows.present_BM, dim=1)
        fused_BD = (weights_BM[:, :, None] * summary_BMD).sum(1)
        logits_BC: Tensor = self.head(fused_BD, windows.present_BM)
        return logits_BC
