"""From logits to probabilities that mean what they say, and to the threshold where each class alarms.

probability = sigmoid((scale[class] * logit + bias[class]) / temperature[pattern]); a pattern is which modalities a window has.

Laws:
1. Within a pattern a class's probability never falls when its logit rises: scales and temperatures are above 0.
2. What could not be fitted keeps a fallback and says so (models/calibrate.py).
3. `apply` computes in float64: a threshold cuts the same scores live as when it was fitted.
4. `from_dict` of `to_dict`, through JSON, is the same calibration; what is not one is a ValueError that names the place.

Sources: scale and bias, Platt 1999; temperature, Guo et al. 2017.
Shape key: as in models/fusion/windows.py; P patterns. Pattern p has modality m when bit m of p is set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor

from models.fusion.windows import MODALITIES

PATTERNS = tuple("+".join(name for m, name in enumerate(MODALITIES) if p >> m & 1) or "nothing" for p in range(2 ** len(MODALITIES)))
"""Names of the availability patterns, in the order of P."""
LEAST_SCALE = 1e-6
HOTTEST = 20.0
"""A temperature is in 1/HOTTEST..HOTTEST."""
NEVER = math.nextafter(1.0, 2.0)
"""The greatest threshold: no probability reaches it."""

Fallback = Literal["few_positives", "few_negatives", "no_order"]
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """One class: from its logit to log-odds, the probability from which it alarms, and on how many windows that rests."""

    name: str
    scale: float
    bias: float
    threshold: float
    positives: int
    negatives: int
    fallback: Fallback | None = None

    def __post_init__(self) -> None:
        _name("name", self.name)
        _number("scale", self.scale, least=LEAST_SCALE)
        _number("bias", self.bias, least=-math.inf)
        _number("threshold", self.threshold, least=0.0, most=NEVER)
        _count("positives", self.positives)
        _count("negatives", self.negatives)
        if self.fallback not in (None, *get_args(Fallback)):
            raise ValueError(f"fallback={self.fallback!r} must be none or one of {', '.join(get_args(Fallback))}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Temperature:
    """One pattern: its temperature, how many windows had it, and the pattern that the temperature was fitted on (None: 1 is assumed)."""

    value: float
    windows: int
    fitted_on: str | None

    def __post_init__(self) -> None:
        _number("value", self.value, least=1 / HOTTEST, most=HOTTEST)
        _count("windows", self.windows)
        if self.fitted_on not in (None, *PATTERNS):
            raise ValueError(f"fitted_on={self.fitted_on!r} must be none or one of {', '.join(PATTERNS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Made by `models.calibrate.fit`, kept as JSON. Classes stand in the order of the logits, temperatures by pattern name.

    `split` and `windows` say what it was fitted on; `per_hour` is the budget of false alarms per hour and class, kept over its `hours`.
    """

    split: str
    windows: int
    hours: float
    per_hour: float
    classes: tuple[Scale, ...]
    temperatures: Mapping[str, Temperature]

    def __post_init__(self) -> None:
        _name("split", self.split)
        _count("windows", self.windows)
        _number("hours", self.hours, least=0.0)
        _number("per_hour", self.per_hour, least=0.0)
        names = [each.name for each in self.classes]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"classes {names} must be at least one, each once")
        if set(self.temperatures) != set(PATTERNS):
            raise ValueError(f"temperatures of {sorted(self.temperatures)} must be of {sorted(PATTERNS)}")

    def apply(self, logits_BC: Tensor, present_BM: Tensor) -> Tensor:
        """Probabilities in float64, on the logits' device. ValueError where the shapes are not this calibration's."""
        return torch.sigmoid(self.odds(logits_BC, present_BM))

    def odds(self, logits_BC: Tensor, present_BM: Tensor) -> Tensor:
        """The same before the sigmoid: calibrated log-odds."""
        B, C, M = len(logits_BC), len(self.classes), len(MODALITIES)
        if logits_BC.shape != (B, C) or present_BM.shape != (B, M):
            raise ValueError(f"logits {tuple(logits_BC.shape)} must be (B, {C}), and present {tuple(present_BM.shape)} (B, {M})")
        scale_C, bias_C = (self._of_classes(name, logits_BC.device) for name in ("scale", "bias"))
        return (scale_C * logits_BC.double() + bias_C) / self._temperature(present_BM)

    def slopes(self, present_BM: Tensor) -> Tensor:
        """By how much calibrated log-odds rise with a logit: slope_BC, float64."""
        return self._of_classes("scale", present_BM.device) / self._temperature(present_BM)

    def _of_classes(self, name: str, device: torch.device) -> Tensor:
        return torch.tensor([getattr(each, name) for each in self.classes], dtype=torch.float64, device=device)

    def _temperature(self, present_BM: Tensor) -> Tensor:
        """(B, 1)."""
        every_P = torch.tensor([self.temperatures[name].value for name in PATTERNS], dtype=torch.float64, device=present_BM.device)
        return every_P[patterns(present_BM)][:, None]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {**asdict(self), "classes": [asdict(each) for each in self.classes]}

    @classmethod
    def from_dict(cls, data: object) -> Calibration:
        """The inverse of `to_dict`. ValueError says what is missing, unknown or out of range, and where."""
        record = _record(cls, data, "calibration")
        if not isinstance(record["classes"], list) or not isinstance(record["temperatures"], Mapping):
            raise ValueError("calibration: classes must be a list, and temperatures an object")
        record["classes"] = tuple(_made(Scale, each, f"classes[{at}]") for at, each in enumerate(record["classes"]))
        record["temperatures"] = {
            name: _made(Temperature, each, f"temperatures[{name!r}]") for name, each in record["temperatures"].items()
        }
        return _made(cls, record, "calibration")


def patterns(present_BM: Tensor) -> Tensor:
    """Each window's pattern, 0..7."""
    return (present_BM.long() << torch.arange(len(MODALITIES), device=present_BM.device)).sum(1)


def _number(name: str, value: object, *, least: float, most: float = math.inf) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not least <= value <= most:
        raise ValueError(f"{name}={value!r} must be a finite number in {least}..{most}")


def _count(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name}={value!r} must be a count")


def _name(name: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name}={value!r} must be a name")


def _record(kind: type[Any], data: object, where: str) -> dict[str, Any]:
    wanted = {each.name for each in fields(kind)}
    if not isinstance(data, Mapping) or set(data) != wanted:
        found = sorted(map(str, data)) if isinstance(data, Mapping) else type(data).__name__
        raise ValueError(f"{where}: expected an object with {sorted(wanted)}, found {found}")
    return dict(data)


def _made(kind: type[Made], data: object, where: str) -> Made:
    record = _record(kind, data, where)
    try:
        return kind(**record)
    except ValueError as exc:
        raise ValueError(f"{where}: {exc}") from exc
