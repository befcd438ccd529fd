"""Windows as they might have been: on what the encoders made, scaled (models/head.py). Spoilt media come as windows of their own.

Laws:
1. What is absent stays absent, and nothing vanishes: a modality keeps one token at least, a partial view one modality.
2. Draws come from the generator alone: on one device as on another.

Shape key: as in models/fusion/windows.py; K subsets.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from models.fusion.windows import MODALITIES, Stream, Windows
from models.training.recipe import Recipe

SUBSETS_KM = torch.cartesian_prod(*[torch.tensor([False, True])] * len(MODALITIES)).flip(1)
"""Subset k has modality m when bit m of k is set."""


def shaken(windows: Windows, recipe: Recipe, generator: Generator) -> Windows:
    """Every stream with noise, and with some tokens left out."""
    return Windows(**{name: shaken_stream(stream, recipe, generator) for name, stream in windows.streams()})


def shaken_stream(stream: Stream, recipe: Recipe, generator: Generator) -> Stream:
    """One modality."""

    def noise(like: Tensor, scale: float) -> Tensor:
        return torch.randn(like.shape, generator=generator).to(like.device).mul_(scale)

    left_BT = torch.rand(stream.mask_BT.shape, generator=generator).to(stream.mask_BT.device) >= recipe.token_dropout
    mask_BT = stream.mask_BT & left_BT
    mask_BT = torch.where(mask_BT.any(1, keepdim=True), mask_BT, stream.mask_BT)
    tokens_BTD = stream.tokens_BTD + noise(stream.tokens_BTD, recipe.token_noise) if recipe.token_noise else stream.tokens_BTD
    return Stream.of(tokens_BTD, mask_BT, stream.quality_BQ + noise(stream.quality_BQ, recipe.quality_jitter))


def parts(present_BM: Tensor, whole: float, generator: Generator) -> Tensor:
    """A part of each window's modalities, bool (B, M): all of them with that chance, else any other non-empty subset alike."""
    own_BK = inside(present_BM)
    own_BK[:, 0] = False
    other_BK = own_BK & (SUBSETS_KM.to(own_BK.device).sum(1) < present_BM.sum(1, keepdim=True))
    rank_BK = torch.rand(own_BK.shape, generator=generator).to(own_BK.device) * other_BK
    full_B = (torch.rand(len(present_BM), generator=generator).to(own_BK.device) < whole) | ~other_BK.any(1)
    return torch.where(full_B[:, None], present_BM, SUBSETS_KM.to(own_BK.device)[rank_BK.argmax(1)])


def views(present_BM: Tensor) -> tuple[Tensor, Tensor]:
    """Every window in every non-empty subset of its modalities: which window, (N,), and what is kept, (N, M)."""
    own_BK = inside(present_BM)
    own_BK[:, 0] = False
    row_N, subset_N = own_BK.nonzero(as_tuple=True)
    return row_N, SUBSETS_KM.to(subset_N.device)[subset_N]


def inside(present_BM: Tensor) -> Tensor:
    """Which subsets hold nothing but what a window has, (B, K)."""
    return (present_BM[:, None] | ~SUBSETS_KM.to(present_BM.device)).all(2)
