"""How good one event's medium is: what a gate may know before it trusts an expert. Plain measurements, no model.

Each is about 0..1 so that a gate can start from any of them. They say nothing of what is seen, heard or said.
Shape key: H x W picture, N samples, Q quality features.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from models.features import Array
from models.pictures import smaller

PICTURE = ("brightness", "contrast", "sharpness", "dark", "bright", "grid")
"""Mean and spread of luma; how much fine detail; shares of black and of white pixels; how much stands on JPEG's 8-pixel grid alone."""
SOUND = ("loudness", "crest", "clipped", "silent", "flatness", "low")
"""Level (-80..0 dBFS as 0..1); peak over level (0..40 dB); shares of samples at full scale and of exact zeros; spectral flatness;
the share of energy below 200 Hz, where wind and handling noise are."""
WORDS = ("confidence", "length", "known")
"""The recognizer's confidence; words (32 are 1); whether a confidence was given at all."""

ROWS = 160  # of a picture in which JPEG's grid is looked for
FULL_SCALE = 0.999
WIND_HZ, RATE = 200, 16_000
MOST_WORDS = 32
_TINY = 1e-12


def of_picture(image_HW3: NDArray[np.uint8], small_SS3: NDArray[np.uint8] | None = None) -> Array:
    """PICTURE of an RGB picture of any size; detail is judged at one size, whatever the camera's. `small_SS3`: it, made small already."""
    import cv2  # here, so that sound and words are measured where there is no OpenCV

    luma_SS = cv2.cvtColor(smaller(image_HW3) if small_SS3 is None else small_SS3, cv2.COLOR_RGB2GRAY)
    (mean,), (spread,) = cv2.meanStdDev(luma_SS)
    _, (detail,) = cv2.meanStdDev(cv2.Laplacian(luma_SS, cv2.CV_16S))
    values = (
        mean.item() / 255.0,
        spread.item() / 128.0,
        detail.item() / (32.0 + detail.item()),
        np.count_nonzero(luma_SS < 16) / luma_SS.size,
        np.count_nonzero(luma_SS > 240) / luma_SS.size,
        _on_grid(_steps(image_HW3)),
    )
    return np.array(values, np.float32)


def of_sound(sound_N: Array) -> Array:
    """SOUND of mono samples in -1..1 at 16 kHz. Of no samples: all zeros."""
    if not len(sound_N):
        return np.zeros(len(SOUND), np.float32)
    level = float(np.sqrt(np.mean(np.square(sound_N, dtype=np.float64))))
    peak = float(np.abs(sound_N).max())
    power = np.abs(np.fft.rfft(sound_N * _window(len(sound_N)))) ** 2 + _TINY
    values = (
        np.clip(1.0 + _decibels(level) / 80.0, 0.0, 1.0),
        np.clip((_decibels(peak) - _decibels(level)) / 40.0, 0.0, 1.0),
        np.mean(np.abs(sound_N) >= FULL_SCALE),
        np.mean(sound_N == 0.0),
        np.exp(np.mean(np.log(power))) / np.mean(power),
        power[: _below_wind(len(sound_N))].sum() / power.sum(),
    )
    return np.array(values, np.float32)


def of_words(text: str, confidence: float | None) -> Array:
    """WORDS of a transcript; `confidence` in 0..1, None where its maker gave none."""
    count = min(len(text.split()) / MOST_WORDS, 1.0)
    return np.array((0.5 if confidence is None else confidence, count, confidence is not None), np.float32)


@lru_cache(maxsize=8)
def _window(length: int) -> NDArray[np.float64]:
    window_N: NDArray[np.float64] = np.hanning(length)
    window_N.setflags(write=False)
    return window_N


@lru_cache(maxsize=8)
def _below_wind(length: int) -> int:
    return int(np.count_nonzero(np.fft.rfftfreq(length, 1.0 / RATE) < WIND_HZ))


def _decibels(level: float) -> float:
    return 20.0 * float(np.log10(max(level, 1e-6)))


def _steps(image_HW3: NDArray[np.uint8]) -> NDArray[np.float64]:
    """How far green differs from one column to the next, over ROWS rows."""
    if image_HW3.shape[1] <= 8:
        return np.zeros(1)
    import cv2  # as above

    rows_HW = cv2.extractChannel(image_HW3[:: max(1, len(image_HW3) // ROWS)], 1)
    steps_1W = cv2.reduce(cv2.absdiff(rows_HW[:, 1:], rows_HW[:, :-1]), 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S)
    return np.asarray(steps_1W[0] / len(rows_HW), np.float64)


def _on_grid(steps_W: NDArray[np.float64]) -> float:
    """How far steps between columns at multiples of 8 exceed the others, as a share: coarse JPEG shows its blocks."""
    at_edges, elsewhere = steps_W[7::8].mean() if len(steps_W) > 7 else 0.0, steps_W.mean()
    return float(np.clip((at_edges - elsewhere) / (at_edges + elsewhere + 1e-3), 0.0, 1.0))
