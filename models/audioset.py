"""From AudioSet's labels to security classes. The table is `audioset.toml`."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.classes import CLASSES
from models.features import Array, Chances

TABLE = Path(__file__).with_name("audioset.toml")
_TOP = 5  # labels kept of each patch, for a person to read
_FLOOR = 0.05  # posterior below which a label is not worth showing


def read_labels(path: Path) -> tuple[str, ...]:
    """The names in YAMNet's class map (a CSV with `index,mid,display_name`), in the order of its outputs."""
    with path.open(encoding="utf-8", newline="") as stream:
        return tuple(row["display_name"] for row in csv.DictReader(stream))


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundClasses:
    """The table, bound to one encoder's labels. C security classes that sound can speak of, L labels."""

    names: tuple[str, ...]
    labels: tuple[str, ...]
    weights_CL: Array

    @classmethod
    def bind(cls, labels: Sequence[str], table: Path = TABLE) -> SoundClasses:
        """Raises ValueError for a class or label that does not exist: a typing error would silence a class."""
        raw: dict[str, dict[str, float]] = tomllib.loads(table.read_text("utf-8"))
        column = {label: at for at, label in enumerate(labels)}
        unknown = sorted((set(raw) - set(CLASSES)) | {label for row in raw.values() for label in row if label not in column})
        if unknown:
            raise ValueError(f"{table.name} names unknown classes or labels: {', '.join(unknown)}")
        weights_CL = np.zeros((len(raw), len(labels)), np.float32)
        for at, row in enumerate(raw.values()):
            for label, weight in row.items():
                weights_CL[at, column[label]] = weight
        return cls(names=tuple(raw), labels=tuple(labels), weights_CL=weights_CL)

    def chances(self, posterior_L: Array) -> Chances:
        """The best weighted label of each class."""
        best_C = (self.weights_CL * posterior_L).max(axis=1)
        return dict(zip(self.names, best_C.tolist(), strict=True))

    def top(self, posterior_L: Array) -> tuple[tuple[str, float], ...]:
        """The labels that a person would want to see, best first."""
        order = np.argsort(-posterior_L, kind="stable")[:_TOP]
        return tuple((self.labels[at], float(posterior_L[at])) for at in order if posterior_L[at] >= _FLOOR)
