"""Why a window scored what it did: each modality's share, and each token's.

Laws:
1. A window's contributions and the logit of an empty window sum to its logit.
2. A modality that is absent contributes exactly 0. So does one whose presence never changes a logit (null player).
3. Modalities that change it alike contribute alike (symmetry).

Sources: Shapley 1953, exact over the 2^M coalitions. Values are logits, where evidence adds.
Shape key: as in models/fusion/windows.py, and K coalitions, N rows. Coalition k has modality m when bit m of k is set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import factorial

import torch
from torch import Tensor

from models.fusion.windows import MODALITIES, Stream, Windows

M = len(MODALITIES)
COALITIONS = 2**M

Forward = Callable[[Windows], Tensor]
"""A batch of windows to logit_BC; each row depends on its own window alone."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contributions:
    """Logits in float64: `share_BMC` sums over M, with `empty_BC` (no modality at all), to `logit_BC`."""

    share_BMC: Tensor
    empty_BC: Tensor
    logit_BC: Tensor


@torch.no_grad()
def shapley(forward: Forward, windows: Windows) -> Contributions:
    """Exact Shapley values of the modalities, in one forward of 8 rows a window."""
    coalition_K = torch.arange(COALITIONS, device=windows.present_BM.device)
    B = len(windows.present_BM)
    rows_N = torch.arange(B, device=coalition_K.device).repeat_interleave(COALITIONS)
    value_NC = forward(take(windows, rows_N).only(_members(coalition_K).repeat(B, 1))).double()
    value_BKC = value_NC.reshape(B, COALITIONS, value_NC.shape[1])
    # A coalition with an absent member is the same windows as without it: the same number too, whatever a batched kernel rounds to.
    same_BK = coalition_K & (windows.present_BM * _bits(coalition_K)).sum(1, keepdim=True)
    value_BKC = value_BKC.gather(1, same_BK[:, :, None].expand_as(value_BKC))
    share_BMC = torch.stack([_share(value_BKC, at) for at in range(M)], dim=1)
    return Contributions(share_BMC=share_BMC, empty_BC=value_BKC[:, 0], logit_BC=value_BKC[:, -1])


@torch.no_grad()
def removal(forward: Forward, windows: Windows, name: str) -> Tensor:
    """How much the logit falls without each token of a modality: importance_BTC in float64, 0 where there is no token.

    Tokens that say the same hide each other; the last token of a modality takes its quality with it. One forward, a row for each window
    and for each token that there is. ValueError for a name that is not in MODALITIES.
    """
    if name not in MODALITIES:
        raise ValueError(f"modality {name!r} is none of {', '.join(MODALITIES)}")
    whole: Stream = getattr(windows, name)
    window_N, token_N = whole.mask_BT.nonzero(as_tuple=True)
    B = len(whole.mask_BT)
    rows_N = torch.cat([torch.arange(B, device=window_N.device), window_N])
    kept_NT = whole.mask_BT[rows_N]
    kept_NT[torch.arange(B, len(rows_N), device=window_N.device), token_N] = False
    left = Stream.of(whole.tokens_BTD[rows_N], kept_NT, whole.quality_BQ[rows_N])
    logit_NC = forward(Windows(**{**dict(take(windows, rows_N).streams()), name: left})).double()
    importance_BTC = logit_NC.new_zeros(*whole.mask_BT.shape, logit_NC.shape[1])
    importance_BTC[window_N, token_N] = logit_NC[window_N] - logit_NC[B:]
    return importance_BTC


def top(importance_BTC: Tensor, mask_BT: Tensor) -> Tensor:
    """The most important token for each class, among those that there are: token_BC, -1 where there is none."""
    if not mask_BT.shape[1]:
        return importance_BTC.new_full((len(mask_BT), importance_BTC.shape[2]), -1, dtype=torch.long)
    best_BC = importance_BTC.masked_fill(~mask_BT[:, :, None], float("-inf")).argmax(1)
    return torch.where(mask_BT.any(1)[:, None], best_BC, -1)


def take(windows: Windows, rows_N: Tensor) -> Windows:
    """Those windows, in that order; one may come more than once."""
    return Windows(
        **{name: Stream.of(one.tokens_BTD[rows_N], one.mask_BT[rows_N], one.quality_BQ[rows_N]) for name, one in windows.streams()}
    )


def _bits(like: Tensor) -> Tensor:
    return 2 ** torch.arange(M, device=like.device)


def _members(coalition_K: Tensor) -> Tensor:
    return (coalition_K[:, None] & _bits(coalition_K)) > 0


def _share(value_BKC: Tensor, at: int) -> Tensor:
    """The weighted mean of what modality `at` adds to each coalition without it."""
    share_BC = torch.zeros_like(value_BKC[:, 0])
    for without in (each for each in range(COALITIONS) if not each >> at & 1):
        size = without.bit_count()
        weight = factorial(size) * factorial(M - size - 1) / factorial(M)
        share_BC = share_BC + weight * (value_BKC[:, without | 1 << at] - value_BKC[:, without])
    return share_BC
