"""A scene of the demo's real media, for tests that spoil it: a siren over a faint noise, a street, and a person's picture for a while."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import soundfile

from models.evaluation.happenings import Words
from models.evaluation.library import Sentence
from models.evaluation.media import RATE, Rgb, fitted
from models.evaluation.scenes import Scene
from models.recordings import Split
from tests.models.evaluation.builders import heard, script, seen

DEMO = Path(__file__).parents[3] / "deploy" / "demo"
SAID = (
    Words(
        sentence=Sentence(text="put it down or I hit you with the bat", label="", template="", split=Split.TRAIN),
        start=0.5,
        end=3.5,
        confidence=0.9,
    ),
    Words(
        sentence=Sentence(text="the lift is on your left, third floor", label="", template="", split=Split.TRAIN),
        start=6.0,
        end=8.8,
        confidence=0.7,
    ),
)
SHOWN = slice(8, 14)
"""The numbers of the pictures that are not the background."""


@cache
def demo(seconds: float = 12.0) -> Scene:
    """The scene; its arrays are read-only, so that nothing can write to them unseen."""
    said = tuple(one for one in SAID if one.end <= seconds)
    what = script(heard("siren", 2.0, 6.0), heard("speech", 9.0, 10.0), seen("person", 4.0, 7.0), words=said, seconds=seconds)
    count = round(seconds * RATE)
    siren_N, rate = soundfile.read(DEMO / "siren.flac", dtype="float32", always_2d=True)
    assert rate == RATE
    sound_N = np.random.default_rng(3).standard_normal(count, dtype=np.float32) * np.float32(0.003)
    sound_N[2 * RATE : 6 * RATE] += np.resize(siren_N[:, 0], 4 * RATE) * np.float32(0.3)
    sound_N.setflags(write=False)
    street, other = fitted(street_jpg()), fitted(street_jpg()[:, ::-1])
    shown = range(*SHOWN.indices(round(2 * seconds)))
    return Scene(
        script=what, sound_N=sound_N, pictures=tuple(other if at in shown else street for at in range(round(2 * seconds))), words=said
    )


def street_jpg() -> Rgb:
    bgr = cv2.imread(str(DEMO / "street.jpg"), cv2.IMREAD_COLOR)
    assert bgr is not None
    return np.ascontiguousarray(bgr[:, :, ::-1]).astype(np.uint8)
