"""What small encoders learn from: the real recordings and sentences of the benchmark, one split at a time.

Laws:
1. Training learns from the training split, chooses by validation; no test recording or sentence is read.
2. Sounds are the benchmark's composed scenes, cut into patches; pictures are the clips' own frames, each once; texts are sentences.
3. A patch's class is true where truth counts the event in it (`evaluation/truth.py`, law 1). Where a patch holds less of an event than
   that, but some of it, the class is not known.
4. The prototypes that the bundled judge measures with are texts of training.

Shape key: N events, C classes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress

from models.evaluation import scripts
from models.evaluation.library import sentences
from models.evaluation.media import RATE, Media
from models.evaluation.scenes import mixed
from models.evaluation.truth import Event, events
from models.features import Array
from models.recordings import Modality, Split
from models.small import sound, text
from models.small.file import save
from models.small.train import KINDS, Labelled, Learned, learn
from models.training.recipe import Recipe
from models.words import PROTOTYPES
from models.yamnet import cut_of

SCENES: Mapping[Split, int] = {Split.TRAIN: 300, Split.VALIDATION: 100}
"""Scenes of 12 s, each with 24 patches; as the benchmark draws them, the first of each split."""


def train_small(
    architecture: str,
    home: Path | None,
    out: Path,
    *,
    seed: int = 0,
    recipe: Recipe | None = None,
    scenes: Mapping[Split, int] = SCENES,
    progress: Progress | None = None,
    log_dir: Path | None = None,
    checkpoint_dir: Path | None = None,
    device: str = "cpu",
) -> Learned:
    """Train one of KINDS and write it to `out`. Blocking. ValueError: see `learn`; PackageError where a recording is missing or altered.

    `scenes`: how many, of training and validation, for sound alone.
    """
    if architecture not in KINDS:
        raise ValueError(f"architecture {architecture!r} must be one of {', '.join(KINDS)}")
    media = None if architecture in text.NETWORKS else Media.load(home)
    train, validation = (examples(architecture, split, media, scenes.get(split, 0)) for split in (Split.TRAIN, Split.VALIDATION))
    found = learn(
        architecture,
        train,
        validation,
        seed=seed,
        recipe=recipe,
        progress=progress,
        log_dir=log_dir,
        checkpoint_dir=checkpoint_dir,
        device=device,
    )
    save(out, found.network, found.about)
    return found


def examples(architecture: str, split: Split, media: Media | None, scenes: int = 0) -> Labelled:
    """A split's events of an architecture's modality. ValueError where recordings are needed and there are none."""
    if architecture in text.NETWORKS:
        return texts(split)
    if media is None:
        raise ValueError(f"{architecture} learns from recordings")
    return sounds(split, media, scenes) if architecture in sound.NETWORKS else pictures(split, media)


def sounds(split: Split, media: Media, scenes: int) -> Labelled:
    """Patches of so many scenes, whole ones, every 0.48 s; a group is a recording that is heard, or the background."""
    library = media.library(split, lend=split is not Split.TEST)
    classes = KINDS["sound-cnn"].classes
    patches: list[Array] = []
    truth, known, groups = [], [], []
    for number in range(scenes):
        script = scripts.draw(split, number, library)
        heard = [event for event in events(script) if event.label in classes and event.modality == "audio"]
        for start, patch in cut_of(mixed(script, media)):
            span = (start / RATE, (start + len(patch)) / RATE)
            held = [event for event in heard if event.start < span[1] and span[0] < event.end]
            counted = {event.label for event in held if event.counts(span)}
            patches.append(patch)
            truth.append([name in counted for name in classes])
            known.append([name in counted or name not in {event.label for event in held} for name in classes])
            groups.append(_group(held, script.sound.recording))
    return _labelled(patches, truth, known, groups, classes)


def _group(held: Iterable[Event], otherwise: str) -> str:
    return min((name for event in held for name in event.recordings), default=otherwise)


def pictures(split: Split, media: Media) -> Labelled:
    """Every frame in which somebody is to be seen, and every picture of nobody; a group is a recording."""
    library = media.library(split, lend=split is not Split.TEST)
    found = [
        (frame, item.label == "person", item.recording)
        for item in library.clips("person", "street", "photo", modality=Modality.FRAMES)
        for part in item.parts
        for frame in media.frames(item, part)
    ]
    frames, truth, groups = zip(*found, strict=True)
    return _labelled(frames, [[one] for one in truth], [[True]] * len(frames), groups, KINDS["picture-cnn"].classes)


def texts(split: Split, prototypes: Path = PROTOTYPES) -> Labelled:
    """Every sentence; a group is a template, or the prototypes of one class."""
    found = [(one.text, one.label, one.template) for one in sentences() if one.split is split]
    if split is Split.TRAIN:
        raw: dict[str, list[str]] = tomllib.loads(prototypes.read_text("utf-8"))
        found += [(said, name, f"prototypes/{name}") for name, every in raw.items() for said in every]
    said, labels, groups = zip(*found, strict=True)
    classes = KINDS["text-gru"].classes
    return _labelled(said, [[name == label for name in classes] for label in labels], [[True] * len(classes)] * len(said), groups, classes)


def _labelled(
    found: Sequence[Any], truth: Sequence[list[bool]], known: Sequence[list[bool]], groups: Sequence[str], classes: tuple[str, ...]
) -> Labelled:
    return Labelled(
        events=found,
        truth_NC=torch.tensor(np.array(truth, np.bool_).reshape(-1, len(classes))),
        known_NC=torch.tensor(np.array(known, np.bool_).reshape(-1, len(classes))),
        group_N=torch.from_numpy(np.unique(groups, return_inverse=True)[1].astype(np.int64)),
        classes=classes,
    )
