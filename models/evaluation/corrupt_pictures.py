"""What is done to a scene's pictures: darkness, blur, a lens that is covered, a camera that hangs; and what training varies.

Laws:
1. Pictures that were one object are one object afterwards (`each`): what an encoder made of it serves for all of them. So a sensor's
   noise is that of the picture, not of the moment: a background that stays has the same grain throughout.
2. No input is written to; what comes out is read-only and of the same size.
3. A cover hides the share of the picture that is asked for, within 1 %, and the same part of it throughout the scene.

Darkness is less light, before the camera's gamma, with noise of two kinds, as Foi et al. model a sensor's (IEEE TIP 2008): one that
grows with the light (photons) and one that does not (reading out). Blur is a lens out of focus: each point a disc.

Shape key: H x W picture, RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from models.evaluation.happenings import FRAME_S
from models.evaluation.media import Rgb

GAMMA = 2.2
LIGHT = 0.02
"""Of the light, what is left in the dark."""
PHOTONS, READING = 2e-4, 2e-3
"""Variance of the noise per unit of light (full scale is 1); standard deviation of what does not depend on light."""
DISC = 10.0  # pixels, radius of the blur
COVERED = (0.6, 0.9)
FREEZES_S = (1.0, 3.0)
SOFT = 9.0  # pixels: a cover close to the lens has no sharp edge
TAPE, SPRAY = (150, 140, 120), (25, 25, 30)
CROP, TILT = 0.12, 0.08
"""At most so much of width and height is cut off for training; how far a channel's gain, and the colourfulness, may be from 1."""

Mask = NDArray[np.float32]
_LINEAR = ((np.arange(256) / 255) ** GAMMA).astype(np.float32)


def each(pictures: Sequence[Rgb], change: Callable[[Rgb], Rgb]) -> tuple[Rgb, ...]:
    """All of them changed, each object once, in the order of its first appearance."""
    done: dict[int, Rgb] = {}
    for picture in pictures:
        if id(picture) not in done:
            done[id(picture)] = change(picture)
            done[id(picture)].setflags(write=False)
    return tuple(done[id(picture)] for picture in pictures)


def darkened(rng: np.random.Generator, rgb_HW3: Rgb, light: float = LIGHT) -> Rgb:
    """With this share of the light, and the noise of a sensor that gets no more."""
    linear_HW3 = _LINEAR[rgb_HW3] * np.float32(light)
    spread_HW3 = np.sqrt(PHOTONS * linear_HW3 + READING**2)
    linear_HW3 += spread_HW3 * rng.standard_normal(rgb_HW3.shape, dtype=np.float32)
    return _bytes(255 * np.clip(linear_HW3, 0, 1) ** (1 / GAMMA))


def defocused(rgb_HW3: Rgb, radius: float = DISC) -> Rgb:
    """Each point a disc of this radius, in pixels."""
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = np.clip(radius + 0.5 - np.hypot(x, y), 0, 1).astype(np.float32)
    return cv2.filter2D(rgb_HW3, -1, disc / disc.sum()).astype(np.uint8, copy=False)


def softened(rgb_HW3: Rgb, sigma: float) -> Rgb:
    """Each point a bell of this width, in pixels: the blur of training, which is not the benchmark's."""
    return cv2.GaussianBlur(rgb_HW3, (0, 0), sigma).astype(np.uint8, copy=False)


def hanging(rng: np.random.Generator, pictures: Sequence[Rgb]) -> tuple[Rgb, ...]:
    """From an early second on, always the same picture: what happens after it is not seen."""
    at = min(int(rng.integers(round(FREEZES_S[0] / FRAME_S), round(FREEZES_S[1] / FRAME_S) + 1)), len(pictures) - 1)
    return tuple(pictures[min(number, at)] for number in range(len(pictures)))


def moved(pictures: Sequence[Rgb], seconds: float) -> tuple[Rgb, ...]:
    """Later by so many seconds, earlier where below 0. The scene's first picture stands where none is left."""
    by = round(seconds / FRAME_S)
    return tuple(pictures[at - by if 0 <= at - by < len(pictures) else 0] for at in range(len(pictures)))


def covered(rng: np.random.Generator, pictures: Sequence[Rgb]) -> tuple[Rgb, ...]:
    """A strip of tape from one side, at any angle, or a blot of dark paint, over 60 to 90 % of each picture."""
    share = float(rng.uniform(*COVERED))
    taped = bool(rng.random() < 0.5)
    size = pictures[0].shape[:2] if pictures else (1, 1)
    cover_HW1 = cover(strip(rng, size) if taped else blot(rng, size), share)[:, :, None]
    grain_HW1 = rng.normal(1, 0.06, (*size, 1)).astype(np.float32)
    colour_HW3 = cv2.GaussianBlur(np.array(TAPE if taped else SPRAY, np.float32) * grain_HW1, (0, 0), 1.5)
    return each(pictures, lambda rgb_HW3: _bytes(rgb_HW3 * (1 - cover_HW1) + colour_HW3 * cover_HW1))


def strip(rng: np.random.Generator, size: tuple[int, int]) -> Mask:
    """How far each pixel lies in one direction."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    along_HW: Mask = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    return along_HW


def blot(rng: np.random.Generator, size: tuple[int, int]) -> Mask:
    """How much paint each pixel gets of some puffs, the most of them near one point, and of a spatter."""
    y, x = np.mgrid[: size[0], : size[1]].astype(np.float32)
    centre = rng.uniform(0.3, 0.7, 2) * size
    spatter_HW = cv2.GaussianBlur(rng.standard_normal(size, dtype=np.float32), (0, 0), 8)
    paint_HW: Mask = np.asarray(spatter_HW / max(float(spatter_HW.std()), 1e-6) / 10, np.float32)
    for _ in range(12):
        at, reach = rng.normal(centre, 0.2 * np.array(size)).astype(np.float32), rng.uniform(0.15, 0.4) * size[0]
        paint_HW += np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / np.float32(2 * reach**2))
    return paint_HW


def cover(paint_HW: Mask, share: float) -> Mask:
    """How much each pixel is hidden, 0..1: half or more for this share of them, those that have the most paint; soft at the edge."""
    hard_HW = (paint_HW >= np.quantile(paint_HW, 1 - share)).astype(np.float32)
    soft_HW = cv2.GaussianBlur(hard_HW, (0, 0), SOFT)
    edge = np.quantile(soft_HW, 1 - share)
    steep_HW = 0.5 + (soft_HW - edge) / max(2 * min(edge, 1 - edge), 1e-6)
    return np.asarray(np.clip(steep_HW, 0, 1), np.float32)


def varied(rng: np.random.Generator, pictures: Sequence[Rgb]) -> tuple[Rgb, ...]:
    """Another camera of the same place: a little closer, somewhat else in the picture, its colours and its gain a little off."""
    height, width = pictures[0].shape[:2] if pictures else (1, 1)
    keep = 1 - float(rng.uniform(0, CROP))
    high, wide = max(1, round(height * keep)), max(1, round(width * keep))
    top, left = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
    gain_3 = rng.uniform(1 - TILT, 1 + TILT) * rng.uniform(1 - TILT, 1 + TILT, 3)
    colour = float(rng.uniform(1 - TILT, 1 + TILT))
    mix_33 = (gain_3[:, None] * (colour * np.eye(3) + (1 - colour) / 3)).astype(np.float32)

    def change(rgb_HW3: Rgb) -> Rgb:
        part_HW3 = rgb_HW3[top : top + high, left : left + wide]
        whole_HW3 = cv2.resize(part_HW3, (width, height), interpolation=cv2.INTER_LINEAR)
        return cv2.transform(whole_HW3, mix_33).astype(np.uint8, copy=False)

    return each(pictures, change)


def _bytes(values: NDArray[np.floating]) -> Rgb:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)
