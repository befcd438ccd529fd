"""How much of what the gates and the residual of `gated` learned it keeps.

Laws:
1. By class it is the pair of shares that gives the greatest mean of the APs on validation and on calibration, each split counted alike; of
   equals the one with the smallest of the gates, then of the residual. What only fits the recordings of training is left out.
2. Experts, and how evidence adds up over voices (growth), stay as they are: where nothing is kept, voices count alike.

Shape key: B windows, C classes, S pairs of shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import product

import torch
from torch import Tensor

from models.fusion.gated import Gated
from models.training.data import Data, precision, predict


@torch.no_grad()
def keep(model: Gated, held: Sequence[Data], tried: Sequence[float]) -> Gated:
    """The same, shrunk. `held`: splits, scaled, that its gates and residual did not see."""
    pairs_S2 = torch.tensor(list(product(sorted(tried), repeat=2)), device=model.growth_C.device)
    best_C = torch.stack([_figures(model, data, pairs_S2) for data in held]).mean(0).argmax(0)  # the first of equals
    gates_C, residual_C = pairs_S2[best_C.to(pairs_S2.device)].T
    return model.shrink(gates_C, residual_C)


def _figures(model: Gated, data: Data, pairs_S2: Tensor) -> Tensor:
    """AP with each pair of shares, (S, C); 0 without a positive."""
    told, every = model.condense(data.windows), range(data.truth_BC.shape[1])
    found = []
    for gates, residual in pairs_S2:
        shrunk = deepcopy(model).shrink(gates.expand(len(every)), residual.expand(len(every)))
        logits_BC = predict(shrunk.condensed, told)
        found.append([precision(logits_BC[:, [c]], data.truth_BC[:, [c]], data.known[:, [c]]) for c in every])
    return torch.tensor(found).nan_to_num(0.0)
