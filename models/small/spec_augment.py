"""SpecAugment: stretches of time and of band of a log-mel patch are hidden in training (Park et al., arXiv:1904.08779; without warping).

Laws:
1. `masked` is drawn from its generator alone, on the CPU: the same on every device. What came in is not written to.
2. Each patch is masked in its own way; what is not hidden is as it was.

Shape key: P patches, F frames, B mel bands, N frames or bands.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MASKS, FRAMES_MASKED, BANDS_MASKED = 2, 16, 10
"""How many stretches of time, and how many of band, and at most how long each is."""


def masked(mel_PFB: Tensor, generator: torch.Generator) -> Tensor:
    """The same patches; zeros, which are the mean where patches are scaled, where they are hidden."""
    keep_PFB = torch.ones_like(mel_PFB, dtype=torch.bool)
    for _ in range(MASKS):
        for dim, most in ((1, FRAMES_MASKED), (2, BANDS_MASKED)):
            hidden_PN = _stretches(len(mel_PFB), mel_PFB.shape[dim], most, generator).to(mel_PFB.device)
            keep_PFB &= ~hidden_PN.unsqueeze(3 - dim)
    return mel_PFB * keep_PFB


def _stretches(patches: int, size: int, most: int, generator: torch.Generator) -> Tensor:
    """One in each patch, (P, N) of bool: 0 to `most` long, anywhere."""
    length_P, place_P = torch.rand(2, patches, generator=generator)
    length_P = (length_P * (min(most, size) + 1)).floor()
    start_P = (place_P * (size - length_P + 1)).floor()
    at_PN = torch.arange(size)[None] - start_P[:, None]
    hidden_PN: Tensor = (at_PN >= 0) & (at_PN < length_P[:, None])
    return hidden_PN


class SpecAugment(nn.Module):
    """`masked`, in training alone; seeded by torch's own generator, as dropout is."""

    def forward(self, mel_PFB: Tensor) -> Tensor:
        """(P, F, B)."""
        if not self.training:
            return mel_PFB
        return masked(mel_PFB, torch.Generator().manual_seed(int(torch.randint(2**31, ()))))
