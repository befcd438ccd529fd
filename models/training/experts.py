"""Experts: one a modality, trained alone, calibrated, and asked only for what they can tell. Every method with experts shares them.

Laws:
1. An expert trains and is judged on windows that have its modality, and for classes of which it may speak.
2. Scale, bias and prior are of the calibration split alone.
3. Cross-fitted log-odds of a training window come from an expert that saw no window of its recording, trained and calibrated alike, for as
   many epochs as were best for the one that saw all.
4. It speaks of a class where on held-out windows (validation, and training as cross-fitted: one split has too few recordings of a class)
   its AP is above the base rate by more than the margin, and no less than a share of the best expert's; never with too few positives,
   never where its log-odds do not rise with the truth on the calibration split.
5. Of what it learned beyond its encoder's verdict it keeps, by class, the share that gives the greatest AP on those held-out windows and
   the calibration split, each split counted alike; of equals the smallest. What only fits the recordings of training is left out.

Sources: cross-fitting, Wolpert, "Stacked generalization", Neural Networks 1992; shrinkage towards what was known, Stein 1956.
Shape key: as in models/fusion/windows.py; N rows of one modality.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor, nn

from models.calibrate import scale
from models.evaluation.metrics import average_precision
from models.fusion.experts import Expert, Experts
from models.fusion.windows import MODALITIES, Stream, Widths
from models.training import losses
from models.training.augment import shaken_stream
from models.training.data import CHUNK, Data, chances, draw, folds, precision
from models.training.loop import generator_of, run, seed_of
from models.training.recipe import Recipe
from models.training.stages import Stages


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """Experts for one set of splits, seed and recipe. `crossfit_BMC`: calibrated log-odds of training windows that were held out.

    `precision_MC` and `base_MC`: AP and share of positives on held-out windows with the modality; NaN where it may not speak.
    """

    state: dict[str, Tensor]
    crossfit_BMC: Tensor
    precision_MC: Tensor
    base_MC: Tensor
    key: str

    @property
    def speaks_MC(self) -> Tensor:
        """Of what each speaks."""
        return self.state["speaks_MC"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Side:
    """One modality of a split: the windows that have it, and which of their labels count. `here_B`: which windows of the split."""

    stream: Stream
    truth_NC: Tensor
    counts_NC: Tensor
    group_N: Tensor
    here_B: Tensor

    @classmethod
    def of(cls, data: Data, name: str, may_C: Tensor, only_B: Tensor | None = None) -> Side:
        """Of those windows (bool), or of all."""
        stream: Stream = getattr(data.windows, name)
        keep_B = stream.present_B if only_B is None else stream.present_B & only_B
        return cls(
            stream=some(stream, keep_B),
            truth_NC=data.truth_BC[keep_B],
            counts_NC=data.known[keep_B] & may_C,
            group_N=data.group_B[keep_B],
            here_B=keep_B,
        )


def some(stream: Stream, row_N: Tensor) -> Stream:
    """Those windows: row numbers, or bool."""
    return Stream.of(stream.tokens_BTD[row_N], stream.mask_BT[row_N], stream.quality_BQ[row_N])


class ExpertTask:
    """Trains one expert; `validation` None: without a figure."""

    def __init__(self, model: nn.Module, train: Side, validation: Side | None, recipe: Recipe) -> None:
        self.model = model
        self._train, self._validation, self._recipe = train, validation, recipe
        self._chance_N = chances(train.truth_NC & train.counts_NC, train.group_N, recipe.balance)
        self._loss = losses.of(recipe, losses.weights(train.truth_NC, train.counts_NC, recipe.most_weight))

    def draw(self, generator: Generator) -> Tensor:
        """Rows of the modality's windows."""
        return draw(len(self._train.truth_NC), self._chance_N, generator)

    def loss(self, row_N: Tensor, generator: Generator) -> Tensor:
        """Of the classes that count."""
        stream = shaken_stream(some(self._train.stream, row_N), self._recipe, generator)
        return self._loss(self.model(stream), self._train.truth_NC[row_N], self._train.counts_NC[row_N])

    def score(self) -> float | None:
        """Mean average precision."""
        side = self._validation
        return None if side is None else precision(say(self.model, side.stream), side.truth_NC, side.counts_NC)


@torch.no_grad()
def say(expert: nn.Module, stream: Stream) -> Tensor:
    """Its log-odds, not calibrated, a chunk at a time."""
    row_B = torch.arange(len(stream.mask_BT), device=stream.mask_BT.device)
    return torch.cat([expert(some(stream, at_N)) for at_N in row_B.split(CHUNK)])


def learn_experts(train: Data, validation: Data, calibration: Data, widths: Widths, stages: Stages) -> Trained:
    """All of them, of scaled windows. Deterministic, as `loop.run` is."""
    recipe = stages.recipe
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(stages.seed, "experts"))
        experts = Experts(widths).to(train.truth_BC.device)
    may_MC = _may(train, recipe)
    crossfit_BMC = torch.zeros(train.size, *may_MC.shape, device=train.truth_BC.device)
    figure_MC = torch.full((2, *may_MC.shape), math.nan)
    fold_B = folds(train.group_B, recipe.folds, generator_of(stages.seed, "folds")).to(train.truth_BC.device)
    for m, name in enumerate(MODALITIES):
        may_C, expert = may_MC[m], experts.of(name)
        sides = [Side.of(data, name, may_C) for data in (train, validation, calibration)]
        experts.speaks_MC[m] = may_C
        if not may_C.any() or not all(len(side.truth_NC) for side in sides):
            experts.speaks_MC[m] = False
            continue
        epochs = _learn(expert, sides[0], sides[1], stages, name)
        others = []
        for fold in range(recipe.folds):
            others.append(_fresh(widths, name, stages, fold).to(train.truth_BC.device))
            _learn(others[fold], Side.of(train, name, may_C, fold_B != fold), None, stages, f"{name}-fold{fold}", epochs)
        share_C = _shares(expert, others, sides, fold_B[sides[0].here_B], recipe)
        told = _told(expert.shrink(share_C), [other.shrink(share_C) for other in others], sides, fold_B[sides[0].here_B])
        experts.scale_MC[m], experts.bias_MC[m] = told.lines_2C
        crossfit_BMC[sides[0].here_B, m] = told.train_NC
        figure_MC[:, m] = _judge(told.held[:2], sides[:2])
        experts.speaks_MC[m] &= told.fitted_C & (figure_MC[0, m] > figure_MC[1, m] + recipe.margin).to(told.fitted_C.device)
    best_C = figure_MC[0].nan_to_num(0.0).amax(0)
    experts.speaks_MC &= (figure_MC[0] >= recipe.outclassed * best_C).to(experts.speaks_MC.device)
    experts.prior_C.data.copy_(_prior(calibration))
    state = {key: tensor.detach().cpu().clone() for key, tensor in experts.state_dict().items()}
    return Trained(state=state, crossfit_BMC=crossfit_BMC.cpu(), precision_MC=figure_MC[0], base_MC=figure_MC[1], key=stages.key)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Told:
    """What an expert says, calibrated. `lines_2C`: its scale and bias, `fitted_C`: where they could be fitted. `train_NC`: cross-fitted."""

    lines_2C: Tensor
    fitted_C: Tensor
    train_NC: Tensor
    validation_NC: Tensor
    calibration_NC: Tensor

    @property
    def held(self) -> tuple[Tensor, ...]:
        """By split: no weights of who says it saw these windows."""
        return self.train_NC, self.validation_NC, self.calibration_NC


def _told(expert: Expert, others: Sequence[Expert], sides: Sequence[Side], fold_N: Tensor) -> Told:
    """`others`: experts by the fold that they did not see; `sides`: training, validation, calibration."""
    train, validation, calibration = sides
    lines_2C, fitted_C = _calibrated(expert, calibration)
    train_NC = torch.zeros(train.truth_NC.shape, device=lines_2C.device)
    for fold, other in enumerate(others):
        (held_2C, _), here_N = _calibrated(other, calibration), fold_N == fold
        train_NC[here_N] = say(other, some(train.stream, here_N)) * held_2C[0] + held_2C[1]
    validation_NC, calibration_NC = (say(expert, side.stream) * lines_2C[0] + lines_2C[1] for side in (validation, calibration))
    return Told(lines_2C=lines_2C, fitted_C=fitted_C, train_NC=train_NC, validation_NC=validation_NC, calibration_NC=calibration_NC)


def _shares(expert: Expert, others: Sequence[Expert], sides: Sequence[Side], fold_N: Tensor, recipe: Recipe) -> Tensor:
    """Law 5, (C,)."""
    like_C = sides[0].stream.tokens_BTD.new_ones(sides[0].truth_NC.shape[1])
    tried = sorted(recipe.shares)
    figures_SC: list[Tensor] = []
    for share in tried:
        mine, *theirs = [deepcopy(one).shrink(share * like_C) for one in (expert, *others)]
        held = _told(mine, theirs, sides, fold_N).held
        by_split = [_judge([told_NC], [side])[0].nan_to_num(0.0) for told_NC, side in zip(held, sides, strict=True)]
        figures_SC.append(torch.stack(by_split).mean(0))
    best_C = torch.stack(figures_SC).argmax(0)  # the first of equals
    return like_C.new_tensor(tried)[best_C.to(like_C.device)]


def _fresh(widths: Widths, name: str, stages: Stages, fold: int) -> Expert:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(stages.seed, "experts", name, fold))
        return Expert(name, widths)


def _learn(expert: nn.Module, train: Side, validation: Side | None, stages: Stages, name: str, stop: int | None = None) -> int:
    """The epochs that were best."""
    stages.set_dropout(expert)
    return run(ExpertTask(expert, train, validation, stages.recipe), stages.stage(f"expert-{name}", stop=stop)).best_epoch


def _may(train: Data, recipe: Recipe) -> Tensor:
    """Of which classes each may speak: by subject, and by positives, (M, C)."""
    subjects = dict(recipe.subjects)
    may_MC = torch.tensor([[name in subjects.get(modality, train.classes) for name in train.classes] for modality in MODALITIES])
    for m in range(len(MODALITIES)):
        positive_BC = (train.truth_BC & train.known & train.windows.present_BM[:, m, None]).cpu()
        groups_C = torch.tensor([len(train.group_B.cpu()[column_B].unique()) for column_B in positive_BC.T])
        may_MC[m] &= (positive_BC.sum(0) >= recipe.fewest_positives) & (groups_C >= recipe.fewest_groups)
    return may_MC.to(train.truth_BC.device)


def _calibrated(expert: nn.Module, side: Side) -> tuple[Tensor, Tensor]:
    """Scale and bias, (2, C), and where they could be fitted."""
    logits_NC = say(expert, side.stream).double().cpu().numpy()
    truth_NC, counts_NC = side.truth_NC.cpu().numpy(), side.counts_NC.cpu().numpy()
    columns = [scale(str(c), logits_NC[counts_NC[:, c], c], truth_NC[counts_NC[:, c], c]) for c in range(truth_NC.shape[1])]
    lines_2C = side.stream.tokens_BTD.new_tensor([[each.scale for each in columns], [each.bias for each in columns]])
    return lines_2C, side.truth_NC.new_tensor([each.fallback is None for each in columns])


def _judge(held: Sequence[Tensor], sides: Sequence[Side]) -> Tensor:
    """AP and base rate of their windows together, (2, C); NaN without a positive."""
    truth_NC, counts_NC = (torch.cat([getattr(side, what) for side in sides]).cpu().numpy() for what in ("truth_NC", "counts_NC"))
    score_NC = torch.cat(list(held)).double().cpu().numpy()
    figure_2C = torch.full((2, truth_NC.shape[1]), math.nan)
    for c in np.flatnonzero((truth_NC & counts_NC).any(0)):
        here_N = counts_NC[:, c]
        found = average_precision(score_NC[here_N, c], truth_NC[here_N, c])
        figure_2C[:, c] = torch.tensor([found, float(truth_NC[here_N, c].mean())])
    return figure_2C


def _prior(calibration: Data) -> Tensor:
    """Log-odds of the base rates, one positive and one negative more."""
    positives_C = (calibration.truth_BC & calibration.known).sum(0)
    negatives_C = (~calibration.truth_BC & calibration.known).sum(0)
    return ((positives_C + 1.0) / (negatives_C + 1.0)).log()
