"""models/quality.py on the demo's real media, spoilt step by step."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from models.features import Array
from models.quality import PICTURE, SOUND, WORDS, of_picture, of_sound, of_words
from streamer.sources.scene import whole_sound
from streamer.stages.media import decode_image, encode_jpeg

DEMO = Path(__file__).parents[2] / "deploy" / "demo"


def street() -> NDArray[np.uint8]:
    return decode_image((DEMO / "street.jpg").read_bytes(), 34_000_000)


def glass() -> Array:
    return np.asarray(whole_sound(DEMO / "glass.flac"), np.float32)


def picture(image: NDArray[np.uint8]) -> dict[str, float]:
    return dict(zip(PICTURE, of_picture(image).tolist(), strict=True))


def sound(samples: Array) -> dict[str, float]:
    return dict(zip(SOUND, of_sound(samples.astype(np.float32)).tolist(), strict=True))


def test_every_feature_of_any_medium_is_a_number_between_0_and_1() -> None:
    random = np.random.default_rng(1)
    pictures = [
        street(),
        np.zeros((4, 4, 3), np.uint8),
        np.full((900, 30, 3), 255, np.uint8),
        random.integers(0, 256, (64, 64, 3), np.uint8),
    ]
    sounds = [glass(), np.zeros(0), np.zeros(1), np.ones(16_000), random.uniform(-1, 1, 999), np.sin(np.arange(16_000) / 50)]
    found = [
        *map(of_picture, pictures),
        *(of_sound(one.astype(np.float32)) for one in sounds),
        of_words("", None),
        of_words("a " * 99, 1.0),
    ]
    for values in found:
        assert np.isfinite(values).all() and (values >= 0).all() and (values <= 1).all()


@pytest.mark.parametrize(
    ("feature", "rises", "spoil"),
    [
        ("brightness", False, lambda image: image // 8),
        ("dark", True, lambda image: image // 16),
        ("contrast", False, lambda image: image // 4 + 96),
        ("sharpness", False, lambda image: cv2.GaussianBlur(image, (0, 0), 6)),
        ("bright", True, lambda image: np.minimum(image.astype(int) * 4, 255).astype(np.uint8)),
        ("grid", True, lambda image: decode_image(encode_jpeg(image, 5), 34_000_000)),
    ],
)
def test_a_spoilt_picture_shows(feature: str, rises: bool, spoil: object) -> None:
    before, after = picture(street())[feature], picture(spoil(street()))[feature]  # type: ignore[operator]
    assert (after - before > 0.05) if rises else (before - after > 0.05)


@pytest.mark.parametrize(
    ("feature", "rises", "spoil"),
    [
        ("loudness", False, lambda x: x / 30),
        ("clipped", True, lambda x: np.clip(20 * x, -1, 1)),
        ("crest", False, lambda x: np.clip(20 * x, -1, 1)),
        ("silent", True, lambda x: np.where(np.arange(len(x)) // 1_600 % 2, 0, x)),
        ("flatness", True, lambda x: x + np.random.default_rng(2).normal(0, 0.3, len(x))),
        ("low", True, lambda x: x + np.sin(2 * np.pi * 60 * np.arange(len(x)) / 16_000)),
    ],
)
def test_a_spoilt_sound_shows(feature: str, rises: bool, spoil: object) -> None:
    before, after = sound(glass())[feature], sound(spoil(glass()))[feature]  # type: ignore[operator]
    assert (after - before > 0.05) if rises else (before - after > 0.05)


def test_words_say_how_sure_they_are() -> None:
    assert of_words("help me", 0.25).tolist() == [0.25, 2 / 32, 1.0]
    assert of_words("help me", None).tolist() == [0.5, 2 / 32, 0.0]
    assert len(of_words("", 0.0)) == len(WORDS)


def test_what_is_kept_between_calls_is_what_each_call_would_make() -> None:
    """Share of energy below 200 Hz, and steps on JPEG's grid, as one would write them."""
    samples = glass()[:15_600]
    for length in (1, 2, 159, 160, 161, 400, 9_600, 15_600, 401, 160):
        power = np.abs(np.fft.rfft(samples[:length] * np.hanning(length))) ** 2 + 1e-12
        low = power[np.fft.rfftfreq(length, 1 / 16_000) < 200].sum() / power.sum()
        assert sound(samples[:length])["low"] == np.float32(low)
    for image in (street(), street()[::-1, ::2], street()[:3, :40], np.asfortranarray(street())):
        green = image[:: max(1, len(image) // 160), :, 1].astype(np.int64)
        steps = np.abs(np.diff(green, axis=1)).sum(0) / len(green)
        edges = steps[7::8].mean() if len(steps) > 7 else 0.0
        expected = np.clip((edges - steps.mean()) / (edges + steps.mean() + 1e-3), 0.0, 1.0)
        assert picture(image)["grid"] == pytest.approx(expected, abs=1e-7)
