"""Law 5 of models/training/experts.py: beyond its encoder's verdict an expert keeps what held-out recordings bear out."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator

from models.fusion.windows import Stream, Windows
from models.training.data import Data
from models.training.train import train_experts
from tests.models.training.builders import CLASSES, IN_GROUP, TOLD, WIDTH, data, quick

LONG = quick(epochs=25, patience=25)
HEARD = [name for name, told in zip(CLASSES, TOLD["audio"], strict=True) if told]


def world(seed: int, *, noise: float, at: int) -> Data:
    """Sound whose verdict is `noise` off, and whose other numbers tell the class from column `at` on, or else the recording alone.

    A recording has one label throughout: whoever knows it by heart knows the label.
    """
    random = Generator().manual_seed(seed)
    made = data(seed, absent=0.0, verdicts=len(CLASSES))
    truth_BC = made.truth_BC[made.group_B * IN_GROUP]
    voice_GD = 3.0 * torch.randn(len(truth_BC) // IN_GROUP, WIDTH["audio"], generator=random)
    tokens_BTD = voice_GD[made.group_B][:, None].repeat(1, made.windows.audio.mask_BT.shape[1], 1)
    told_B1C = ((2.0 * truth_BC - 1.0) * torch.tensor(TOLD["audio"]))[:, None]
    shape = (*tokens_BTD.shape[:2], len(CLASSES))
    tokens_BTD[:, :, : len(CLASSES)] = told_B1C + noise * torch.randn(shape, generator=random)
    tokens_BTD[:, :, at : at + len(CLASSES)] = told_B1C + 0.3 * torch.randn(shape, generator=random)
    audio = Stream.of(tokens_BTD, made.windows.audio.mask_BT, made.windows.audio.quality_BQ)
    windows = Windows(frames=made.windows.frames, audio=audio, transcripts=made.windows.transcripts)
    return replace(made, windows=windows, truth_BC=truth_BC)


def kept(noise: float, at: int, calibration: Data | None = None) -> dict[str, float]:
    """By class that sound tells: how far its expert's last layer is from zeros."""
    train, validation, own = (world(seed, noise=noise, at=at) for seed in (1, 2, 3))
    state = train_experts(train, validation, calibration or own, LONG, seed=0).state
    return {name: float(state["experts.audio.classify.3.weight"][CLASSES.index(name)].abs().sum()) for name in HEARD}


def test_a_verdict_that_is_right_is_left_alone_however_well_recordings_are_known_by_heart() -> None:
    assert kept(noise=0.3, at=0) == dict.fromkeys(HEARD, 0.0)


def test_what_tells_the_class_on_other_recordings_too_is_kept() -> None:
    assert all(found > 0.0 for found in kept(noise=5.0, at=len(CLASSES)).values())


def test_what_the_calibration_split_denies_counts_as_much_as_what_another_split_says() -> None:
    """There the verdict is right, and what the correction reads is the recording alone: less is kept than where all splits agree."""
    agreed, denied = kept(noise=1.0, at=len(CLASSES)), kept(noise=1.0, at=len(CLASSES), calibration=world(3, noise=0.1, at=0))
    assert all(denied[name] < agreed[name] for name in HEARD)
