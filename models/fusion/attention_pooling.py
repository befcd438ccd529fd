"""Attention pooling: every token of every modality in one bag, read by one learned query with several heads.

The pooling of Lee et al., "Set Transformer", arXiv:1810.00825 (section 3.2), with one seed.

Laws:
1. Tokens compete over the modalities: a modality with more to say gets more of the weight.
2. The order of the tokens says nothing.

Shape key: B windows, S tokens of all modalities, D width of the model, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.fusion.parts import Attention, Encoders, Head
from models.fusion.windows import Widths, Windows


class AttentionPooling(nn.Module):
    """tokens of all -> attention of one query -> head."""

    def __init__(self, widths: Widths, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoders = Encoders(widths, dropout)
        self.query_1D = nn.Parameter(torch.randn(1, widths.model))
        self.attention = Attention(widths.model)
        self.head = Head(widths.model, widths, dropout)

    def forward(self, windows: Windows) -> Tensor:
        """(B, C) logits."""
        tokens_BSD = torch.cat(self.encoders(windows), dim=1)
        mask_BS = torch.cat([stream.mask_BT for _, stream in windows.streams()], dim=1)
        fused_B1D = self.attention(self.query_1D.expand(len(mask_BS), 1, -1), tokens_BSD, mask_BS)
        logits_BC: Tensor = self.head(fused_B1D.squeeze(1), windows.present_BM)
        return logits_BC
