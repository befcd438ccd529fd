"""What the fusing parts learn from: a window in full, and in part as if modalities were missing.

loss = loss(full) + loss(part) + distillation * divergence(part, full).

Laws:
1. Every epoch hides other modalities, and never the last one.
2. Gates learn by plain cross-entropy on windows as they come: a proper score, so that what comes in calibrated stays so.
3. Gates see of a training window what an expert says that did not train on its recording.

Shape key: as in models/fusion/windows.py; N rows of a batch, V views.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Generator, Tensor, nn

from models.explain import take
from models.fusion.gated import Gated
from models.fusion.windows import MODALITIES
from models.training import losses
from models.training.augment import parts, shaken
from models.training.data import Data, chances, draw, precision, predict
from models.training.recipe import Recipe

VIEWS_VM = torch.cat([torch.ones(1, len(MODALITIES), dtype=torch.bool), ~torch.eye(len(MODALITIES), dtype=torch.bool)])
"""What validation looks at: everything, then each modality left out."""


class WholeTask:
    """Trains a method as one."""

    def __init__(self, model: nn.Module, train: Data, validation: Data, recipe: Recipe) -> None:
        self.model = model
        self._train, self._validation, self._recipe = train, validation, recipe
        self._chance_B = chances(train.truth_BC & train.known, train.group_B, recipe.balance)
        self._loss = losses.of(recipe, losses.weights(train.truth_BC, train.known, recipe.most_weight))

    def draw(self, generator: Generator) -> Tensor:
        """Balanced, as the recipe says."""
        return draw(self._train.size, self._chance_B, generator)

    def loss(self, row_N: Tensor, generator: Generator) -> Tensor:
        """Of both views."""
        windows = shaken(take(self._train.windows, row_N), self._recipe, generator)
        keep_NM = parts(windows.present_BM, self._recipe.whole, generator)
        full_NC, part_NC = self.model(windows), self.model(windows.only(keep_NM))
        return both(self._loss, full_NC, part_NC, self._train.truth_BC[row_N], self._train.known[row_N], self._recipe.distillation)

    def score(self) -> float | None:
        """Mean average precision, the mean over the views."""
        data = self._validation

        def view(kept_M: Tensor) -> Tensor:
            return predict(self.model, data.windows, kept_M.expand(data.size, -1))

        return over_views(view, data)


class GateTask:
    """Trains gates, growth and residual of a `Gated` whose experts are frozen. Opinions are looked up, not made again."""

    def __init__(self, model: Gated, train: Data, crossfit_BMC: Tensor, recipe: Recipe) -> None:
        self.model = model
        self._train, self._recipe = train, recipe
        self._crossfit_BMC = crossfit_BMC.to(train.truth_BC.device)
        self._loss = losses.of_plain(train.truth_BC)

    def draw(self, generator: Generator) -> Tensor:
        """Every window once."""
        return draw(self._train.size, None, generator)

    def loss(self, row_N: Tensor, generator: Generator) -> Tensor:
        """Of both views."""
        windows, odds_NMC = take(self._train.windows, row_N), self._crossfit_BMC[row_N]
        windows = shaken(windows, self._recipe, generator)
        part = windows.only(parts(windows.present_BM, self._recipe.whole, generator))
        full_NC, part_NC = (self.model.fuse(it, self.model.experts.heard(odds_NMC, it.present_BM)) for it in (windows, part))
        return both(self._loss, full_NC, part_NC, self._train.truth_BC[row_N], self._train.known[row_N], self._recipe.distillation)

    def score(self) -> None:
        """None: validation has too few recordings of what modalities decide together to choose an epoch by."""


def both(loss: losses.Loss, full_NC: Tensor, part_NC: Tensor, truth_NC: Tensor, known_NC: Tensor, distillation: float) -> Tensor:
    """The loss of the module's docstring."""
    cost = loss(full_NC, truth_NC, known_NC) + loss(part_NC, truth_NC, known_NC)
    return cost + distillation * losses.divergence(part_NC, full_NC, known_NC)


def over_views(view: Callable[[Tensor], Tensor], data: Data) -> float:
    """The mean over the views of what `view` makes of a validation split with those modalities kept (bool, (M,))."""
    return float(np.mean([precision(view(kept_M.to(data.truth_BC.device)), data.truth_BC, data.known) for kept_M in VIEWS_VM]))
