"""Why a window scored what it did: each modality's share, and each token's.

Laws:
1. A window's contributions and the logit of an empty window sum to its logit.
2. A modality that is absent contributes exactly 0. So does one whose presence never changes a logit (null player).
3. Modalities that change it alike contribute alike (symmetry).
4. A token's fall is the logit's with it less the logit's without it; the last one of a modality takes the modality with it.

Sources: Shapley 1953, exact over the 2^M coalitions; deletion and insertion of single tokens, Petsiuk et al., arXiv:1806.07421.
Values are logits, where evidence adds.
Shape key: as in models/fusion/windows.py, and K coalitions, W of them without a modality, N rows. Coalition k has modality m when bit m
of k is set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Removal:
    """Of each token, by modality, BTC in float64, 0 where there is none: how far the logit falls without it, and how far it rises from an
    empty window's with that token `alone`. Tokens that say the same hide each other in `fall`, and not in `alone`.
    """

    logit_BC: Tensor
    mask_BT: Mapping[str, Tensor]
    fall: Mapping[str, Tensor]
    alone: Mapping[str, Tensor]


@torch.no_grad()
def shapley(forward: Forward, windows: Windows) -> Contributions:
    """Exact Shapley values of the modalities, in one forward of 8 rows a window."""
    coalition_K = torch.arange(COALITIONS, device=windows.present_BM.device)
    B = len(windows.present_BM)
    rows_N = torch.arange(B, device=coalition_K.device).repeat_interleave(COALITIONS)
    value_NC = forward(take(windows, rows_N, _members(coalition_K).repeat(B, 1))).double()
    value_BKC = value_NC.reshape(B, COALITIONS, value_NC.shape[1])
    # A coalition with an absent member is the same windows as without it: the same number too, whatever a batched kernel rounds to.
    same_BK = coalition_K & (windows.present_BM * _bits(coalition_K)).sum(1, keepdim=True)
    value_BKC = value_BKC.gather(1, same_BK[:, :, None].expand_as(value_BKC))
    without_MW, weight_MW1 = _joined(coalition_K.device)
    gain_BMWC = value_BKC[:, without_MW | _bits(coalition_K)[:, None]] - value_BKC[:, without_MW]
    share_BMC = (gain_BMWC * weight_MW1).sum(2)
    return Contributions(share_BMC=share_BMC, empty_BC=value_BKC[:, 0], logit_BC=value_BKC[:, -1])


@torch.no_grad()
def removal(forward: Forward, windows: Windows) -> Removal:
    """What each token counts, in one forward: two rows for each window and for each token. Quality stays its modality's mean."""
    places = {name: stream.mask_BT.nonzero() for name, stream in windows.streams()}
    window_N = torch.cat([place[:, 0] for place in places.values()])
    B, N = len(windows.present_BM), len(window_N)
    whole_B = torch.arange(B, device=window_N.device)
    rows_R = torch.cat([whole_B, whole_B, window_N, window_N])
    streams, first = {}, 0
    for name, stream in windows.streams():
        own_NT = torch.zeros(N, stream.mask_BT.shape[1], dtype=torch.bool, device=window_N.device)
        own_NT[first + torch.arange(len(places[name]), device=window_N.device), places[name][:, 1]] = True
        kept_RT = torch.cat([stream.mask_BT, torch.zeros_like(stream.mask_BT), stream.mask_BT[window_N] & ~own_NT, own_NT])
        streams[name] = Stream.of(stream.tokens_BTD[rows_R], kept_RT, stream.quality_BQ[rows_R])
        first += len(places[name])
    whole_BC, empty_BC, without_NC, alone_NC = forward(Windows(**streams)).double().split([B, B, N, N])
    return Removal(
        logit_BC=whole_BC,
        mask_BT={name: stream.mask_BT for name, stream in windows.streams()},
        fall=_placed(whole_BC[window_N] - without_NC, places, windows),
        alone=_placed(alone_NC - empty_BC[window_N], places, windows),
    )


def _placed(value_NC: Tensor, places: Mapping[str, Tensor], windows: Windows) -> dict[str, Tensor]:
    """Each token's value where it stands, by modality: BTC, 0 where there is none."""
    placed = {}
    parts = value_NC.split([len(place) for place in places.values()])
    for (name, stream), part_NC in zip(windows.streams(), parts, strict=True):
        placed[name] = value_NC.new_zeros(*stream.mask_BT.shape, value_NC.shape[1])
        placed[name][tuple(places[name].T)] = part_NC
    return placed


def top(importance_BTC: Tensor, mask_BT: Tensor) -> Tensor:
    """The most important token for each class, among those that there are: token_BC, -1 where there is none."""
    if not mask_BT.shape[1]:
        return importance_BTC.new_full((len(mask_BT), importance_BTC.shape[2]), -1, dtype=torch.long)
    best_BC = importance_BTC.masked_fill(~mask_BT[:, :, None], float("-inf")).argmax(1)
    return torch.where(mask_BT.any(1)[:, None], best_BC, -1)


def take(windows: Windows, rows_N: Tensor, keep_NM: Tensor | None = None) -> Windows:
    """Those windows, in that order; one may come more than once. `keep_NM` (bool): with those modalities alone."""
    streams = {}
    for m, (name, one) in enumerate(windows.streams()):
        mask_NT = one.mask_BT[rows_N] if keep_NM is None else one.mask_BT[rows_N] & keep_NM[:, m, None]
        streams[name] = Stream.of(one.tokens_BTD[rows_N], mask_NT, one.quality_BQ[rows_N])
    return Windows(**streams)


@cache
def _joined(device: torch.device) -> tuple[Tensor, Tensor]:
    """By modality, the W coalitions that it can join, and how much what it adds to each counts: 1 in all. There once: a graph on a GPU
    cannot copy them.
    """
    without = [[k for k in range(COALITIONS) if not k >> m & 1] for m in range(M)]
    weight = [[factorial(k.bit_count()) * factorial(M - k.bit_count() - 1) / factorial(M) for k in row] for row in without]
    return torch.tensor(without, device=device), torch.tensor(weight, dtype=torch.float64, device=device)[:, :, None]


def _bits(like: Tensor) -> Tensor:
    return 2 ** torch.arange(M, device=like.device)


def _members(coalition_K: Tensor) -> Tensor:
    return (coalition_K[:, None] & _bits(coalition_K)) > 0
