"""Composed scenes as what fusion methods learn from and are judged by: the tokens of every window, and what is true in it.

Laws:
1. Row b of the windows is the window that row b of the truth labels.
2. A scene is encoded as it would be live: after its way through the topics (scenes.sent), its sound in chunks of a second, each by
   itself, each picture by itself.
3. A scene's rows depend on its script, its media, the encoders and the corruption's seed: not on the scenes beside it.
4. What is saved comes back to the bit. Nothing that was saved is used once a script, an encoder, the manifest of recordings, the
   corruption, its seed or FORMAT is another. Code is not among these: whoever changes what it makes raises FORMAT.

Shape key: B windows, N samples (16 kHz), K samples of a chunk.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from models import recordings
from models.evaluation.happenings import FRAME_S
from models.evaluation.media import RATE, Media
from models.evaluation.scenes import Scene, render, sent
from models.evaluation.scripts import Script
from models.evaluation.truth import WINDOW_S, Truth, label
from models.fusion.windows import MODALITIES, Stream, Windows
from models.profiles import Encoders
from models.tokens import SECOND, Event, Gathered, gather, windows_of

FORMAT = 3
"""Of the file, and of all code that decides what stands in it."""
CHUNK_S = 1.0
REMEMBERED = 8_192
"""How many events' features are remembered of each kind: up to 7 kB each, of sounds."""
Corrupt = Callable[[Scene, int], Scene]
"""A scene and a seed to a scene as worse media would have given it."""
Rows = NDArray[np.int64]
_PARTS = ("tokens_BTD", "mask_BT", "quality_BQ")
_ARRAYS = ("truth_BC", "script_B", "start_B", "conflict_B", "single_B", "group_B")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Examples:
    """The windows of scenes and what is true in them, row by row."""

    windows: Windows
    truth: Truth

    def __len__(self) -> int:
        return len(self.truth.script_B)

    def take(self, rows: Rows | Tensor | Sequence[int]) -> Examples:
        """Those rows, in that order; numbers, not a mask. Scenes and groups keep their numbers."""
        rows_B = np.asarray(rows, dtype=np.int64)
        at_B = torch.from_numpy(rows_B)
        streams = {name: Stream.of(it.tokens_BTD[at_B], it.mask_BT[at_B], it.quality_BQ[at_B]) for name, it in self.windows.streams()}
        arrays = {name: getattr(self.truth, name)[rows_B] for name in _ARRAYS}
        kept = tuple(self.truth.recordings[at] for at in rows_B)
        return Examples(windows=Windows(**streams), truth=Truth(**arrays, groups=self.truth.groups, recordings=kept))

    def save(self, path: Path) -> None:
        """As safetensors: all of it or nothing."""
        tensors = {f"{name}.{part}": getattr(it, part) for name, it in self.windows.streams() for part in _PARTS}
        tensors |= {name: torch.from_numpy(getattr(self.truth, name)) for name in _ARRAYS}
        names = {"groups": self.truth.groups, "recordings": [sorted(one) for one in self.truth.recordings]}
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()},
            aside,
            metadata={"format": str(FORMAT), "names": msgspec.json.encode(names).decode()},
        )
        aside.replace(path)

    @classmethod
    def load(cls, path: Path) -> Examples:
        """What `save` wrote. ValueError where it is another format or no such file at all; OSError where there is none."""
        try:
            with safe_open(path, framework="pt") as opened:
                about = opened.metadata() or {}
                if about.get("format") != str(FORMAT):
                    raise ValueError(f"{path.name} has format {about.get('format')}, not {FORMAT}")
                names = msgspec.json.decode(about["names"], type=_Names)
                streams = {name: Stream.of(*(opened.get_tensor(f"{name}.{part}") for part in _PARTS)) for name in MODALITIES}
                arrays = {name: opened.get_tensor(name).numpy() for name in _ARRAYS}
        except (SafetensorError, msgspec.ValidationError) as exc:
            raise ValueError(f"{path.name} holds no examples: {exc}") from exc
        return cls(windows=Windows(**streams), truth=Truth(**arrays, groups=names.groups, recordings=names.recordings))


class _Names(msgspec.Struct):
    groups: tuple[str, ...]
    recordings: tuple[frozenset[str], ...]


def build(
    scripts: Sequence[Script],
    media: Media,
    encoders: Encoders,
    *,
    corrupt: Corrupt | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    title: str = "scenes",
) -> Examples:
    """Every window of every scene: rendered, corrupted where asked for (`seed`: of that), encoded. Blocking.

    Scenes pass one by one; what stays is about 17 kB a window. With `progress` (see `bar`), one bar of that `title`.
    """
    truth = label(scripts)
    task = progress.add_task(title, total=len(scripts)) if progress else None
    encoders = remembering(encoders)
    gathered: list[Gathered] = []
    for at, script in enumerate(scripts):
        scene = render(script, media)
        if corrupt:
            scene = corrupt(scene, _seed(seed, script))
        events = encode(scene, encoders)
        for start in truth.start_B[truth.script_B == at] - script.start:
            gathered.append(gather(_micros(start), _micros(start + WINDOW_S), events))
        if progress and task is not None:
            progress.advance(task)
    return Examples(windows=windows_of(gathered), truth=truth)


def bar() -> Progress:
    """The progress bar of `build`: a context manager."""
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())


def encode(scene: Scene, encoders: Encoders) -> list[Event]:
    """The events of a scene, in microseconds from its beginning."""
    scene = sent(scene)
    seen = encoders.images(scene.pictures)
    step = round(CHUNK_S * RATE)
    starts = range(0, len(scene.sound_N), step)
    sounds = [scene.sound_N[at : at + step] for at in starts]
    said = encoders.words([one.sentence.text for one in scene.words])
    heard = encoders.sounds(sounds)
    return [
        *(Event(start=at, end=at, features=one) for at, one in ((_micros(number * FRAME_S), one) for number, one in enumerate(seen))),
        *(
            Event(start=_micros(at / RATE), end=_micros((at + len(sound)) / RATE), features=one)
            for at, sound, one in zip(starts, sounds, heard, strict=True)
        ),
        *(
            Event(start=_micros(one.start), end=_micros(one.end), features=made, text=one.sentence.text, confidence=one.confidence)
            for one, made in zip(scene.words, said, strict=True)
        ),
    ]


def _micros(seconds: float) -> int:
    return round(seconds * SECOND)


def _seed(seed: int, script: Script) -> int:
    """Of a scene's corruption: another one for each scene, also for each segment of a stream."""
    return int(np.random.default_rng([seed, script.seed, round(script.start)]).integers(2**31))


def remembering(encoders: Encoders) -> Encoders:
    """The same, not asked again for what they encoded lately: scenes share backgrounds, and conditions all that they leave alone."""
    images, sounds, words = (
        one if isinstance(one, _Remembered) else _Remembered(one) for one in (encoders.images, encoders.sounds, encoders.words)
    )
    return replace(encoders, images=images, sounds=sounds, words=words)


class _Remembered:
    """An encoder that is not asked again for an event that it has lately encoded."""

    def __init__(self, encoder: Callable[[Sequence[Any]], list[Any]]) -> None:
        self._encoder = encoder
        self._found: dict[bytes, Any] = {}

    def __call__(self, events: Sequence[Any], /) -> list[Any]:
        """One result per event."""
        distinct = {id(event): event for event in events}
        prints = {at: hashlib.blake2b(_bytes(event), digest_size=16).digest() for at, event in distinct.items()}
        new = {prints[at]: event for at, event in distinct.items() if prints[at] not in self._found}
        found = self._found | dict(zip(new, self._encoder(list(new.values())), strict=True))
        self._found = dict(list(found.items())[-REMEMBERED:])
        return [found[prints[id(event)]] for event in events]


def _bytes(event: str | NDArray[Any]) -> bytes:
    return event.encode() if isinstance(event, str) else event.tobytes()


def key(scripts: Iterable[Script], encoders: Encoders, *, corruption: str = "", seed: int = 0) -> str:
    """64 hex digits that change with whatever examples are made of, code apart. `corruption`: its name and settings."""
    clips = sorted(clip.sha256 for package in recordings.manifest() for clip in package.clips)
    parts = (str(FORMAT), encoders.fingerprint, corruption, str(seed), *clips)
    return _digest((*parts, *(msgspec.json.encode(script).decode() for script in scripts)))


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def cached(folder: Path, key: str, make: Callable[[], Examples]) -> Examples:
    """What lies in the folder under this key; made and kept there where there is none."""
    path = folder / f"{key}.safetensors"
    if not path.is_file():
        make().save(path)
    return Examples.load(path)
