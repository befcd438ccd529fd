"""Rules: what becomes an alert. One YAML file, checked whole, held as frozen settings with a version of their own.

A rule watches one security class. It opens at `threshold`, stays open above `off_threshold` (`off` alone
is a boolean in YAML), counts from `duration` on, and is
then silent for `cooldown`. `upgrade` raises the severity of the same alert when a second condition holds in one of its
windows: a score (of its own class, or of another) that reaches a second threshold. Nothing lowers a severity. With `needs`, a window
that lacks one of those modalities counts as 0: a camera alone cannot tell what it takes sight and sound together to tell.
"""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from streamer.config import Duration, Id, Settings, read_yaml, wrong_fields
from streamer.errors import ConfigError
from streamer.events import SECOND, Micros, Modality, Severity

SecurityClass = Literal[
    "person",
    "glass_break",
    "gunshot",
    "explosion",
    "scream",
    "siren",
    "footsteps",
    "spoken_threat",
    "call_for_help",
    "intrusion",
    "breakage",
]
Probability = Annotated[float, Field(gt=0, le=1)]

OFF_SHARE = 0.8
"""Without `off_threshold`, a rule stays open above this share of its threshold."""

RANK = {severity: rank for rank, severity in enumerate(Severity)}
"""Severities in rising order."""


class Upgrade(Settings):
    """Raise an open alert to `severity` once the score of `class` (default: the rule's own) reaches `threshold`."""

    label: Annotated[SecurityClass | None, Field(alias="class")] = None
    threshold: Probability
    severity: Severity


class Rule(Settings):
    """One rule. `off_threshold` defaults to 0.8 x threshold; durations are in microseconds of event time."""

    id: Id
    label: Annotated[SecurityClass, Field(alias="class")]
    threshold: Probability
    off_threshold: Probability | None = None
    duration: Duration = Micros(0)
    cooldown: Duration = Micros(60 * SECOND)
    severity: Severity = Severity.WARNING
    title: Annotated[str | None, Field(min_length=1, max_length=80)] = None
    upgrade: Upgrade | None = None
    needs: Annotated[tuple[Modality, ...] | None, Field(min_length=1, max_length=len(Modality))] = None

    @field_validator("needs")
    @classmethod
    def _ordered(cls, needs: tuple[Modality, ...] | None) -> tuple[Modality, ...] | None:
        """Each once, in one order: two that say the same are the same rule."""
        return needs and tuple(sorted(set(needs)))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.off_threshold is not None and self.off_threshold > self.threshold:
            raise ValueError(f"off_threshold={self.off_threshold} is above threshold={self.threshold}")
        if self.upgrade and RANK[self.upgrade.severity] <= RANK[self.severity]:
            raise ValueError(f"upgrade.severity={self.upgrade.severity.value} must be above severity={self.severity.value}")
        same = self.upgrade and self.upgrade.label in (None, self.label)
        if self.upgrade and same and self.upgrade.threshold <= self.threshold:
            raise ValueError(f"upgrade.threshold={self.upgrade.threshold} must be above threshold={self.threshold}")
        return self

    @property
    def watched(self) -> str:
        """What its scores are held under: its class, and what a window must have to count."""
        return "@".join([self.label, *(self.needs or ())])

    @property
    def stays(self) -> float:
        """The score from which on an open episode stays open."""
        return self.off_threshold if self.off_threshold is not None else OFF_SHARE * self.threshold

    @property
    def digest(self) -> str:
        """What the rule asks for, as a version of its own: all of it but what people read."""
        return _digest(self.model_dump(mode="json", exclude_none=True, exclude={"title"}))

    @property
    def name(self) -> str:
        """What people read: the title, else the class."""
        return self.title or self.label


class Rules(Settings):
    """The whole file, in its order."""

    version: Literal[1] = 1
    rules: Annotated[tuple[Rule, ...], Field(min_length=1, max_length=256)]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        ids = [rule.id for rule in self.rules]
        if double := sorted({i for i in ids if ids.count(i) > 1}):
            raise ValueError(f"rule ids must differ, twice: {', '.join(double)}")
        return self

    @property
    def digest(self) -> str:
        """The rules' version in every alert: a hash of what they say, not of how the file is laid out."""
        return _digest(self.model_dump(mode="json", exclude_none=True))


def _digest(content: dict[str, Any]) -> str:
    return "r" + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def load_rules(path: Path | None = None) -> Rules:
    """The rules of a file, or the ones that ship. Raises ConfigError with one line for each wrong field."""
    raw = read_yaml(path or files("streamer") / "defaults" / "rules.yaml")
    return parse_rules(raw, origin=str(path or "streamer/defaults/rules.yaml"))


def parse_rules(raw: Any, *, origin: str = "rules") -> Rules:
    """Check a mapping as it comes out of YAML. Raises ConfigError with one line for each wrong field."""
    try:
        return Rules.model_validate(raw)
    except ValidationError as exc:
        raise ConfigError(f"{origin} is not valid:\n{wrong_fields(exc)}") from None
