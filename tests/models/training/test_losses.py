"""Laws of models/training/losses.py."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from models.training import losses
from tests.models.training.builders import quick

LOGITS_BC = torch.tensor([[2.0, -1.0], [0.5, 3.0], [-40.0, 40.0]])
TRUTH_BC = torch.tensor([[True, False], [False, True], [True, False]])
ALL_BC = torch.ones_like(TRUTH_BC)
ONES_C = torch.ones(2)


def test_without_focus_and_weights_it_is_cross_entropy() -> None:
    expected = F.binary_cross_entropy_with_logits(LOGITS_BC, TRUTH_BC.float())
    assert torch.allclose(losses.focal(LOGITS_BC, TRUTH_BC, ALL_BC, weight_C=ONES_C), expected)
    assert torch.allclose(losses.of_plain(TRUTH_BC)(LOGITS_BC, TRUTH_BC, ALL_BC), expected)
    assert torch.allclose(losses.of(quick(loss="bce"), ONES_C)(LOGITS_BC, TRUTH_BC, ALL_BC), expected)


def test_focus_and_weights_are_as_in_the_paper() -> None:
    chance_BC = torch.sigmoid(LOGITS_BC[:2].double())
    truth_BC = TRUTH_BC[:2]
    right_BC = torch.where(truth_BC, chance_BC, 1 - chance_BC)
    expected = (torch.where(truth_BC, torch.tensor([3.0, 5.0]), 1.0) * (1 - right_BC) ** 2 * -right_BC.log()).mean()
    found = losses.of(quick(loss="focal", focus=2.0), torch.tensor([3.0, 5.0]))(LOGITS_BC[:2], truth_BC, ALL_BC[:2])
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("focus", [0.0, 0.5, 2.0])
def test_gradients_are_finite_however_sure_the_logits(focus: float) -> None:
    logits_BC = torch.tensor([[0.0, 300.0], [-300.0, 1e-9]], requires_grad=True)
    losses.focal(logits_BC, TRUTH_BC[:2], ALL_BC[:2], weight_C=ONES_C, focus=focus).backward()
    assert logits_BC.grad is not None and logits_BC.grad.isfinite().all() and logits_BC.grad.any()


@pytest.mark.parametrize("focus", [0.0, 2.0])
def test_a_label_that_is_not_known_costs_nothing(focus: float) -> None:
    known_BC, logits_BC = torch.tensor([[True, False], [True, True], [False, False]]), LOGITS_BC.clone().requires_grad_()
    cost = losses.focal(logits_BC, TRUTH_BC, known_BC, weight_C=ONES_C, focus=focus)
    other_BC = torch.where(known_BC, TRUTH_BC, ~TRUTH_BC)
    assert torch.equal(cost, losses.focal(logits_BC, other_BC, known_BC, weight_C=ONES_C, focus=focus))
    cost.backward()
    assert logits_BC.grad is not None and not logits_BC.grad[~known_BC].any() and logits_BC.grad[known_BC].any()
    assert losses.focal(logits_BC, TRUTH_BC, ~ALL_BC, weight_C=ONES_C).item() == 0.0


def test_a_positive_weighs_negatives_per_positive_within_bounds() -> None:
    truth_BC = torch.tensor([[True, True, False, True]] + [[False, True, False, True]] * 4 + [[False, False, False, False]] * 35)
    known_BC = torch.ones_like(truth_BC)
    assert losses.weights(truth_BC, known_BC, 10.0).tolist() == [10.0, 7.0, 10.0, 7.0]
    known_BC[5:, 3] = False
    assert losses.weights(truth_BC, known_BC, 10.0)[3] == 1.0


def test_the_divergence_is_that_of_bernoullis_and_trains_the_partial_view_alone() -> None:
    part_BC, full_BC = LOGITS_BC[:2].clone().requires_grad_(), (LOGITS_BC[:2] * 0.5 - 1.0).requires_grad_()
    found = losses.divergence(part_BC, full_BC, ALL_BC[:2])
    one = torch.distributions.Bernoulli(logits=full_BC)
    other = torch.distributions.Bernoulli(logits=part_BC)
    assert torch.allclose(found, torch.distributions.kl_divergence(one, other).mean(), atol=1e-6)
    found.backward()
    assert full_BC.grad is None and part_BC.grad is not None and part_BC.grad.any()
    assert losses.divergence(full_BC, full_BC, ALL_BC[:2]).item() == pytest.approx(0.0, abs=1e-7)
