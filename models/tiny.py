"""Random weights for tests: nothing to fetch, microseconds per event, and numbers that mean nothing (never alert on them).

Each encoder projects a crude summary of its input with fixed random weights, so that results depend on content and
repeat exactly.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models import quality
from models.features import Array, Chances, Heard, Patch, Said, Seen
from models.yamnet import PATCH_SAMPLES, SAMPLE_RATE, patch_starts

WIDTH = 16
_SOUNDS = ("glass_break", "gunshot", "explosion", "scream", "siren", "footsteps")
_WORDS = ("spoken_threat", "call_for_help")


class _Projection:
    """A summary of WIDTH numbers to chances, by fixed random weights."""

    def __init__(self, names: Sequence[str], seed: int) -> None:
        self._names = names
        self._weights = np.random.default_rng(seed).normal(size=(WIDTH, len(names)))

    def __call__(self, summary_D: Array) -> Chances:
        logits = np.tanh(summary_D @ self._weights) * 3.0
        return dict(zip(self._names, (1.0 / (1.0 + np.exp(-logits))).tolist(), strict=True))


class TinyImages:
    """Pictures to `Seen`, without boxes."""

    def __init__(self) -> None:
        self._project = _Projection(("person",), 1)

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[Seen]:
        """One result per picture."""
        return [self._seen(image) for image in images]

    def _seen(self, image: NDArray[np.uint8]) -> Seen:
        boxes_N5 = np.empty((0, 5), np.float32)
        return Seen(chances=self._project(_summary(image)), boxes_N5=boxes_N5, quality_Q=quality.of_picture(image))


class TinySounds:
    """Chunks to `Heard`, cut into the same patches as YAMNet's."""

    def __init__(self) -> None:
        self._project = _Projection(_SOUNDS, 2)

    def __call__(self, sounds: Sequence[Array]) -> list[Heard]:
        """One result per chunk."""
        return [self._heard(sound) for sound in sounds]

    def _heard(self, sound: Array) -> Heard:
        starts = patch_starts(len(sound))
        cut = [sound[start : start + PATCH_SAMPLES] for start in starts]
        summaries_PD = np.stack([_summary(patch) for patch in cut])
        patches = tuple(
            Patch(
                start_s=start / SAMPLE_RATE,
                end_s=min(start + PATCH_SAMPLES, len(sound)) / SAMPLE_RATE,
                chances=self._project(summary_D),
                labels=(("noise", 0.5),),
            )
            for start, summary_D in zip(starts, summaries_PD, strict=True)
        )
        return Heard(
            patches=patches,
            posteriors_PL=np.zeros((len(starts), 0), np.float32),
            embeddings_PD=summaries_PD,
            quality_PQ=np.stack([quality.of_sound(patch) for patch in cut]),
        )


class TinyWords:
    """Transcripts to `Said`, from a checksum of the text."""

    def __init__(self) -> None:
        self._project = _Projection(_WORDS, 3)

    def __call__(self, texts: Sequence[str]) -> list[Said]:
        """One result per text."""
        return [self._said(np.random.default_rng(zlib.crc32(text.encode())).normal(size=WIDTH).astype(np.float32)) for text in texts]

    def _said(self, embedding_D: Array) -> Said:
        chances = self._project(embedding_D)
        return Said(chances=chances, similarity=max(chances.values()), embedding_D=embedding_D)


def _summary(values: NDArray[np.uint8] | Array) -> Array:
    """WIDTH numbers: the means of as many stretches, standardised."""
    flat = np.asarray(values, np.float32).ravel()
    means = np.array([part.mean() if part.size else 0.0 for part in np.array_split(flat, WIDTH)], np.float32)
    standard: Array = (means - means.mean()) / (means.std() + np.float32(1e-6))
    return standard
