"""The clips of scenes, decoded once: sounds at 16 kHz, pictures at one size, and where in a sound there is something to hear.

Laws:
1. A clip is decoded once a process. What comes back is shared: it is read-only.
2. A picture keeps its proportions; what it does not fill is grey.
3. A video is its frames at the scene's rate from the beginning of each part.
4. No split's library holds another's clips. With `lend`, and only then, vtest.avi is cut in time: train keeps its first 47 s, validation
   and calibration get later stretches, each 5 s apart. They show one street from one camera, and may show one person twice; the empty
   street is the median of the whole video.

Shape key: N samples, F frames, H x W picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import soundfile
import torch
import torchaudio
from numpy.typing import NDArray

from models.evaluation.happenings import FRAME_S, HARMLESS
from models.evaluation.library import HEARD, Item, Library, Span, sentences
from models.features import Array
from models.recordings import Modality, Row, Split, locate

RATE = 16_000
WIDTH, HEIGHT = 640, 480
GREY = 114
HOP = RATE // 40  # samples, 25 ms: the grain of an envelope
AUDIBLE_DB, TAIL_S, LOUD_S = 20.0, 0.15, 0.5
"""A clip sounds where its envelope is at most this far below its peak, and a little longer; how long its loudest stretch is."""
HEARD_LABELS = (*HEARD, *HARMLESS, "speech", "call_for_help", "ambient")
SEEN_LABELS = ("person", "street", "photo")
PARTS = {"bikes.mp4": ((1.2, 1.8), (4.2, 5.5), (7.5, 8.5))}
"""Where somebody is to be seen in a video that does not show people throughout (a man, a cyclist, legs that walk). By looking at it."""
STREET = "vtest.avi"
LENT = {Split.TRAIN: (0.0, 47.0), Split.VALIDATION: (52.0, 64.0), Split.CALIBRATION: (69.0, 79.5)}
"""The stretches of vtest.avi, in seconds, where it is lent."""

Rgb = NDArray[np.uint8]


class Media:
    """The verified recordings of a cache folder, decoded when they are asked for."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = {f"{row.package.name}/{row.clip.path}": row for row in rows}
        self._sounds: dict[str, Array] = {}
        self._frames: dict[tuple[str, Span], list[Rgb]] = {}
        self._empty: dict[str, Rgb] = {}

    @classmethod
    def load(cls, home: Path | None) -> Media:
        """Those of the manifest. Raises PackageError where one is missing or altered."""
        return cls(locate(home))

    def library(self, split: Split, *, lend: bool = False) -> Library:
        """What scenes of this split are drawn from. Decodes its sounds; `lend`: see law 4."""
        items = tuple(item for name, row in self._rows.items() for item in self._items(name, row, split, lend))
        return Library(split=split, items=items, sentences=tuple(one for one in sentences() if one.split is split))

    def _items(self, name: str, row: Row, split: Split, lend: bool) -> Iterator[Item]:
        clip, lent = row.clip, lend and row.path.name == STREET and split in LENT
        recording = f"{row.package.name}/{clip.recording}"
        if clip.split is not split and not lent:
            return
        item = Item(name=name, recording=recording, label=clip.label, modality=clip.modality, split=split, lent=clip.split is not split)
        if clip.modality is Modality.AUDIO and clip.label in HEARD_LABELS:
            sound_N = self.sound(name)
            whole = (0.0, len(sound_N) / RATE)
            part = whole if clip.label == "ambient" else audible(sound_N)
            yield replace(item, parts=(part,), loud=loudest(sound_N, part))
        elif clip.modality is Modality.FRAMES and clip.label in SEEN_LABELS:
            whole = LENT[split] if lent else (0.0, clip.seconds)
            yield replace(item, parts=PARTS.get(row.path.name, (whole,)))
            if row.path.name == STREET:
                yield replace(item, label="street", empty=True)

    def sound(self, name: str) -> Array:
        """Mono samples at 16 kHz."""
        if name not in self._sounds:
            samples_NC, rate = soundfile.read(self._rows[name].path, dtype="float32", always_2d=True)
            mono = torch.from_numpy(samples_NC.mean(1))
            sound_N: Array = torchaudio.functional.resample(mono, rate, RATE).numpy().astype(np.float32, copy=False)
            sound_N.setflags(write=False)
            self._sounds[name] = sound_N
        return self._sounds[name]

    def frames(self, item: Item, part: Span) -> list[Rgb]:
        """A still picture as the only one of a list; a video's part as its frames at 2 a second."""
        path = self._rows[item.name].path
        if item.empty:
            return [self._median(item.name, path)]
        if (item.name, part) not in self._frames:
            seconds = self._rows[item.name].clip.seconds
            self._frames[item.name, part] = list(_sampled(path, part)) if seconds else [fitted(_picture(path))]
        return self._frames[item.name, part]

    def _median(self, name: str, path: Path) -> Rgb:
        """The street without its people: each place of it is empty most of the time. Nobody recorded that."""
        if name not in self._empty:
            pictures = [rgb for at, (_, rgb) in enumerate(_video(path)) if at % 16 == 0]
            self._empty[name] = fitted(np.median(np.stack(pictures), axis=0).astype(np.uint8))
        return self._empty[name]


def audible(sound_N: Array) -> Span:
    """From the first to the last moment that is near the loudest, in seconds."""
    level = _envelope(sound_N)
    on = np.flatnonzero(level >= level.max() * 10 ** (-AUDIBLE_DB / 20))
    return (float(on[0]) * HOP / RATE, min(float(on[-1] + 1) * HOP / RATE + TAIL_S, len(sound_N) / RATE))


def loudest(sound_N: Array, part: Span) -> Span:
    """The half second with the most energy, in seconds; the whole part where that is shorter."""
    start, end = round(part[0] * RATE), round(part[1] * RATE)
    length = min(round(LOUD_S * RATE), end - start)
    energy = np.concatenate([[0.0], np.cumsum(np.square(sound_N[start:end], dtype=np.float64))])
    best = start + int(np.argmax(energy[length:] - energy[: len(energy) - length]))
    return (best / RATE, (best + length) / RATE)


def _envelope(sound_N: Array) -> NDArray[np.float64]:
    padded = np.pad(sound_N.astype(np.float64), (0, -len(sound_N) % HOP))
    level: NDArray[np.float64] = np.sqrt(np.mean(padded.reshape(-1, HOP) ** 2, axis=1))
    return level


def fitted(rgb_HW3: Rgb) -> Rgb:
    """The picture at the scene's size."""
    height, width = rgb_HW3.shape[:2]
    scale = min(WIDTH / width, HEIGHT / height)
    size = (min(WIDTH, round(width * scale)), min(HEIGHT, round(height * scale)))
    canvas: Rgb = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)
    left, top = (WIDTH - size[0]) // 2, (HEIGHT - size[1]) // 2
    canvas[top : top + size[1], left : left + size[0]] = cv2.resize(rgb_HW3, size, interpolation=cv2.INTER_AREA)
    canvas.setflags(write=False)
    return canvas


def _picture(path: Path) -> Rgb:
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError(f"{path} is no picture")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _video(path: Path) -> Iterator[tuple[float, Rgb]]:
    """(second, picture) in order."""
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            rate = float(container.streams.video[0].average_rate or 1)
            yield number / rate, frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def _sampled(path: Path, part: Span) -> Iterator[Rgb]:
    due = part[0]
    for second, rgb in _video(path):
        if second >= due - 1e-6 and due < part[1]:
            yield fitted(rgb)
            due += FRAME_S
