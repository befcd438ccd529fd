"""How a head is trained: every number that is not in the data.

Laws:
1. A recipe cannot be wrong: what is out of range is a ValueError with the number.
2. `digest` changes with any field, and with nothing else.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Literal

from models.classes import JOINT
from models.evaluation.library import SPOKEN

ByName = tuple[tuple[str, tuple[str, ...]], ...]
"""Classes by the name of what they belong to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Defaults were chosen by cross-validation over the recordings of training and validation; `dropout`, `average`, and for experts
    `decay`, `rate` and `token_noise` on validation and calibration.
    """

    model: int = 64
    """Width of the model."""
    batch: int = 256
    """Windows in a step."""
    epochs: int = 30
    """At most; one epoch draws as many windows as there are."""
    patience: int = 6
    """Epochs without a better validation figure, after which training stops."""
    gate_epochs: int = 12
    """Of the gates and residual of `gated`: that many, on the same way."""
    warm_up: float = 1.0
    """Epochs in which the learning rate rises; then it falls as a cosine, to 0 at the last of `epochs`."""
    rate: float = 2e-3
    """Greatest learning rate (AdamW)."""
    decay: float = 0.05
    """Weight decay, of matrices alone."""
    shares: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0)
    """Of what an expert learned beyond its encoder's verdict, and of what gates and residual learned: which are tried, by class."""
    clip: float = 1.0
    """Greatest norm of a gradient."""
    dropout: float = 0.4
    """Share of hidden units."""
    average: float = 0.995
    """What is judged and kept is the weights' exponential moving average: the share of it that a step leaves (0.995: the last 200 steps
    or so, two epochs of all windows). 0: the weights themselves."""

    loss: Literal["bce", "focal"] = "bce"
    focus: float = 2.0
    """Focal loss: the power of 1 - probability of the truth."""
    most_weight: float = 10.0
    """A positive weighs as much as negatives per positive, at most this."""
    balance: float = 0.0
    """Sampling: 0 takes every window once an epoch; 1 draws every class, and within it every recording, as often."""
    distillation: float = 0.5
    """Weight of the partial view's divergence from the full view, beside the two views' losses of weight 1."""

    token_noise: float = 1.0
    """Standard deviation, in each dimension's own."""
    token_dropout: float = 0.1
    """Chance that a token is left out; a modality keeps one."""
    quality_jitter: float = 0.05
    """Standard deviation, in each feature's own."""
    whole: float = 0.25
    """Chance that a window's partial view is the full one; else one of its other non-empty subsets, each as likely."""

    folds: int = 3
    """Parts of the recordings: gates learn from experts that did not train on the window's recording."""
    subjects: ByName = (("frames", ("person", *JOINT)), ("transcripts", SPOKEN))
    """Classes of which a modality may speak at all; a modality that is not named, of any. Pictures show nobody's glass break: what they
    would say of it is who stood beside it in training."""
    joint: ByName = tuple(JOINT.items())
    """Classes that modalities decide together, and by which: what the residual of `gated` may correct, and by what."""
    fewest_positives: int = 10
    """Training windows of a class with the modality present: with fewer its expert has no voice in the class."""
    fewest_groups: int = 2
    """The same in recordings: with fewer, no window of the class could be held out."""
    margin: float = 0.03
    """An expert speaks of a class where its AP on held-out windows is above the base rate by more than this."""
    outclassed: float = 0.25
    """An expert is silent of a class where that AP is less than this share of the best expert's: a weak voice dilutes a strong one."""
    per_hour: float = 1.0
    """False alarms that a class may make in an hour of the calibration split: where thresholds are."""

    def __post_init__(self) -> None:
        for name in ("model", "batch", "epochs", "patience", "gate_epochs", "fewest_positives", "fewest_groups"):
            self._demand(name, getattr(self, name) >= 1, "at least 1")
        for name in ("warm_up", "decay", "focus", "distillation", "token_noise", "quality_jitter", "margin", "per_hour"):
            self._demand(name, getattr(self, name) >= 0, "at least 0")
        for name in ("rate", "clip"):
            self._demand(name, getattr(self, name) > 0, "above 0")
        for name in ("dropout", "token_dropout", "average"):
            self._demand(name, 0 <= getattr(self, name) < 1, "in [0, 1)")
        for name in ("balance", "whole", "outclassed"):
            self._demand(name, 0 <= getattr(self, name) <= 1, "in 0..1")
        self._demand("shares", bool(self.shares) and all(0 <= share <= 1 for share in self.shares), "at least one, each in 0..1")
        self._demand("folds", self.folds >= 2, "at least 2")
        self._demand("most_weight", self.most_weight >= 1, "at least 1")
        self._demand("loss", self.loss in ("bce", "focal"), "bce or focal")

    def _demand(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise ValueError(f"{name}={getattr(self, name)!r} must be {what}")

    @property
    def digest(self) -> str:
        """64 hex digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
