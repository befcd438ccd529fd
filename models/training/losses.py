"""What training makes small.

Laws:
1. A label that is not known costs nothing; a batch without a known label costs 0, with finite gradients.
2. Focal loss with focus 0 is binary cross-entropy.
3. The divergence of two views is 0 where they agree, above elsewhere; no gradient reaches the full view through it.

Sources: focal loss, Lin et al., arXiv:1708.02002; distillation, Hinton et al., arXiv:1503.02531, by KL divergence, class by class.
Shape key: B windows, C classes. Logits are floats; truth and known are bool.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from models.training.recipe import Recipe

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""logits_BC, truth_BC, known_BC to one number."""


def of(recipe: Recipe, weight_C: Tensor) -> Loss:
    """The recipe's loss with those weights of positives."""
    return partial(focal, weight_C=weight_C, focus=recipe.focus if recipe.loss == "focal" else 0.0)


def of_plain(truth_BC: Tensor) -> Loss:
    """Cross-entropy, positives and negatives alike: a proper score."""
    return partial(focal, weight_C=torch.ones(truth_BC.shape[1], device=truth_BC.device))


def weights(truth_BC: Tensor, known_BC: Tensor, most: float) -> Tensor:
    """What a positive weighs beside a negative, (C,): negatives per positive, in 1..most."""
    positives_C = (truth_BC & known_BC).sum(0)
    negatives_C = (~truth_BC & known_BC).sum(0)
    return (negatives_C / positives_C.clamp(min=1)).clamp(1.0, most)


def focal(logits_BC: Tensor, truth_BC: Tensor, known_BC: Tensor, *, weight_C: Tensor, focus: float = 0.0) -> Tensor:
    """Mean over the known labels of weight * (1 - p)^focus * -log p, p being the probability given to the truth."""
    costs_BC = F.binary_cross_entropy_with_logits(logits_BC, truth_BC.float(), reduction="none")
    if focus:
        costs_BC = costs_BC * (-torch.expm1(-costs_BC)).clamp(min=1e-6) ** focus
    return mean(torch.where(truth_BC, weight_C, 1.0) * costs_BC, known_BC)


def divergence(partial_BC: Tensor, full_BC: Tensor, known_BC: Tensor) -> Tensor:
    """Mean KL divergence of the partial view's chances from the full view's."""
    target_BC = full_BC.detach()
    chance_BC = torch.sigmoid(target_BC)
    costs_BC = F.binary_cross_entropy_with_logits(partial_BC, chance_BC, reduction="none")
    least_BC = F.binary_cross_entropy_with_logits(target_BC, chance_BC, reduction="none")
    return mean(costs_BC - least_BC, known_BC)


def mean(costs_BC: Tensor, known_BC: Tensor) -> Tensor:
    """Over what is known."""
    return torch.where(known_BC, costs_BC, 0.0).sum() / known_BC.sum().clamp(min=1)
