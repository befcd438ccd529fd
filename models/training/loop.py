"""One stage of training: epochs of steps, until the validation figure no longer rises; the best epoch's averaged weights stay.

Averages: Polyak and Juditsky, SIAM J. Control Optim. 1992; as a moving average, Tarvainen and Valpola, arXiv:1703.01780. Here they tell
better of unseen recordings than the weights of the last step (models/README.md).

Laws:
1. Weights follow from the task, recipe, name and seed: on one machine, with as many threads, to the bit. An epoch's randomness is drawn
   from (seed, name, epoch) alone, so that a stage can go on after any epoch. The caller's generators are as they were.
2. The state before the first step is a candidate too: a stage never ends with a worse validation figure than it began with.
3. Only what asks for a gradient is trained.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from models.training.checkpoints import Checkpoint, Progress
from models.training.recipe import Recipe
from models.training.watch import SILENT, Watch


class Task(Protocol):
    """What a stage trains, and on what."""

    @property
    def model(self) -> nn.Module:
        """On the device that it is trained on."""

    def draw(self, generator: Generator) -> Tensor:
        """The rows of one epoch, in order."""

    def loss(self, row_N: Tensor, generator: Generator) -> Tensor:
        """Of a batch."""

    def score(self) -> float | None:
        """On validation, greater is better; None where there is none: then the last epoch is the best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A name for seeds, curves and files; how long it may take; where it is seen and kept."""

    name: str
    seed: int
    recipe: Recipe
    stop: int | None = None
    """Epochs after which it stops, on the learning rate's way to `recipe.epochs`."""
    watch: Watch = SILENT
    checkpoint: Checkpoint | None = None


def run(task: Task, stage: Stage) -> Progress:
    """Train to the end, from the stage's checkpoint where there is one. The model is left at its best, in evaluation mode."""
    model, recipe = task.model, stage.recipe
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(_groups(model, recipe.decay), lr=recipe.rate)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.average), use_buffers=True)
    last = recipe.epochs if stage.stop is None else min(stage.stop, recipe.epochs)
    with deterministic(device):
        progress = stage.checkpoint.load(model, average, optimizer) if stage.checkpoint else None
        progress = progress or _judged(task, average, Progress())
        bar = stage.watch.start(stage.name, last)
        while not progress.done and progress.epoch < last:
            progress.epoch += 1
            cost = _epoch(task, stage, optimizer, average, progress.epoch)
            _judged(task, average, progress)
            progress.done = progress.epoch - progress.best_epoch >= recipe.patience or progress.epoch == last
            if stage.checkpoint:
                stage.checkpoint.save(progress, model, average, optimizer)
            stage.watch.epoch(bar, stage.name, progress.epoch, {"loss": cost, "validation": progress.best_score})
        stage.watch.end(bar, progress.epoch)
    model.load_state_dict(progress.best)
    model.eval()
    return progress


def rate(step: int, steps: int, recipe: Recipe) -> float:
    """Share of the greatest learning rate at a step, of so many in an epoch: up a line, down a cosine."""
    warm, total = recipe.warm_up * steps, recipe.epochs * steps
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1.0, total - warm))))


def seed_of(*parts: object) -> int:
    """A seed for torch, of any parts."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:8]) >> 1


def generator_of(*parts: object) -> Generator:
    """A generator of its own, on the CPU."""
    return Generator().manual_seed(seed_of(*parts))


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """On the CPU by algorithms that are; and without moving the global generators."""
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.use_deterministic_algorithms(before or device.type == "cpu")
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


def _groups(model: nn.Module, decay: float) -> list[dict[str, object]]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trained if parameter.ndim > 1]
    return [
        {"params": matrices, "weight_decay": decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]


def _epoch(task: Task, stage: Stage, optimizer: torch.optim.Optimizer, average: AveragedModel, epoch: int) -> float:
    """The mean loss."""
    generator = generator_of(stage.seed, stage.name, epoch)
    torch.manual_seed(seed_of(stage.seed, stage.name, epoch, "dropout"))
    device = next(task.model.parameters()).device
    batches = task.draw(generator).split(stage.recipe.batch)
    task.model.train()
    total = 0.0
    for at, row_N in enumerate(batches):
        share = rate((epoch - 1) * len(batches) + at, len(batches), stage.recipe)
        for group in optimizer.param_groups:
            group["lr"] = stage.recipe.rate * share
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=device.type == "cuda"):
            loss = task.loss(row_N.to(device), generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_([each for group in optimizer.param_groups for each in group["params"]], stage.recipe.clip)
        optimizer.step()
        average.update_parameters(task.model)
        total += float(loss.detach())
    task.model.eval()
    return total / len(batches)


def _judged(task: Task, average: AveragedModel, progress: Progress) -> Progress:
    """With this epoch's average as the best, if it is."""
    on_the_way = {name: tensor.detach().clone() for name, tensor in task.model.state_dict().items()}
    task.model.load_state_dict(average.module.state_dict())
    task.model.eval()
    score = task.score()
    if score is None or not progress.best or score > progress.best_score:
        progress.best_epoch = progress.epoch
        progress.best_score = float("-inf") if score is None or math.isnan(score) else score
        progress.best = {name: tensor.detach().clone() for name, tensor in task.model.state_dict().items()}
    task.model.load_state_dict(on_the_way)
    return progress
