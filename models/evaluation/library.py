"""What scenes are composed from: the clips of one split and what may be said in it. Data alone; `scenes` reads the media.

Laws:
1. A library holds clips and sentences of one split. The one exception is asked for by name: `lent` clips (see `media.Media.library`).
2. A recording is chosen before its clip: many cuts of one recording weigh no more than a single one of another.
3. The sentences of one template stand in one split.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.classes import CLASSES
from models.recordings import Modality, Split

Span = tuple[float, float]
"""From and to, in seconds."""

SPOKEN = ("spoken_threat", "call_for_help")
"""The classes that are understood; all but these and `person` are heard."""
HEARD = tuple(name for name in CLASSES if name not in (*SPOKEN, "person"))
RESEMBLES = {
    "alarm": ("siren",),
    "animal": ("scream",),
    "baby": ("scream",),
    "car": ("siren", "explosion"),
    "crowd": ("scream",),
    "dog": ("gunshot", "scream"),
    "door": ("gunshot", "footsteps"),
    "fire": ("explosion", "footsteps"),
    "household": ("glass_break",),
    "impact": ("glass_break", "gunshot"),
    "laugh": ("scream",),
    "phone": ("siren",),
    "speech": (),
    "thunder": ("explosion", "gunshot"),
}
"""Harmless sounds and the classes that they may be taken for. By judgement, not by a model. Only words tell what `speech` means."""
IMPULSES = ("glass_break", "gunshot", "explosion")
_SENTENCES = Path(__file__).with_name("sentences.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One clip. `name` is unique; `recording` is what it shares with the cuts and variants of one original.

    `parts`: where it sounds, or where it shows what its label says (a picture: one of no length). `loud`: the loudest half second of a
    sound. `empty`: not the video itself but the median of its frames, where nobody is left. `lent`: cut from another split's recording.
    """

    name: str
    recording: str
    label: str
    modality: Modality
    split: Split
    parts: tuple[Span, ...] = ((0.0, 0.0),)
    loud: Span = (0.0, 0.0)
    empty: bool = False
    lent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """Something that is said. `label` is a spoken class or `neutral`; `alarming`: neutral, in the words of a threat or a call."""

    text: str
    label: str
    template: str
    split: Split
    alarming: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """All that scenes of one split may show. ValueError where something is of another split."""

    split: Split
    items: tuple[Item, ...]
    sentences: tuple[Sentence, ...]

    def __post_init__(self) -> None:
        every: tuple[Item | Sentence, ...] = (*self.items, *self.sentences)
        if foreign := [one for one in every if one.split is not self.split]:
            raise ValueError(f"{len(foreign)} clips or sentences are not of {self.split}: {foreign[0]}")

    def clips(self, *labels: str, modality: Modality = Modality.AUDIO) -> list[Item]:
        """Those of these labels."""
        return [item for item in self.items if item.label in labels and item.modality is modality]

    def choose(self, rng: np.random.Generator, *labels: str, modality: Modality = Modality.AUDIO) -> Item:
        """A label, a recording of it, a clip of that: each with equal chances. ValueError where there is none."""
        found = self.clips(*labels, modality=modality)
        if not found:
            raise ValueError(f"the {self.split} library has no {modality} of {', '.join(labels)}")
        label = _one(rng, [item.label for item in found])
        recording = _one(rng, [item.recording for item in found if item.label == label])
        fitting = [item for item in found if item.label == label and item.recording == recording]
        return fitting[int(rng.integers(len(fitting)))]

    def say(self, rng: np.random.Generator, label: str, *, alarming: bool = False) -> Sentence:
        """A template, then a sentence of it."""
        found = [one for one in self.sentences if one.label == label and one.alarming == alarming]
        template = _one(rng, [one.template for one in found])
        fitting = [one for one in found if one.template == template]
        return fitting[int(rng.integers(len(fitting)))]


def _one(rng: np.random.Generator, names: Iterable[str]) -> str:
    distinct = sorted(set(names))
    return distinct[int(rng.integers(len(distinct)))]


def sentences(path: Path = _SENTENCES) -> tuple[Sentence, ...]:
    """Every sentence of every split, in the file's order."""
    groups: dict[str, dict[str, dict[str, list[str]]]] = tomllib.loads(path.read_text("utf-8"))
    return tuple(
        Sentence(text=text, label=_label(group), template=f"{group}/{template}", split=Split(split), alarming=group == "alarming")
        for group, splits in groups.items()
        for split, templates in splits.items()
        for template, texts in templates.items()
        for text in texts
    )


def _label(group: str) -> str:
    return "neutral" if group == "alarming" else group
