"""Bottleneck transformer: modalities meet only in a few tokens that all of them read and write.

Nagrani et al., "Attention Bottlenecks for Multimodal Fusion", arXiv:2107.00135, section 3.2. There the class is read
from a token of each modality; here from the mean of the bottleneck tokens, so that an absent modality needs no reader of its own.

Laws:
1. A modality's token attends to its own modality and to the bottleneck.
2. The bottleneck after a layer is the mean of what the present modalities made of it.

Shape key: B windows, M modalities, T tokens of one modality, K tokens of the bottleneck, D width of the model, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.fusion.parts import Attention, Encoders, Head, masked_mean, mlp
from models.fusion.windows import MODALITIES, Widths, Windows

BOTTLENECK = 4  # tokens
LAYERS = 2


class Block(nn.Module):
    """A transformer's block, norm first."""

    def __init__(self, model: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(model) for _ in range(2))
        self.attention = Attention(model)
        self.feed = mlp(model, 2 * model, model, dropout)

    def forward(self, tokens_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """(B, T, D) to the same."""
        normed_BTD = self.norms[0](tokens_BTD)
        tokens_BTD = tokens_BTD + self.attention(normed_BTD, normed_BTD, mask_BT)
        fed_BTD: Tensor = tokens_BTD + self.feed(self.norms[1](tokens_BTD))
        return fed_BTD


class Layer(nn.Module):
    """One block by modality, over its tokens and the bottleneck's; then the bottlenecks' mean."""

    def __init__(self, model: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(model, dropout) for _ in MODALITIES)

    def forward(self, tokens: Sequence[Tensor], neck_BKD: Tensor, windows: Windows) -> tuple[list[Tensor], Tensor]:
        """Tokens by modality and the bottleneck, to the same."""
        there_BK = neck_BKD.new_ones(neck_BKD.shape[:2], dtype=torch.bool)
        after, necks = [], []
        for block, tokens_BTD, (_, stream) in zip(self.blocks, tokens, windows.streams(), strict=True):
            joint_BSD = block(torch.cat([tokens_BTD, neck_BKD], dim=1), torch.cat([stream.mask_BT, there_BK], dim=1))
            after.append(joint_BSD[:, :-BOTTLENECK])
            necks.append(joint_BSD[:, -BOTTLENECK:])
        return after, masked_mean(torch.stack(necks, dim=1), windows.present_BM)


class Bottleneck(nn.Module):
    """tokens and bottleneck -> layers -> the bottleneck's mean -> head."""

    def __init__(self, widths: Widths, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoders = Encoders(widths, dropout)
        self.neck_KD = nn.Parameter(torch.randn(BOTTLENECK, widths.model) * 0.02)
        self.layers = nn.ModuleList(Layer(widths.model, dropout) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(widths.model)
        self.head = Head(widths.model, widths, dropout)

    def forward(self, windows: Windows) -> Tensor:
        """(B, C) logits."""
        tokens = self.encoders(windows)
        neck_BKD = self.neck_KD.expand(len(windows.present_BM), -1, -1)
        for layer in self.layers:
            tokens, neck_BKD = layer(tokens, neck_BKD, windows)
        logits_BC: Tensor = self.head(self.norm(neck_BKD.mean(1)), windows.present_BM)
        return logits_BC
