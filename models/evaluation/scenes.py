"""A script made into what a camera and a microphone would give, and what was said: composed from real recordings.

Laws:
1. The same script and media give the same bytes.
2. The stretch that counts of a sound stands `snr_db` over the scene's background, both as RMS. Where the mix would clip, all of it is
   brought down together, so that this stays.
3. No moment is digital silence: under all of it lies a faint noise, generated, as a microphone has it.
4. Pictures come every half second, from the scene's first moment on, all of one size.
5. What is `sent` is what `streamer` would read from its topics: pictures out of JPEG of its default quality, sound out of 16 bit.

Shape key: N samples (16 kHz), F frames, H x W picture (640 x 480).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from models.evaluation.happenings import FRAME_S, Happening, Words
from models.evaluation.library import Item, Span
from models.evaluation.media import RATE, Media, Rgb
from models.evaluation.scripts import Script
from models.features import Array
from models.recordings import Modality

PEAK = 0.98
NOISE_DB = -24.0
"""Of the microphone's noise against the background: it adds 0.02 dB to it."""
JOIN_S, RISE_S, FALL_S = 0.25, 0.005, 0.05
"""Of a loop with itself; of a clip's beginning and end."""
JPEG_QUALITY, FULL_SCALE = 85, 32_768
_TINY = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """`sound_N`: mono, -1..1. `pictures`: every half second, RGB, read-only and shared where nothing changes. Words as they were drawn."""

    script: Script
    sound_N: Array
    pictures: tuple[Rgb, ...]
    words: tuple[Words, ...]


def render(script: Script, media: Media) -> Scene:
    """The whole scene."""
    return Scene(script=script, sound_N=mixed(script, media), pictures=pictures(script, media), words=script.words)


def sent(scene: Scene) -> Scene:
    """After its way through the topics. Pictures that were one object are one object afterwards."""
    sound_N = np.clip(np.rint(scene.sound_N * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.float32) / np.float32(FULL_SCALE)
    shown = {id(picture): picture for picture in scene.pictures}
    coded = {at: _coded(picture) for at, picture in shown.items()}
    return replace(scene, sound_N=sound_N, pictures=tuple(coded[id(picture)] for picture in scene.pictures))


def _coded(picture_HW3: Rgb) -> Rgb:
    bgr_HW3 = cv2.cvtColor(picture_HW3, cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", bgr_HW3, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    coded_HW3: Rgb = np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR_RGB), np.uint8)
    coded_HW3.setflags(write=False)
    return coded_HW3


def mixed(script: Script, media: Media) -> Array:
    """Its sound."""
    back_N = background(script, media)
    total_N = back_N.copy()
    for one in script.happenings:
        if one.item.modality is Modality.AUDIO:
            piece_N = levelled(one, media, rms(back_N))
            at = round(one.start * RATE)
            total_N[at : at + len(piece_N)] += piece_N[: len(total_N) - at]
    peak = float(np.abs(total_N).max())
    return total_N * np.float32(min(1.0, PEAK / max(peak, _TINY)))


def background(script: Script, media: Media) -> Array:
    """The recording over and over, at the script's level; in a stream it goes on from where the segment before it ended."""
    loop_N = looped(media.sound(script.sound.name))
    at_N = (round((script.skip + script.start) * RATE) + np.arange(round(script.seconds * RATE))) % len(loop_N)
    level = 10 ** (script.level_db / 20)
    rng = np.random.default_rng([script.seed, round(script.start)])
    noise_N = rng.standard_normal(len(at_N), dtype=np.float32) * np.float32(level * 10 ** (NOISE_DB / 20))
    return loop_N[at_N] * np.float32(level / max(rms(loop_N), _TINY)) + noise_N


def looped(sound_N: Array) -> Array:
    """The same, shorter, its end faded into its beginning, so that repeating it is no click."""
    join = min(round(JOIN_S * RATE), len(sound_N) // 4)
    rise = np.sqrt(np.linspace(0, 1, join, dtype=np.float32))
    loop_N: Array = sound_N[: len(sound_N) - join].copy()
    loop_N[:join] = loop_N[:join] * rise + sound_N[len(sound_N) - join :] * rise[::-1]
    return loop_N


def levelled(one: Happening, media: Media, floor: float) -> Array:
    """What sounds of a clip, faded, as loud over the background, whose RMS is `floor`, as the script says."""
    start = round(one.skip * RATE)
    piece_N = faded(media.sound(one.item.name)[start : start + round(one.seconds * RATE)])
    counts = slice(round((one.counts[0] - one.start) * RATE), round((one.counts[1] - one.start) * RATE))
    return piece_N * np.float32(floor * 10 ** (one.snr_db / 20) / max(rms(piece_N[counts]), _TINY))


def faded(sound_N: Array) -> Array:
    """Soft edges, so that a cut is no click."""
    faded_N: Array = sound_N.copy()
    rise, fall = min(round(RISE_S * RATE), len(sound_N) // 4), min(round(FALL_S * RATE), len(sound_N) // 4)
    faded_N[:rise] *= np.linspace(0, 1, rise, dtype=np.float32)
    faded_N[len(sound_N) - fall :] *= np.linspace(1, 0, fall, dtype=np.float32)
    return faded_N


def rms(sound_N: Array) -> float:
    """Root mean square; 0 of nothing."""
    return float(np.sqrt(np.mean(np.square(sound_N, dtype=np.float64)))) if len(sound_N) else 0.0


def pictures(script: Script, media: Media) -> tuple[Rgb, ...]:
    """What is to be seen at each half second: the background, or what is shown before it."""
    shown = [one for one in script.happenings if one.item.modality is Modality.FRAMES]
    empty = media.frames(script.picture, script.picture.parts[0])[0]
    return tuple(_seen(shown, number * FRAME_S, media, empty) for number in range(round(script.seconds / FRAME_S)))


def _seen(shown: Sequence[Happening], second: float, media: Media, empty: Rgb) -> Rgb:
    for one in shown:
        if one.start <= second < one.end:
            part = _part(one.item, one.skip)
            return back_and_forth(media.frames(one.item, part), round((second - one.start + one.skip - part[0]) / FRAME_S))
    return empty


def _part(item: Item, second: float) -> Span:
    return next((part for part in item.parts if part[0] <= second < part[1]), item.parts[0])


def back_and_forth(frames: Sequence[Rgb], number: int) -> Rgb:
    """A stretch that is shorter than it is shown for runs backwards from its end, and forwards again."""
    turn = max(1, 2 * (len(frames) - 1))
    at = number % turn
    return frames[at if at < len(frames) else turn - at]
