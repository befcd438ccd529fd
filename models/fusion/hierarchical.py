"""Hierarchical: picture and sound first, to a scene; then the scene and the words.

As Majumder et al., "Multimodal Sentiment Analysis using Hierarchical Fusion", arXiv:1806.06228, with one pair instead of all three: what
is seen and heard happens at the same instant, what is said refers to it.

Laws:
1. Two that are both present are merged as x + y + f(x, y).
2. Where one of the two is absent, the other passes unchanged.

Shape key: B windows, D width of the model, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.fusion.parts import Head, Summaries, mlp
from models.fusion.windows import Widths, Windows


class Merge(nn.Module):
    """Two vectors to one, where both are there."""

    def __init__(self, model: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.together = mlp(2 * model, model, model, dropout)

    def forward(self, x_BD: Tensor, y_BD: Tensor, both_B: Tensor) -> Tensor:
        """An absent one is zeros."""
        return x_BD + y_BD + torch.where(both_B[:, None], self.together(torch.cat([x_BD, y_BD], dim=1)), 0.0)


class Hierarchical(nn.Module):
    """(frames, audio) -> scene; (scene, transcripts) -> head."""

    def __init__(self, widths: Widths, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.summaries = Summaries(widths, dropout)
        self.scene = Merge(widths.model, dropout)
        self.story = Merge(widths.model, dropout)
        self.head = Head(widths.model, widths, dropout)

    def forward(self, windows: Windows) -> Tensor:
        """(B, C) logits."""
        frames_BD, audio_BD, transcripts_BD = self.summaries(windows).unbind(1)
        frames_B, audio_B, transcripts_B = windows.present_BM.unbind(1)
        scene_BD = self.scene(frames_BD, audio_BD, frames_B & audio_B)
        story_BD = self.story(scene_BD, transcripts_BD, (frames_B | audio_B) & transcripts_B)
        logits_BC: Tensor = self.head(story_BD, windows.present_BM)
        return logits_BC
