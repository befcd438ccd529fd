"""What infer asks of a model: encode each event once, fuse a window when it is known what belongs to it.

`Engine` is the seam. `streamer/engine.py` implements it with `models`; features are opaque here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from streamer.events import ClassScore, Evidence, Window

Rgb = NDArray[np.uint8]
"""Height x width x 3."""
Sound = NDArray[np.float32]
"""Samples in -1..1, 16 kHz, mono."""
Features = object
"""What an encoder made of one event. Only the engine looks inside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseInput:
    """A window and the features of its events, in the manifest's order; None where an event is unusable."""

    window: Window
    features: tuple[Features | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What the head says of one window: every security class, and what it rests on."""

    classes: Mapping[str, ClassScore]
    evidence: Evidence


class Engine(Protocol):
    """Pretrained weights behind four calls. Each is blocking, thread-confined, and gives one result per input."""

    version: str
    calibrated: bool
    may_alert: bool

    def encode_frames(self, images: Sequence[Rgb]) -> list[Features]:
        """One picture each, any size."""

    def encode_audio(self, sounds: Sequence[Sound]) -> list[Features]:
        """One chunk each; depends on the chunk's own samples alone."""

    def encode_words(self, texts: Sequence[str]) -> list[Features]:
        """One transcript each."""

    def fuse(self, windows: Sequence[FuseInput]) -> list[Judgement]:
        """One batched forward of the head."""
