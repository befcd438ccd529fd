"""From splits, a recipe and a seed to a head: experts, then what fuses them, then its calibration.

Laws:
1. The same splits, recipe, seed and number of threads give the same head, to the bit; with checkpoints, also after an interruption.
2. Weights see the training split; the choice of an epoch validation; that of voices validation and cross-fitted training; that of what an
   expert keeps of its correction these and the calibration split; that of what gates and residual keep validation and calibration;
   calibration, also each expert's, the calibration split alone.
3. Training the gates moves no expert: with one modality present the logits are its calibrated expert's, to the bit.
4. Experts that are passed in must be of the same splits, recipe and seed: else ValueError.

Shape key: as in models/fusion/windows.py; N rows of a batch or of views.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.progress import Progress
from torch import Tensor, nn

from models.calibrate import Split, Views, fit
from models.calibration import Calibration
from models.fusion.gated import Gated
from models.fusion.log_odds import LogOdds
from models.fusion.windows import MODALITIES
from models.head import About, FusionHead, Standard
from models.training.augment import views
from models.training.data import Data, predict, widths_of
from models.training.experts import Trained, learn_experts
from models.training.loop import run, seed_of
from models.training.recipe import Recipe
from models.training.shares import keep
from models.training.stages import Stages
from models.training.tasks import GateTask, WholeTask
from models.training.watch import watching

VIEWS = torch.cartesian_prod(*[torch.tensor([True, False])] * len(MODALITIES))[:-1]
"""Every set of modalities that may be left, all of them first: a threshold has to hold in each."""


def train(
    method: str,
    train: Data,
    validation: Data,
    calibration: Data,
    recipe: Recipe,
    *,
    seed: int,
    experts: Trained | None = None,
    encoders: str = "",
    progress: Progress | None = None,
    log_dir: Path | None = None,
    checkpoint_dir: Path | None = None,
    device: str = "cpu",
    hours: Data | None = None,
) -> FusionHead:
    """A calibrated head on the CPU. `experts`: of `train_experts`, to share them between methods; `encoders`: their fingerprint.

    `hours`: of the calibration split's media, where thresholds keep their budget; without it, that is the calibration split itself.
    ValueError where splits do not fit each other, calibration has no timeline, or checkpoints are of something else.
    """
    splits = _splits(train, validation, calibration, device)
    with watching(progress, log_dir) as watch:
        stages = Stages(recipe=recipe, seed=seed, key=key_of(splits, recipe, seed), watch=watch, folder=checkpoint_dir)
        head = _head(method, splits[0], stages, encoders)
        scaled = [split.with_windows(head.standard(split.windows)) for split in splits]
        _learn(head.method, scaled, stages, experts, method)
    head.to("cpu").eval().requires_grad_(False)
    head.calibration = calibrated(head, calibration, per_hour=recipe.per_hour, hours=hours)
    return head


def train_experts(
    train: Data,
    validation: Data,
    calibration: Data,
    recipe: Recipe,
    *,
    seed: int,
    progress: Progress | None = None,
    log_dir: Path | None = None,
    checkpoint_dir: Path | None = None,
    device: str = "cpu",
) -> Trained:
    """The experts alone, for `train(experts=...)` of several methods."""
    splits = _splits(train, validation, calibration, device)
    widths = widths_of(train, recipe.model)
    standard = Standard(widths).to(device).fit(splits[0].windows)
    scaled = [split.with_windows(standard(split.windows)) for split in splits]
    with watching(progress, log_dir) as watch:
        stages = Stages(recipe=recipe, seed=seed, key=key_of(splits, recipe, seed), watch=watch, folder=checkpoint_dir)
        return learn_experts(scaled[0], scaled[1], scaled[2], widths, stages)


def calibrated(head: FusionHead, calibration: Data, *, per_hour: float, hours: Data | None = None) -> Calibration:
    """Scales on the windows as they are; temperatures on every window in each pattern that it can have; thresholds on the hours, in each.

    ValueError without a timeline. Labels that are not known count as false.
    """
    row_N, keep_NM = views(calibration.windows.present_BM)
    split = _split(head, calibration, "calibration")
    seen_otherwise = Views(
        logits_BC=predict(head.logits, calibration.windows, keep_NM, row_N), truth_BC=split.truth_BC[row_N], present_BM=keep_NM
    )
    watched = [_split(head, hours, "calibration, hours", keep_M) for keep_M in VIEWS] if hours else []
    return fit(split, per_hour=per_hour, views=seen_otherwise, hours=watched)


def _split(head: FusionHead, data: Data, name: str, keep_M: Tensor = VIEWS[0]) -> Split:
    if data.timeline is None:
        raise ValueError(f"the {name} split has no timeline")
    keep_BM = keep_M.expand(data.size, -1)
    return Split(
        name=name,
        classes=head.about.classes,
        logits_BC=predict(head.logits, data.windows, keep_BM),
        truth_BC=data.truth_BC & data.known,
        present_BM=data.windows.present_BM & keep_BM,
        timeline=data.timeline,
    )


def key_of(splits: Sequence[Data], recipe: Recipe, seed: int) -> str:
    """What weights follow from."""
    parts = [recipe.digest, str(seed), *(split.digest for split in splits)]
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def _splits(train: Data, validation: Data, calibration: Data, device: str) -> list[Data]:
    for split in (validation, calibration):
        if split.classes != train.classes:
            raise ValueError(f"classes {split.classes} must be those of the training split, {train.classes}")
        found, wanted = (widths_of(each, 1) for each in (split, train))
        if found != wanted:
            raise ValueError(f"widths {found} must be those of the training split, {wanted}")
    return [split.to(torch.device(device)) for split in (train, validation, calibration)]


def _head(method: str, train: Data, stages: Stages, encoders: str) -> FusionHead:
    widths = widths_of(train, stages.recipe.model)
    about = About(method=method, widths=widths, classes=train.classes, encoders=encoders, seed=stages.seed, recipe=stages.recipe.digest)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(stages.seed, method))
        head = FusionHead(about).to(train.truth_BC.device)
    head.standard.fit(train.windows)
    return head


def _learn(model: nn.Module, scaled: list[Data], stages: Stages, experts: Trained | None, name: str) -> None:
    train, validation, calibration = scaled
    stages.set_dropout(model)
    model.requires_grad_(True)
    if not isinstance(model, LogOdds | Gated):
        run(WholeTask(model, train, validation, stages.recipe), stages.stage(name))
        return
    if experts is None:
        widths = widths_of(train, stages.recipe.model)
        experts = learn_experts(train, validation, calibration, widths, stages)
    if experts.key != stages.key:
        raise ValueError("the experts are of other splits, another recipe or seed")
    model.experts.load_state_dict(experts.state)
    model.experts.requires_grad_(False)
    if isinstance(model, Gated):
        parts = dict(stages.recipe.joint)
        model.residual.parts_CC.copy_(torch.tensor([[part in parts.get(name, ()) for part in train.classes] for name in train.classes]))
        run(GateTask(model, train, experts.crossfit_BMC, stages.recipe), stages.stage(name, stop=stages.recipe.gate_epochs))
        keep(model, (validation, calibration), stages.recipe.shares)
