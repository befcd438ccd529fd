"""Where a head looks: the weights of every attention in it, and the gates of `gated`; for debugging, they explain nothing by themselves.

All methods but two pool each modality's tokens by attention; `attention_pooling` reads all of them as one bag, `cross_attention` reads each
modality besides with the others' summaries, `bottleneck` has layers of self-attention. In methods that are made of experts the pool is of
what corrects an expert, not of what its encoder says.

Laws:
1. Logits are the same to the bit, with and without being looked at.
2. What a query reads of sums to one, or to zero where nothing is there. What a mask leaves out has no weight.

Sources: attention weights need not tell what counted (Jain and Wallace, arXiv:1902.10186): for that there is models/explain.py.
Shape key: as in models/fusion/windows.py; H heads, N queries, S tokens that are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.fusion.bottleneck import BOTTLENECK
from models.fusion.cross_attention import PAIRS
from models.fusion.gated import Gated
from models.fusion.parts import Attention, AttentionPool
from models.fusion.windows import MODALITIES, Windows
from models.head import FusionHead

NECK = "bottleneck"


class Read(NamedTuple):
    """Who reads, and the tokens of what, in the order in which they stand in S."""

    reader: str
    of: tuple[str, ...]


@torch.no_grad()
def maps(head: FusionHead, windows: Windows) -> dict[Read, Tensor]:
    """weights_BHNS of each attention, in the order in which they run; H and N are 1 where a modality is pooled."""
    found: dict[Read, Tensor] = {}
    handles = []
    for path, module in head.method.named_modules():
        if isinstance(module, Attention | AttentionPool):
            handles.append(module.register_forward_hook(_Look(path, found)))
    try:
        head.logits(windows)
    finally:
        for handle in handles:
            handle.remove()
    return found


class _Look:
    """A forward hook: puts down what the module's weights were for that input."""

    def __init__(self, path: str, found: dict[Read, Tensor]) -> None:
        self._path, self._found, self._calls = path, found, 0

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(module, Attention | AttentionPool)
        weights = module.weights(*inputs)
        self._found[_read(self._path, self._calls)] = weights if weights.ndim == 4 else weights[:, None, None]
        self._calls += 1


def _read(path: str, call: int) -> Read:
    """What the attention at that place of a method reads in its call."""
    match path.split("."):
        case ["attention"]:
            return Read("query", MODALITIES)
        case [*_, "pools", at]:
            return Read("pool", (MODALITIES[int(at)],))
        case ["experts", "experts", name, "pool"]:
            return Read("pool", (name,))
        case ["pairs", at, "attention"]:
            x, y = PAIRS[int(at)]
            return Read(MODALITIES[y], (MODALITIES[x],)) if call else Read(MODALITIES[x], (MODALITIES[y],))
        case ["layers", layer, "blocks", at, "attention"]:
            return Read(f"layer {layer}", (MODALITIES[int(at)], NECK))
    raise ValueError(f"nothing is known of an attention at {path}")


@torch.no_grad()
def gates(head: FusionHead, windows: Windows) -> Tensor:
    """gates_BMC: each modality's part in each class's pool; 0 without a voice, else a sum of 1. ValueError for a method that has none."""
    if not isinstance(head.method, Gated):
        raise ValueError(f"{head.about.method} has no gates; its attention is told by `maps`")
    scaled = head.standard(windows)
    gates_BMC: Tensor = head.method.gates(scaled, head.method.experts(scaled))[0]
    return gates_BMC


def by_token(found: Mapping[Read, Tensor], windows: Windows) -> dict[str, dict[str, Tensor]]:
    """Reader -> modality -> weight_BT: the mean over heads and queries. In a bottleneck's layer, of those of the bottleneck alone.

    0 where the reader is itself a modality that is absent: what it reads there is not used.
    """
    told: dict[str, dict[str, Tensor]] = {}
    for read, weights_BHNS in found.items():
        mean_BS = weights_BHNS[:, :, -BOTTLENECK:].mean((1, 2))
        if read.reader in MODALITIES:
            mean_BS = mean_BS * windows.present_BM[:, MODALITIES.index(read.reader), None]
        lengths = [BOTTLENECK if name == NECK else getattr(windows, name).mask_BT.shape[1] for name in read.of]
        parts = dict(zip(read.of, mean_BS.split(lengths, dim=1), strict=True))
        told.setdefault(read.reader, {}).update({name: part for name, part in parts.items() if name != NECK})
    return told
