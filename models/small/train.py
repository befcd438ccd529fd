"""One small encoder from labelled events: the same loop, recipe, checkpoints and curves as fusion heads have (`models/training`).

Laws:
1. The same examples, recipe and seed give the same weights, on one machine, with as many threads, to the bit; with checkpoints, also after
   an interruption.
2. Weights and scaling see training events alone, the choice of an epoch those of validation.
3. Every epoch sees other variants of the events (`augment`), validation the events as they are. A variant keeps its event's truth.
4. A label that is not known costs nothing and counts in no figure.

Shape key: N events, C classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Generator, Tensor

from models.evaluation.library import HEARD, SPOKEN
from models.small import augment, picture, sound, text
from models.small.file import About
from models.small.parts import Network, Networks
from models.training import losses
from models.training.data import chances, draw, precision
from models.training.loop import run, seed_of
from models.training.recipe import Recipe
from models.training.stages import Stages
from models.training.watch import watching

FITTED = 1_024
"""At most so many events, evenly chosen, are what scaling is fitted to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What differs from one architecture to another: the classes that its modality can speak of, its variants, how long it learns."""

    networks: Networks
    classes: tuple[str, ...]
    vary: Callable[[np.random.Generator, Any], Any]
    recipe: Recipe


_SOUND = Kind(
    networks=sound.NETWORKS,
    classes=HEARD,
    vary=augment.sound,
    recipe=Recipe(batch=64, epochs=16, patience=5, rate=2e-3, decay=0.05, balance=0.5, dropout=0.2, average=0.0),
)
_PICTURE = Kind(
    networks=picture.NETWORKS,
    classes=("person",),
    vary=augment.picture,
    recipe=Recipe(batch=16, epochs=60, patience=20, rate=1e-3, decay=0.05, balance=0.5, dropout=0.2, average=0.0),
)
_TEXT = Kind(
    networks=text.NETWORKS,
    classes=SPOKEN,
    vary=augment.text,
    recipe=Recipe(batch=16, epochs=60, patience=20, rate=2e-3, decay=0.05, dropout=0.3, average=0.0),
)
KINDS: Mapping[str, Kind] = {name: kind for kind in (_SOUND, _PICTURE, _TEXT) for name in kind.networks}
"""Every small encoder, by its architecture. Recipes are a person's choice, made without the test's recordings."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Labelled:
    """Events of one split: patches of sound, pictures, or texts. Truth and what is known of it: bool; a group: a recording's number."""

    events: Sequence[Any]
    truth_NC: Tensor
    known_NC: Tensor
    group_N: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        N, C = len(self.events), len(self.classes)
        shapes = [tuple(each.shape) for each in (self.truth_NC, self.known_NC, self.group_N)]
        if not N or shapes != [(N, C), (N, C), (N,)]:
            raise ValueError(f"truth, known and groups {shapes} must be of {N} events (1 at least) and {C} classes")
        if self.truth_NC.dtype != torch.bool or self.known_NC.dtype != torch.bool:
            raise ValueError(f"truth {self.truth_NC.dtype} and known {self.known_NC.dtype} must be bool")

    @property
    def digest(self) -> str:
        """16 hex digits that change with any event or label."""
        found = hashlib.sha256("/".join(self.classes).encode())
        for tensor in (self.truth_NC, self.known_NC, self.group_N):
            found.update(repr(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
        for event in self.events:
            data = event.encode() if isinstance(event, str) else np.ascontiguousarray(event).tobytes()
            found.update(len(data).to_bytes(8, "little") + data)
        return found.hexdigest()[:16]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learned:
    """A trained network, ready to be used and saved. `precision`: mean AP on validation, of `epoch`, the best; NaN without a positive."""

    network: Network
    about: About
    epoch: int
    precision: float


class EncoderTask:
    """Trains one network; `vary` makes an event's variant."""

    def __init__(
        self, model: Network, train: Labelled, validation: Labelled, recipe: Recipe, vary: Callable[[np.random.Generator, Any], Any]
    ) -> None:
        self.model = model
        self._train, self._validation, self._vary = train, validation, vary
        device = next(model.parameters()).device
        self._truth_NC, self._known_NC = train.truth_NC.to(device), train.known_NC.to(device)
        self._loss = losses.of(recipe, losses.weights(self._truth_NC, self._known_NC, recipe.most_weight))
        self._chance_N = chances(train.truth_NC & train.known_NC, train.group_N, recipe.balance)

    def draw(self, generator: Generator) -> Tensor:
        """Balanced, as the recipe says."""
        return draw(len(self._train.events), self._chance_N, generator)

    def loss(self, row_N: Tensor, generator: Generator) -> Tensor:
        """Of a batch's variants."""
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        inputs = self.model.prepare([self._vary(rng, self._train.events[row]) for row in row_N.tolist()])
        logits_NC, _ = self.model(inputs.to(row_N.device))
        return self._loss(logits_NC, self._truth_NC[row_N], self._known_NC[row_N])

    def score(self) -> float | None:
        """Mean average precision."""
        return precision(self.logits(self._validation), self._validation.truth_NC, self._validation.known_NC)

    def logits(self, examples: Labelled) -> Tensor:
        """Of events as they are, (N, C), on the CPU."""
        return torch.from_numpy(self.model.say(examples.events)[0])


def learn(
    architecture: str,
    train: Labelled,
    validation: Labelled,
    *,
    seed: int,
    recipe: Recipe | None = None,
    progress: Progress | None = None,
    log_dir: Path | None = None,
    checkpoint_dir: Path | None = None,
    device: str = "cpu",
) -> Learned:
    """A trained network on the CPU; `recipe`: its kind's own where there is none. Blocking.

    ValueError: an unknown architecture, examples of other classes than the training's, checkpoints of something else.
    """
    if architecture not in KINDS:
        raise ValueError(f"architecture {architecture!r} must be one of {', '.join(KINDS)}")
    if train.classes != validation.classes:
        raise ValueError(f"classes {validation.classes} must be those of the training split, {train.classes}")
    kind = KINDS[architecture]
    recipe = recipe or kind.recipe
    data = hashlib.sha256(f"{train.digest}/{validation.digest}".encode()).hexdigest()[:16]
    about = About(architecture=architecture, classes=train.classes, width=recipe.model, seed=seed, recipe=recipe.digest, data=data)
    network = _fresh(about, kind, train).to(device)
    with watching(progress, log_dir) as watch:
        key = f"{architecture}/{about.recipe}/{seed}/{data}"
        stages = Stages(recipe=recipe, seed=seed, key=key, watch=watch, folder=checkpoint_dir)
        stages.set_dropout(network)
        found = run(EncoderTask(network, train, validation, recipe, kind.vary), stages.stage(architecture))
    network.to("cpu").eval().requires_grad_(False)
    return Learned(network=network, about=about, epoch=found.best_epoch, precision=found.best_score)


def _fresh(about: About, kind: Kind, train: Labelled) -> Network:
    """Seeded weights, scaled to the training events."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(about.seed, about.architecture))
        network = about.make(kind.networks)
    chosen = np.unique(np.linspace(0, len(train.events) - 1, FITTED).round().astype(int))
    network.fit(network.prepare([train.events[at] for at in chosen]))
    return network
