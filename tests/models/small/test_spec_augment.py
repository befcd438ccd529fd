"""Laws of models/small/spec_augment.py."""

from __future__ import annotations

import torch

from models.small.spec_augment import BANDS_MASKED, FRAMES_MASKED, MASKS, SpecAugment, masked


def test_spec_augment_hides_stretches_of_each_patch_and_leaves_most() -> None:
    mel_PFB = torch.full((16, 96, 64), 2.0)
    found, again = (masked(mel_PFB, torch.Generator().manual_seed(3)) for _ in range(2))
    other = masked(mel_PFB, torch.Generator().manual_seed(4))
    assert torch.equal(found, again) and not torch.equal(found, other) and (mel_PFB == 2.0).all()
    hidden_PFB = found == 0.0
    assert found.shape == mel_PFB.shape and ((found == 2.0) | hidden_PFB).all()
    frames_P, bands_P = hidden_PFB.all(2).sum(1), hidden_PFB.all(1).sum(1)
    assert frames_P.max() <= MASKS * FRAMES_MASKED and bands_P.max() <= MASKS * BANDS_MASKED
    assert len(set(frames_P.tolist())) > 3 and len(set(bands_P.tolist())) > 3
    assert hidden_PFB.float().mean() < 0.5


def test_spec_augment_is_for_training_alone_and_follows_torchs_seed() -> None:
    part, mel_PFB = SpecAugment(), torch.ones(2, 96, 64)
    torch.manual_seed(1)
    one = part(mel_PFB)
    torch.manual_seed(1)
    assert torch.equal(part(mel_PFB), one) and not torch.equal(part(mel_PFB), one)
    assert part.eval()(mel_PFB) is mel_PFB
