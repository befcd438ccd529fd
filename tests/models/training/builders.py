"""A small world to train in: three classes, and three modalities of which a feature of quality says whether they tell anything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from models.evaluation.alarms import Timeline
from models.fusion.windows import MODALITIES, Stream, Windows
from models.training.data import Data
from models.training.recipe import Recipe

CLASSES = ("person", "scream", "spoken_threat")
TOLD = {"frames": (True, False, False), "audio": (True, True, False), "transcripts": (False, False, True)}
"""Of which classes a modality's tokens tell."""
NOISE = {"frames": 0.7, "audio": 0.5, "transcripts": 0.4}
WIDTH, QUALITY, TOKENS = {"frames": 6, "audio": 10, "transcripts": 4}, {"frames": 2, "audio": 3, "transcripts": 1}, 3
IN_GROUP = 8  # windows of one recording
QUICK = Recipe(
    model=16,
    batch=64,
    epochs=8,
    gate_epochs=8,
    patience=4,
    rate=1e-2,
    dropout=0.0,
    average=0.5,
    token_noise=0.5,
    folds=2,
    quality_jitter=0.02,
)


def data(
    seed: int = 0,
    *,
    size: int = 320,
    spoilt: float = 0.0,
    absent: float = 0.2,
    noise: dict[str, float] | None = None,
    measured: bool = True,
    **change: Any,
) -> Data:
    """Windows that follow each other. `spoilt`: the share in which the audio is noise, as its first feature of quality says.

    Not `measured`: quality says nothing.
    """
    random = Generator().manual_seed(seed)
    truth_BC = torch.rand(size, len(CLASSES), generator=random) < 0.3
    spoilt_B = torch.rand(size, generator=random) < spoilt
    streams = {name: _stream(name, truth_BC, spoilt_B, absent, {**NOISE, **(noise or {})}[name], random, measured) for name in MODALITIES}
    made: dict[str, Any] = {
        "windows": Windows(**streams),
        "truth_BC": truth_BC,
        "group_B": torch.arange(size) // IN_GROUP,
        "classes": CLASSES,
        "timeline": Timeline(session_B=np.arange(size) // IN_GROUP, hop_B=np.arange(size) % IN_GROUP, hop_s=1.0),
    }
    return Data(**{**made, **change})


def _stream(name: str, truth_BC: Tensor, spoilt_B: Tensor, absent: float, noise: float, random: Generator, measured: bool) -> Stream:
    size = len(truth_BC)
    mask_BT = torch.rand(size, TOKENS, generator=random) < 0.7
    mask_BT[:, 0] = True
    mask_BT &= (torch.rand(size, generator=random) >= absent)[:, None]
    tokens_BTD = noise * torch.randn(size, TOKENS, WIDTH[name], generator=random)
    tokens_BTD[:, :, : len(CLASSES)] += ((2.0 * truth_BC - 1.0) * torch.tensor(TOLD[name]))[:, None]
    quality_BQ = 0.1 * torch.randn(size, QUALITY[name], generator=random)
    if name == "audio":
        wrong_BTD = 2.0 * torch.randn(tokens_BTD.shape, generator=random)
        tokens_BTD = torch.where(spoilt_B[:, None, None], wrong_BTD, tokens_BTD)
        quality_BQ[:, 0] += spoilt_B.float()
    return Stream.of(3.0 * tokens_BTD + 5.0, mask_BT, quality_BQ * measured + 2.0)


def splits(**how: Any) -> tuple[Data, Data, Data]:
    """Training, validation and calibration."""
    return data(1, **how), data(2, **how), data(3, **how)


def without(windows: Windows, name: str) -> Windows:
    """The same without that modality."""
    keep_M = torch.tensor([each != name for each in MODALITIES])
    return windows.only(keep_M.expand(len(windows.present_BM), -1))


def quick(**change: Any) -> Recipe:
    """A short recipe."""
    return replace(QUICK, **change)
