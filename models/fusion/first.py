"""A first fusion of evidence into security classes. UNCALIBRATED: its numbers rank, they are not yet probabilities.

Laws:
* Each modality's expert gives a chance p; its contribution is logit(p) - logit(prior).
* A score's log-odds are logit(prior) + the sum of the contributions: exact, so the Shapley value of a modality is its term.
* With one modality present the score is that modality's expert.
* A modality that is absent, or that cannot speak of a class, contributes nothing.
* A hint (a class that belongs to another modality) can only raise: it is never taken as evidence of absence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from models.classes import CLASSES
from models.features import Chances

PRIOR = 0.01
"""The chance of any class in a window before anything is seen or heard."""
FLOOR = 0.0005
"""No expert is surer than this, either way."""
HINTS = frozenset({("audio", "call_for_help")})
"""(modality, class) where an expert only hints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """One class in one window: its score, and each modality's share of it in log-odds."""

    probability: float
    contributions: Mapping[str, float]


def logit(p: float) -> float:
    """Log-odds of a probability strictly between 0 and 1."""
    return math.log(p / (1.0 - p))


def sigmoid(x: float) -> float:
    """The probability of log-odds x, without overflow."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0 else math.exp(x) / (1.0 + math.exp(x))


def strongest(chances: Iterable[Chances]) -> Chances:
    """One modality's expert over a window: for each class the greatest chance among its events."""
    best: dict[str, float] = {}
    for each in chances:
        for name, value in each.items():
            best[name] = max(value, best.get(name, 0.0))
    return best


def fuse(experts: Mapping[str, Chances]) -> dict[str, Fused]:
    """Experts by modality (absent ones left out) to every class in CLASSES."""
    return {name: _fuse_class(name, experts) for name in CLASSES}


def _fuse_class(name: str, experts: Mapping[str, Chances]) -> Fused:
    contributions = {modality: _offset(modality, name, chances[name]) for modality, chances in experts.items() if name in chances}
    return Fused(probability=sigmoid(logit(PRIOR) + sum(contributions.values())), contributions=contributions)


def _offset(modality: str, name: str, chance: float) -> float:
    least = PRIOR if (modality, name) in HINTS else FLOOR
    return logit(min(max(chance, least), 1.0 - FLOOR)) - logit(PRIOR)
