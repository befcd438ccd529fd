"""Networks without training, and events that a small network can tell apart at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.small.file import About
from models.small.parts import Network
from models.small.train import KINDS, Labelled
from models.training.loop import seed_of
from models.training.recipe import Recipe
from models.yamnet import PATCH_SAMPLES, SAMPLE_RATE

QUICK = Recipe(model=32, batch=8, epochs=6, patience=6, rate=5e-3, decay=0.0, dropout=0.1, average=0.0, warm_up=0.5)
THREATS = ("I will shoot you", "give me the money or I hurt you", "I have a knife", "you are going to die")
HELP = ("help me please", "somebody call an ambulance", "I cannot breathe, help", "please call the police")
PLAIN = ("the bus is late again", "two coffees to go", "nice weather today", "see you tomorrow")


def tone(hertz: float, seconds: float = PATCH_SAMPLES / SAMPLE_RATE, gain: float = 0.3) -> NDArray[np.float32]:
    return (gain * np.sin(2 * np.pi * hertz * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)).astype(np.float32)


def noise(seconds: float, seed: int = 0, gain: float = 0.1) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).normal(size=round(seconds * SAMPLE_RATE)) * gain).astype(np.float32)


def picture(seed: int, height: int = 60, width: int = 80, *, bar: bool = False) -> NDArray[np.uint8]:
    """A grainy grey, with an upright bar where asked for."""
    rgb_HW3 = np.random.default_rng(seed).integers(60, 120, (height, width, 3), dtype=np.uint8)
    if bar:
        left = 10 + 7 * (seed % 7)
        rgb_HW3[height // 4 : 3 * height // 4, left : left + 6] = 250
    return rgb_HW3


def network(architecture: str, *, width: int = 32, seed: int = 0) -> tuple[Network, About]:
    """As it is before training, scaled to a few events of its kind."""
    kind = KINDS[architecture]
    about = About(architecture=architecture, classes=kind.classes, width=width, seed=seed, recipe="recipe", data="data")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed))
        made = about.make(kind.networks)
    made.fit(made.prepare(events(architecture)))
    return made.eval().requires_grad_(False), about


def events(architecture: str) -> list[Any]:
    """Eight; the even ones are of the kind's first class, and the odd ones of none."""
    if architecture.startswith("sound"):
        return [tone(300.0 + at) if at % 2 == 0 else noise(0.5, at) for at in range(8)]
    if architecture.startswith("picture"):
        return [picture(at, bar=at % 2 == 0) for at in range(8)]
    return [THREATS[at // 2] if at % 2 == 0 else PLAIN[at // 2] for at in range(8)]


def labelled(architecture: str, found: Sequence[Any] | None = None) -> Labelled:
    """Those events, of two classes where the kind has them."""
    every = events(architecture) if found is None else found
    classes = KINDS[architecture].classes[:2]
    truth_NC = torch.zeros(len(every), len(classes), dtype=torch.bool)
    truth_NC[::2, 0] = True
    return Labelled(
        events=every,
        truth_NC=truth_NC,
        known_NC=torch.ones_like(truth_NC),
        group_N=torch.arange(len(every)),
        classes=classes,
    )
