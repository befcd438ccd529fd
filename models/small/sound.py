"""Sound from scratch: a log-mel front end, then a CNN or a CRNN, on the patches that YAMNet has (0.96 s every 0.48 s).

CRNN: Çakır et al., arXiv:1702.06286: convolutions that keep time, a recurrent network over it. The front end is YAMNet's, which is plain
signal processing; its filters and window are buffers. Each band is scaled as training's sounds are.

Shape key: P patches, S samples (16 kHz), F frames of 10 ms, B mel bands, C classes or channels, D embedding, T steps of 40 ms.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from models.features import Array, Chances, Heard
from models.fusion.parts import AttentionPool
from models.small.file import Small
from models.small.parts import Network, Networks, Standard, pooled, pyramid
from models.small.spec_augment import SpecAugment
from models.yamnet import BANDS, LogMel, heard, padded

FLOOR = 0.05
"""Probability below which a class is no label of a patch."""


class Cnn(nn.Module):
    """Log-mel patches to embeddings: five blocks, then mean and greatest over time and band."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = pyramid(1, width, [(2, 2), (2, 2), (2, 2), (2, 2), (1, 1)])

    def forward(self, mel_PFB: Tensor) -> Tensor:
        """(P, F, B) to (P, D)."""
        return pooled(self.blocks(mel_PFB.unsqueeze(1)), 2, 3)


class Crnn(nn.Module):
    """Log-mel patches to embeddings: blocks that halve time only twice, a GRU each way, attention over time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        strides = [(2, 2), (2, 2), (1, 2), (1, 2)]
        self.blocks = pyramid(1, width, strides)
        self.gru = nn.GRU(width * (BANDS >> len(strides)), width, batch_first=True, bidirectional=True)
        self.pool = AttentionPool(2 * width)

    def forward(self, mel_PFB: Tensor) -> Tensor:
        """(P, F, B) to (P, D)."""
        map_PCTB: Tensor = self.blocks(mel_PFB.unsqueeze(1))
        steps_PTD, _ = self.gru(map_PCTB.transpose(1, 2).flatten(2))
        embedding_PD: Tensor = self.pool(steps_PTD, torch.ones_like(steps_PTD[:, :, 0], dtype=torch.bool))
        return embedding_PD


class SoundNetwork(Network):
    """Patches to logits and embeddings, the log-mel front end included."""

    def __init__(self, body: nn.Module, classes: int, width: int) -> None:
        super().__init__()
        self.log_mel = LogMel()
        self.standard = Standard(BANDS)
        self.spec_augment = SpecAugment()
        self.body = body
        self.dropout = nn.Dropout(0.0)
        self.classifier = nn.Linear(2 * width, classes)

    def prepare(self, events: Sequence[Array]) -> Tensor:
        """Patches of at most PATCH_SAMPLES samples to (P, S); a shorter one is padded with silence, what is no number is silence."""
        return torch.from_numpy(np.nan_to_num(padded(events), copy=False, nan=0.0, posinf=0.0, neginf=0.0))

    def fit(self, inputs: Tensor) -> None:
        """Each band."""
        self.standard.fit(self.log_mel(inputs))

    def forward(self, sound_PS: Tensor) -> tuple[Tensor, Tensor]:
        """(P, S) to logits (P, C) and embeddings (P, D)."""
        mel_PFB = self.spec_augment(self.standard(self.log_mel(sound_PS)))
        embedding_PD = self.body(mel_PFB)
        return self.classifier(self.dropout(embedding_PD)), embedding_PD


NETWORKS: Networks = {
    "sound-cnn": lambda classes, width: SoundNetwork(Cnn(width), classes, width),
    "sound-crnn": lambda classes, width: SoundNetwork(Crnn(width), classes, width),
}


class SmallSounds(Small):
    """Chunks to `Heard`: a `features.SoundEncoder`. Its posteriors are those of its classes."""

    networks = NETWORKS

    def __call__(self, sounds: Sequence[Array]) -> list[Heard]:
        """Blocking; one result per chunk. ValueError where a chunk is no line of samples."""
        return heard(sounds, self._forward, self._described)

    def _forward(self, patches: Sequence[Array]) -> tuple[Array, Array]:
        logits_PC, embeddings_PD = self.network.say(patches)
        return torch.sigmoid(torch.from_numpy(logits_PC)).numpy(), embeddings_PD

    def _described(self, posterior_C: Array) -> tuple[Chances, tuple[tuple[str, float], ...]]:
        chances = dict(zip(self.classes, posterior_C.tolist(), strict=True))
        return chances, tuple(sorted(((name, p) for name, p in chances.items() if p >= FLOOR), key=lambda pair: -pair[1]))
