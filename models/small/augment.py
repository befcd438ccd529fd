"""Events as they might have been, for training: each modality in its own way. What is true of an event stays true.

Laws:
1. The same generator and event give the same event; the generator is all that is drawn from, and no input is written to.
2. Size and type stay: a picture its height and width, a sound its samples. A text that has a word keeps one.
3. Nothing here is what the benchmark tests with (`evaluation/corruptions.py`, law 4): other noise, another blur, other pairs of words.
4. The strongest of it still shows what the event is about: little is cropped, noise stays below the sound, most words stay.

SpecAugment is not here but in the network (`spec_augment.py`), after the log-mel that it masks.
Shape key: S samples (16 kHz), H x W picture.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from models.evaluation import corrupt_pictures, corrupt_sound, corrupt_words
from models.evaluation.corrupt_words import Recognizer
from models.features import Array

MIRRORED, BLURRED = 0.5, 0.3
"""Chances of a picture."""
SIGMA = 0.006
"""At most so wide a blur, as a share of the picture's height."""
NOISY, SNR_DB, GAIN_DB = 0.5, (5.0, 30.0), 12.0
"""Chance of noise, and how far the sound stands above it; how far the level may be from what it was."""
LEFT_OUT, WORD_ERRORS = 0.1, (0.0, 0.3)
"""Chance of a word to be left out; the recognizer's error rate."""

Rng = np.random.Generator


def picture(rng: Rng, rgb_HW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Cropped, its colours and gain a little off; perhaps mirrored, perhaps blurred."""
    (varied_HW3,) = corrupt_pictures.varied(rng, [rgb_HW3])
    if rng.random() < MIRRORED:
        varied_HW3 = np.ascontiguousarray(varied_HW3[:, ::-1])
    if rng.random() < BLURRED:
        varied_HW3 = corrupt_pictures.softened(varied_HW3, float(rng.uniform(0.3, 1.0)) * max(0.5, SIGMA * len(rgb_HW3)))
    return varied_HW3


def sound(rng: Rng, sound_S: Array) -> Array:
    """Louder or softer; perhaps with noise, of many colours and shapes. Silence stays silence."""
    if len(sound_S) and rng.random() < NOISY:
        sound_S = corrupt_sound.noisy(sound_S, corrupt_sound.other(rng, len(sound_S)), float(rng.uniform(*SNR_DB)))
    return corrupt_sound.louder(sound_S, float(rng.uniform(-GAIN_DB, GAIN_DB)))


def text(rng: Rng, said: str) -> str:
    """With a recognizer's errors, and some words left out. Of a text without a word: itself."""
    heard = corrupt_words.erred(rng, said, float(rng.uniform(*WORD_ERRORS)), _recognizer()) or said
    words = heard.split()
    kept = [word for word, chance in zip(words, rng.random(len(words)), strict=True) if chance >= LEFT_OUT]
    return " ".join(kept) or heard


@cache
def _recognizer() -> Recognizer:
    return Recognizer.load("train")
