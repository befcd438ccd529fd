"""Laws of models/fusion/methods.py, over every method."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.fusion.methods import DEFAULT, METHODS
from models.fusion.windows import Stream
from models.tokens import widths
from tests.models.fusion.builders import NAN, PATTERNS, WIDTHS, filled, made, padded, rows, shaken, train, windows_of

every_method = pytest.mark.parametrize("name", METHODS)
BATCH = PATTERNS.repeat(3, 1)


def close(one: Tensor, other: Tensor, within: float) -> bool:
    return torch.allclose(one, other, rtol=0.0, atol=within)


def test_the_default_is_a_method() -> None:
    assert DEFAULT in METHODS


@every_method
@pytest.mark.parametrize("value", [NAN, 1e6, -1e6])
def test_what_is_absent_cannot_change_the_logits(name: str, value: float) -> None:
    method, windows = shaken(made(name)), windows_of(BATCH)
    assert torch.equal(method(filled(windows, value)), method(windows))


@every_method
def test_padding_changes_nothing(name: str) -> None:
    method, windows = shaken(made(name)), windows_of(BATCH)
    assert close(method(padded(windows, 5)), method(windows), 1e-6)


@every_method
def test_a_batch_without_room_for_any_token_of_a_modality_lacks_it(name: str) -> None:
    method, windows = shaken(made(name)), windows_of(BATCH)
    it = windows.transcripts
    none = Stream.of(it.tokens_BTD[:, :0], it.mask_BT[:, :0], it.quality_BQ)
    without = windows.only(torch.tensor([[True, True, False]]).expand(len(BATCH), -1))
    assert close(method(replace(windows, transcripts=none)), method(without), 1e-6)


@every_method
def test_a_window_does_not_depend_on_its_neighbours(name: str) -> None:
    method, windows = shaken(made(name)), windows_of(BATCH)
    alone = torch.cat([method(rows(windows, slice(at, at + 1))) for at in range(len(BATCH))])
    assert close(alone, method(windows), 1e-5)


@every_method
def test_each_present_modality_is_heard(name: str) -> None:
    method, windows = shaken(made(name)), windows_of(PATTERNS[-1:])
    for at in range(3):
        others_BM = torch.ones(1, 3, dtype=torch.bool)
        others_BM[0, at] = False
        assert not close(method(windows.only(others_BM)), method(windows), 1e-4)


@every_method
@pytest.mark.parametrize("pattern", PATTERNS.tolist())
def test_logits_and_gradients_are_finite_whatever_is_present(name: str, pattern: list[bool]) -> None:
    method = shaken(made(name))
    logits_BC = method(windows_of(torch.tensor([pattern] * 2)))
    assert logits_BC.shape == (2, WIDTHS.classes) and logits_BC.isfinite().all()
    logits_BC.square().sum().backward()
    gradients = [parameter.grad for parameter in method.parameters() if parameter.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)


@every_method
def test_with_nothing_present_the_logits_are_the_prior(name: str) -> None:
    method = shaken(made(name))
    priors = [parameter for key, parameter in method.named_parameters() if key.endswith("prior_C")]
    assert len(priors) == 1 and priors[0].any()
    assert torch.equal(method(windows_of(PATTERNS[:1])), priors[0][None])


@every_method
def test_a_batch_of_random_windows_is_learned_by_heart(name: str) -> None:
    method, windows = made(name), windows_of(BATCH[BATCH.any(1)].repeat(2, 1)[:24])
    target_BC = torch.randint(2, (24, WIDTHS.classes), generator=torch.Generator().manual_seed(0)).float()
    assert train(method, windows, target_BC, steps=400, until=0.02) < 0.02


@every_method
def test_a_state_that_was_saved_gives_the_same_logits(name: str) -> None:
    saved, other, windows = shaken(made(name)), made(name, seed=1), windows_of()
    assert not torch.equal(saved(windows), other(windows))
    other.load_state_dict(saved.state_dict())
    assert torch.equal(saved(windows), other(windows))


@every_method
def test_the_same_seed_makes_the_same_method(name: str) -> None:
    one, other, windows = made(name), made(name), windows_of()
    assert torch.equal(one(windows), other(windows))
    assert not torch.equal(one(windows), made(name, seed=1)(windows))


@every_method
def test_a_method_is_small_at_the_widths_of_the_bundled_encoders(name: str) -> None:
    method = METHODS[name](widths(11))
    assert sum(parameter.numel() for parameter in method.parameters()) < 400_000
