"""Laws of models/small/train.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.progress import Progress
from torch import Tensor, nn

from models.small.train import KINDS, EncoderTask, Learned, learn
from models.training.loop import Stage, run
from tests.models.small.builders import QUICK, events, labelled, network


def weights(found: Learned) -> dict[str, Tensor]:
    return dict(found.network.state_dict())


def same(one: Learned, other: Learned) -> bool:
    return all(torch.equal(tensor, weights(other)[name]) for name, tensor in weights(one).items())


def as_it_is(rng: np.random.Generator, event: Any) -> Any:
    return event


class Blind(EncoderTask):
    """Learns to the last epoch, whatever validation says."""

    def score(self) -> None:
        return None


@pytest.mark.parametrize("architecture", KINDS)
def test_each_overfits_one_batch(architecture: str) -> None:
    made, batch = network(architecture)[0].requires_grad_(True), labelled(architecture)
    made.classifier = nn.Linear(64, len(batch.classes))
    recipe = replace(QUICK, epochs=25, patience=25, dropout=0.0)
    task = Blind(made, batch, batch, recipe, as_it_is)
    run(task, Stage(name="overfit", seed=0, recipe=recipe))
    assert torch.equal(task.logits(batch) > 0, batch.truth_NC)


class Stops(Progress):
    """Ends the process, as a person would, after so many epochs."""

    def __init__(self, after: int) -> None:
        super().__init__(disable=True)
        self.left = after

    def update(self, *args: Any, **how: Any) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize("architecture", KINDS)
def test_training_goes_on_to_the_bit(architecture: str, tmp_path: Path) -> None:
    recipe = replace(QUICK, epochs=4)
    one, other = labelled(architecture), labelled(architecture, events(architecture)[::-1])
    whole = learn(architecture, one, other, seed=1, recipe=recipe)
    with pytest.raises(KeyboardInterrupt):
        learn(architecture, one, other, seed=1, recipe=recipe, checkpoint_dir=tmp_path, progress=Stops(2))
    torch.manual_seed(5)
    resumed = learn(architecture, one, other, seed=1, recipe=recipe, checkpoint_dir=tmp_path)
    assert same(whole, resumed) and (whole.epoch, whole.precision, whole.about) == (resumed.epoch, resumed.precision, resumed.about)
    assert not any(parameter.requires_grad for parameter in whole.network.parameters()) and not whole.network.training


def test_another_seed_gives_other_weights_and_the_callers_generator_is_left() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one = learn("text-gru", labelled("text-gru"), labelled("text-gru"), seed=1, recipe=replace(QUICK, epochs=1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not same(one, learn("text-gru", labelled("text-gru"), labelled("text-gru"), seed=2, recipe=replace(QUICK, epochs=1)))


def test_checkpoints_of_other_examples_are_refused(tmp_path: Path) -> None:
    recipe = replace(QUICK, epochs=1)
    learn("text-gru", labelled("text-gru"), labelled("text-gru"), seed=1, recipe=recipe, checkpoint_dir=tmp_path)
    other = labelled("text-gru", ["something else", *events("text-gru")[1:]])
    with pytest.raises(ValueError, match="another recipe, seed, data"):
        learn("text-gru", other, labelled("text-gru"), seed=1, recipe=recipe, checkpoint_dir=tmp_path)


def test_scaling_sees_the_training_events_alone() -> None:
    dark = labelled("picture-cnn", [event // 4 for event in events("picture-cnn")])
    found = learn("picture-cnn", dark, labelled("picture-cnn"), seed=0, recipe=replace(QUICK, epochs=1))
    mean_3 = found.network.get_buffer("standard.mean_D")
    assert np.allclose(mean_3, np.mean([event.mean((0, 1)) for event in dark.events], axis=0) / 255, atol=0.01)


def test_what_is_not_known_moves_nothing() -> None:
    batch = labelled("text-gru")
    hidden = replace(batch, known_NC=batch.known_NC & (torch.arange(8) < 6)[:, None])
    wrong = replace(hidden, truth_NC=hidden.truth_NC ^ ~hidden.known_NC)
    made = [network("text-gru")[0].requires_grad_(True) for _ in range(2)]
    costs = [
        EncoderTask(one, split, split, QUICK, as_it_is).loss(torch.arange(8), torch.Generator().manual_seed(0))
        for one, split in zip(made, (hidden, wrong), strict=True)
    ]
    assert torch.equal(*costs)


def test_a_variant_keeps_its_events_truth() -> None:
    seen: list[str] = []

    def vary(rng: np.random.Generator, event: str) -> str:
        seen.append(event)
        return "the same whatever was said"

    batch, made = labelled("text-gru"), network("text-gru")[0]
    task = EncoderTask(made, batch, batch, QUICK, vary)
    row_N = torch.tensor([6, 1, 2])
    task.loss(row_N, torch.Generator().manual_seed(0))
    assert seen == [batch.events[row] for row in row_N.tolist()]
    assert torch.equal(batch.truth_NC, labelled("text-gru").truth_NC)


def test_wrong_examples_are_refused() -> None:
    batch = labelled("text-gru")
    for change in ({"events": batch.events[:3]}, {"truth_NC": batch.truth_NC.float()}, {"group_N": batch.group_N[:-1]}):
        with pytest.raises(ValueError, match="must be"):
            replace(batch, **change)
    with pytest.raises(ValueError, match="must be of 0 events"):
        labelled("text-gru", [])
    with pytest.raises(ValueError, match="'guess' must be one of"):
        learn("guess", batch, batch, seed=0)
    other = replace(batch, classes=("call_for_help", "spoken_threat"))
    with pytest.raises(ValueError, match="must be those of the training split"):
        learn("text-gru", batch, other, seed=0)
    assert batch.digest == labelled("text-gru").digest != other.digest
