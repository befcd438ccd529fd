"""Sound from scratch: a log-mel front end, then a CNN or a CRNN, on the patches that YAMNet has (0.96 s every 0.48 s).

CRNN: Çakır et al., arXiv:1702.06286: convolutions that keep time, a recurrent network over it. The front end is YAMNet's, which is plain
signal processing; its filters and window are buffers. Each band is scaled as training's sounds are.

Shape key: P patches, S samples (16 kHz), F frames of 10 ms, B mel bands, C classes or channels, D embedding, T steps of 40 ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models import quality
from models.features import Array, Heard, Patch
from models.fusion.parts import AttentionPool
from models.small.file import load
from models.small.parts import Network, Networks, Standard, chances_of, pooled, pyramid
from models.small.spec_augment import SpecAugment
from models.yamnet import BANDS, PATCH_SAMPLES, SAMPLE_RATE, LogMel, patch_starts

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
        sound_PS = np.zeros((len(events), PATCH_SAMPLES), np.float32)
        for row_S, patch in zip(sound_PS, events, strict=True):
            row_S[: len(patch)] = patch
        return torch.from_numpy(np.nan_to_num(sound_PS, copy=False, nan=0.0, posinf=0.0, neginf=0.0))

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


class SmallSounds:
    """Chunks to `Heard`: a `features.SoundEncoder`. Its posteriors are those of its classes."""

    def __init__(self, network: Network, classes: Sequence[str], *, device: str = "cpu") -> None:
        self._network = network.to(device)
        self._classes = tuple(classes)

    @classmethod
    def load(cls, path: Path, *, device: str = "cpu") -> SmallSounds:
        """ValueError where the file holds none; OSError where it cannot be read."""
        network, about = load(path, NETWORKS)
        return cls(network, about.classes, device=device)

    def __call__(self, sounds: Sequence[Array]) -> list[Heard]:
        """Blocking; one result per chunk. ValueError where a chunk is no line of samples."""
        cut = [cut_of(sound) for sound in sounds]
        logits_PC, embeddings_PD = self._network.say([patch for patches in cut for _, patch in patches])
        found, at = [], 0
        for sound, patches in zip(sounds, cut, strict=True):
            rows = slice(at, at + len(patches))
            found.append(self._heard(len(sound), patches, logits_PC[rows], embeddings_PD[rows]))
            at += len(patches)
        return found

    def _heard(self, samples: int, cut: Sequence[tuple[int, Array]], logits_PC: Array, embeddings_PD: Array) -> Heard:
        chances = [chances_of(self._classes, logit_C) for logit_C in logits_PC]
        patches = tuple(
            Patch(
                start_s=start / SAMPLE_RATE,
                end_s=min(start + PATCH_SAMPLES, samples) / SAMPLE_RATE,
                chances=chance,
                labels=tuple(sorted(((name, p) for name, p in chance.items() if p >= FLOOR), key=lambda pair: -pair[1])),
            )
            for (start, _), chance in zip(cut, chances, strict=True)
        )
        return Heard(
            patches=patches,
            posteriors_PL=np.array([list(chance.values()) for chance in chances], np.float32),
            embeddings_PD=embeddings_PD.copy(),
            quality_PQ=np.stack([quality.of_sound(patch) for _, patch in cut]),
        )


def cut_of(sound_N: Array) -> list[tuple[int, Array]]:
    """A chunk's patches, each with its start in samples, at most PATCH_SAMPLES long. What is no number becomes silence."""
    if np.ndim(sound_N) != 1:
        raise ValueError(f"a chunk of shape {np.shape(sound_N)} must be one line of mono samples")
    clean_N = np.nan_to_num(np.asarray(sound_N, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return [(start, clean_N[start : start + PATCH_SAMPLES]) for start in patch_starts(len(clean_N))]
