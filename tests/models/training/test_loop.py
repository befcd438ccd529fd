"""Laws of models/training/loop.py, checkpoints.py, watch.py and recipe.py."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.optim.swa_utils import AveragedModel

from models.training.checkpoints import Checkpoint
from models.training.loop import Stage, rate, run
from models.training.recipe import Recipe
from models.training.watch import bar, watching
from tests.models.training.builders import QUICK, quick


class Line:
    """Learns w of y = 3 x by steps of one batch; `scores` are what validation says, epoch by epoch."""

    def __init__(self, scores: list[float | None] | None = None) -> None:
        torch.manual_seed(0)
        self.model: nn.Module = nn.Linear(2, 1)
        self.scores, self.seen = scores, 0

    def draw(self, generator: Generator) -> Tensor:
        return torch.randperm(128, generator=generator)

    def loss(self, row_N: Tensor, generator: Generator) -> Tensor:
        x_N2 = torch.randn(len(row_N), 2, generator=generator) + torch.randn(len(row_N), 2)
        loss: Tensor = (self.model(x_N2) - 3 * x_N2[:, :1]).square().mean()
        return loss

    def score(self) -> float | None:
        self.seen += 1
        return None if self.scores is None else self.scores[self.seen - 1]


def weight(line: Line) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in line.model.parameters()])


def stage(**change: Any) -> Stage:
    made: dict[str, Any] = {"name": "line", "seed": 0, "recipe": quick(epochs=6, patience=2)}
    return Stage(**{**made, **change})


def test_the_best_epoch_stays_and_patience_ends_the_stage() -> None:
    line = Line([0.1, 0.5, 0.9, 0.8, 0.9])
    progress = run(line, stage())
    assert (progress.best_epoch, progress.best_score, progress.epoch, line.seen) == (2, 0.9, 4, 5)
    short = Line()
    run(short, stage(stop=2))
    assert torch.equal(weight(line), weight(short)) and not line.model.training


def test_a_stage_never_ends_below_its_start() -> None:
    line = Line([0.9, 0.1, 0.2])
    before = weight(line).clone()
    assert run(line, stage()).best_epoch == 0
    assert torch.equal(weight(line), before)


def test_without_a_figure_the_last_epoch_stays() -> None:
    progress = run(Line(), stage())
    assert (progress.best_epoch, progress.epoch) == (6, 6)


def test_a_figure_that_is_no_number_never_wins_over_one() -> None:
    assert run(Line([float("nan"), 0.2, float("nan"), float("nan")]), stage()).best_epoch == 1


@pytest.mark.parametrize("after", range(5))
def test_going_on_after_any_epoch_ends_the_same_to_the_bit(after: int, tmp_path: Path) -> None:
    whole, checkpoint = Line(), Checkpoint(path=tmp_path / "line.safetensors", key="key")
    run(whole, stage())
    if after:
        run(Line(), stage(stop=after, checkpoint=checkpoint))
        _not_done(checkpoint)
    found = Line()
    with torch.no_grad():
        next(found.model.parameters()).add_(1.0 if after else 0.0)
    torch.manual_seed(after)
    run(found, stage(checkpoint=checkpoint))
    assert torch.equal(weight(found), weight(whole))


def _not_done(checkpoint: Checkpoint) -> None:
    """As if the stage had been interrupted there."""
    line = Line()
    optimizer = torch.optim.AdamW(line.model.parameters())
    data = checkpoint.path.read_bytes()
    assert data.count(b'"done":"true"') == 1 and checkpoint.load(line.model, AveragedModel(line.model), _two_groups(line, optimizer))
    checkpoint.path.write_bytes(data.replace(b'"done":"true"', b'"done":"null"'))


def _two_groups(line: Line, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    matrices = [one for one in line.model.parameters() if one.ndim > 1]
    return torch.optim.AdamW([{"params": matrices}, {"params": [one for one in line.model.parameters() if one.ndim < 2]}])


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "line.safetensors"
    run(Line(), stage(stop=1, checkpoint=Checkpoint(path=path, key="one")))
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    with pytest.raises(ValueError, match="another recipe, seed, data or release"):
        run(Line(), stage(checkpoint=Checkpoint(path=path, key="other")))
    other = Line()
    other.model = nn.Linear(3, 1)
    with pytest.raises(ValueError, match="no checkpoint of this stage"):
        run(other, stage(checkpoint=Checkpoint(path=path, key="one")))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="no safetensors file"):
        run(Line(), stage(checkpoint=Checkpoint(path=path, key="one")))


def test_what_stays_is_the_average_of_the_weights_on_their_way() -> None:
    steps: list[Tensor] = []
    line = Line()
    plain = line.loss
    line.loss = lambda row_N, generator: (steps.append(weight(line).clone()), plain(row_N, generator))[1]  # type: ignore[method-assign]
    run(line, stage(recipe=quick(epochs=3, average=0.75)))
    last = Line()
    run(last, stage(recipe=quick(epochs=3, average=0.0)))
    expected = steps[1]  # after the first step; steps[0] is before it
    for found in [*steps[2:], weight(last)]:
        expected = 0.75 * expected + 0.25 * found
    torch.testing.assert_close(weight(line), expected)
    assert (weight(line) - weight(last)).abs().max() > 1e-3


def test_it_is_the_average_that_is_judged() -> None:
    judged: list[Tensor] = []
    line = Line([0.1, 0.2, 0.3, 0.4])
    plain = line.score
    line.score = lambda: (judged.append(weight(line).clone()), plain())[1]  # type: ignore[method-assign]
    run(line, stage(recipe=quick(epochs=3, average=0.75)))
    assert len(judged) == 4 and torch.equal(judged[-1], weight(line))
    last = Line()
    run(last, stage(recipe=quick(epochs=3, average=0.0)))
    assert (judged[-1] - weight(last)).abs().max() > 1e-3


def test_what_asks_for_no_gradient_is_not_moved() -> None:
    line = Line()
    bias = list(line.model.parameters())[1].requires_grad_(False)
    before = bias.clone()
    run(line, stage())
    assert torch.equal(bias, before)


def test_the_learning_rate_rises_and_falls_to_nothing() -> None:
    recipe = quick(epochs=10, warm_up=2.0)
    rates = [rate(step, 5, recipe) for step in range(50)]
    assert rates[:10] == sorted(rates[:10]) and rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True) and 0 < rates[-1] < 0.01 < rates[0] < 0.1


BAD = (
    ("batch", 0), ("epochs", 0), ("rate", 0.0), ("clip", 0.0), ("dropout", 1.0), ("token_dropout", -0.1), ("balance", 1.1), ("whole", -0.1),
    ("average", 1.0), ("folds", 1), ("most_weight", 0.5), ("loss", "hinge"), ("decay", -1.0), ("per_hour", -1.0), ("rate", float("nan")),
)  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_recipe_cannot_be_wrong(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name}="):
        replace(Recipe(), **{name: value})  # type: ignore[arg-type]


def test_a_digest_changes_with_every_field() -> None:
    other: dict[str, Any] = {
        "loss": "focal",
        "subjects": (),
        "joint": (),
        "outclassed": 0.3,
        "token_dropout": 0.3,
        "dropout": 0.3,
        "average": 0.3,
        "balance": 0.3,
        "whole": 0.3,
        "shares": (0.5,),
    }
    digests = set()
    for name in (each.name for each in fields(Recipe)):
        value = other[name] if name in other else getattr(QUICK, name) + 1
        digests.add(replace(QUICK, **{name: value}).digest)
    assert len(digests | {QUICK.digest}) == len(fields(Recipe)) + 1
    assert QUICK.digest == quick().digest


def test_curves_without_tensorboard_say_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"streamer\[training\]"), watching(None, tmp_path):
        pass
    with watching(None, None) as watch:
        watch.end(watch.start("x", 1), 1)
    assert bar().columns
