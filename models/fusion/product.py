"""Product: all interactions of one, two and three modalities, by a tensor of low rank.

Liu et al., "Efficient Low-rank Multimodal Fusion", arXiv:1806.00064. There a modality's factor is W [x; 1]; here it is 1 + W x, the same
family, started where a product passes gradients.

Laws:
1. An absent modality's factor is one: the product is the present ones'.
2. With all W zero, every window is fused to the same vector.

Shape key: B windows, M modalities, R rank, D width of the model, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.fusion.parts import Head, Summaries
from models.fusion.windows import MODALITIES, Widths, Windows

RANK = 4


class Product(nn.Module):
    """summaries -> (1 + Wx x) * (1 + Wy y) * (1 + Wz z), summed over the rank -> head."""

    def __init__(self, widths: Widths, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.summaries = Summaries(widths, dropout)
        self.factors = nn.ModuleList(nn.Linear(widths.model, RANK * widths.model) for _ in MODALITIES)
        self.rank = nn.Linear(RANK, 1)
        self.head = Head(widths.model, widths, dropout)

    def forward(self, windows: Windows) -> Tensor:
        """(B, C) logits."""
        summary_BMD = self.summaries(windows)
        parts = [1.0 + factor(summary_BMD[:, at]).unflatten(1, (-1, RANK)) for at, factor in enumerate(self.factors)]
        factors_BMDR = torch.where(windows.present_BM[:, :, None, None], torch.stack(parts, dim=1), 1.0)
        fused_BD = self.rank(factors_BMDR.prod(1)).squeeze(-1)
        logits_BC: Tensor = self.head(fused_BD, windows.present_BM)
        return logits_BC
