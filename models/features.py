"""What encoders make of one event: each carries its chances, the security classes' probabilities by that event alone.

Chances are uncalibrated. A class that an encoder cannot speak of is absent from its chances; it is not zero.
Quality features (`models/quality.py`) are of the event as it was given, and of that event alone.
Shape key: P patches of a chunk, L sound labels, D width of an embedding, N boxes, Q quality features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Chances = Mapping[str, float]
"""Security class -> probability in 0..1, for the classes that one modality can speak of."""
Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """One picture. `boxes_N5` holds people: left, top, right, bottom as shares of the picture, then confidence, best first.

    `quality_Q`: `quality.PICTURE`.
    """

    chances: Chances
    boxes_N5: Array
    quality_Q: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Patch:
    """One stretch of a chunk, in seconds from the chunk's start, and its loudest labels, best first."""

    start_s: float
    end_s: float
    chances: Chances
    labels: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Heard:
    """One chunk of sound: its patches, their posteriors over the encoder's labels, their embeddings, and `quality.SOUND` of each."""

    patches: tuple[Patch, ...]
    posteriors_PL: Array
    embeddings_PD: Array
    quality_PQ: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Said:
    """One transcript: its chances, its greatest similarity to a prototype (-1..1), and its embedding."""

    chances: Chances
    similarity: float
    embedding_D: Array


class ImageEncoder(Protocol):
    """Pictures (height x width x 3, uint8, RGB, any size) to `Seen`, one each."""

    def __call__(self, images: Sequence[NDArray[np.uint8]], /) -> list[Seen]:
        """Blocking; one result per picture."""


class SoundEncoder(Protocol):
    """Chunks (float32, 16 kHz, mono) to `Heard`, one each; each depends on its own samples alone."""

    def __call__(self, sounds: Sequence[Array], /) -> list[Heard]:
        """Blocking; one result per chunk."""


class TextEncoder(Protocol):
    """Transcripts to `Said`, one each."""

    def __call__(self, texts: Sequence[str], /) -> list[Said]:
        """Blocking; one result per text."""
