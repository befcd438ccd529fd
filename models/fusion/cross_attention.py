"""Cross attention: z = w1 x + w2 y + Att(x, y) for each pair of modalities that is present; their mean.

x and y are two modalities' summaries. Att(x, y) reads both ways: x asks the tokens of y, and y those of x (as the co-attention of Lu et
al., arXiv:1908.02265, but with one query each).

Laws:
1. A pair counts where both are present.
2. With one modality present z is its summary.

Shape key: B windows, M modalities, P pairs, T tokens of x, S tokens of y, D width of the model, C classes.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn

from models.fusion.parts import Attention, Encoders, Head, Pools, masked_mean
from models.fusion.windows import MODALITIES, Widths, Windows

PAIRS = tuple(combinations(range(len(MODALITIES)), 2))


class Pair(nn.Module):
    """w1 x + w2 y + Att(x, y)."""

    def __init__(self, model: int) -> None:
        super().__init__()
        self.weights_2 = nn.Parameter(torch.full((2,), 0.5))
        self.attention = Attention(model)

    def forward(self, x: tuple[Tensor, Tensor, Tensor], y: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Each a summary (B, D), its tokens (B, T, D) and their mask (B, T); to (B, D)."""
        (x_BD, x_BTD, x_BT), (y_BD, y_BSD, y_BS) = x, y
        read_BD = self.attention(x_BD[:, None], y_BSD, y_BS) + self.attention(y_BD[:, None], x_BTD, x_BT)
        fused_BD: Tensor = self.weights_2[0] * x_BD + self.weights_2[1] * y_BD + read_BD.squeeze(1)
        return fused_BD


class CrossAttention(nn.Module):
    """tokens -> summaries -> pairs -> their mean -> head."""

    def __init__(self, widths: Widths, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoders = Encoders(widths, dropout)
        self.pools = Pools(widths)
        self.pairs = nn.ModuleList(Pair(widths.model) for _ in PAIRS)
        self.head = Head(widths.model, widths, dropout)

    def forward(self, windows: Windows) -> Tensor:
        """(B, C) logits."""
        tokens = self.encoders(windows)
        summary_BMD = self.pools(tokens, windows)
        sides = list(zip(summary_BMD.unbind(1), tokens, (stream.mask_BT for _, stream in windows.streams()), strict=True))
        pairs_BPD = torch.stack([pair(sides[x], sides[y]) for pair, (x, y) in zip(self.pairs, PAIRS, strict=True)], dim=1)
        both_BP = torch.stack([windows.present_BM[:, pair].all(1) for pair in PAIRS], dim=1)
        fused_BD = torch.where(both_BP.any(1, keepdim=True), masked_mean(pairs_BPD, both_BP), summary_BMD.sum(1))
        logits_BC: Tensor = self.head(fused_BD, windows.present_BM)
        return logits_BC
