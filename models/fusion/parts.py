"""Parts that several fusion methods are made of.

Laws:
1. What a mask leaves out has no weight, whatever number stands there: no part relies on the zeros of `Windows`.
2. Where a mask leaves nothing, a mean, a softmax and a pool are zeros, and their gradients are finite.
3. A window without any modality gets the prior: a learned logit for each class.

Shape key: B windows, M modalities, T tokens of one modality, S tokens that are attended to, D width of the model, H heads, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.fusion.windows import MODALITIES, Widths, Windows

HEADS = 4


def masked_softmax(scores: Tensor, mask: Tensor, dim: int) -> Tensor:
    """Softmax over what `mask` (bool, broadcast to `scores`) keeps; zeros elsewhere."""
    lowest = torch.finfo(scores.dtype).min
    return torch.softmax(scores.masked_fill(~mask, lowest), dim) * mask


def masked_mean(values: Tensor, mask_BM: Tensor) -> Tensor:
    """Mean over dimension 1 of (B, M, ...), of those that the mask keeps."""
    mask = mask_BM.reshape(*mask_BM.shape, *[1] * (values.ndim - 2))
    return torch.where(mask, values, 0.0).sum(1) / mask.sum(1).clamp(min=1)


def mlp(inputs: int, hidden: int, outputs: int, dropout: float = 0.0) -> nn.Sequential:
    """One hidden layer."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, outputs))


def silent(network: nn.Sequential) -> nn.Sequential:
    """The same, with a last layer of zeros."""
    for parameter in network[-1].parameters():
        nn.init.zeros_(parameter)
    return network


def shrink_rows(network: nn.Module, share_C: Tensor) -> None:
    """By class that share of what a network of `mlp` says of it, in place; under `no_grad`."""
    assert isinstance(network, nn.Sequential)
    for parameter in network[-1].parameters():
        parameter.mul_(share_C.reshape(-1, *[1] * (parameter.ndim - 1)))


def project(inputs: int, model: int, dropout: float = 0.0) -> nn.Sequential:
    """Tokens of one modality, of any scale, to the width of the model."""
    return nn.Sequential(nn.Linear(inputs, model), nn.LayerNorm(model), nn.GELU(), nn.Dropout(dropout))


class AttentionPool(nn.Module):
    """Tokens to one vector by learned weights (Ilse et al., arXiv:1802.04712, with a linear score)."""

    def __init__(self, model: int) -> None:
        super().__init__()
        self.score = nn.Linear(model, 1)

    def forward(self, tokens_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """(B, T, D) to (B, D)."""
        return (self.weights(tokens_BTD, mask_BT)[:, :, None] * tokens_BTD).sum(1)

    def weights(self, tokens_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        """How much of each token is in the vector, (B, T)."""
        return masked_softmax(self.score(tokens_BTD), mask_BT[:, :, None], dim=1).squeeze(2)


class Attention(nn.Module):
    """Multi-head attention (arXiv:1706.03762) over the tokens that a mask keeps. ValueError: a width that HEADS does not divide."""

    def __init__(self, model: int) -> None:
        super().__init__()
        if model % HEADS:
            raise ValueError(f"a width of {model} is no multiple of {HEADS} heads")
        self.query, self.key, self.value, self.out = (nn.Linear(model, model) for _ in range(4))

    def forward(self, query_BTD: Tensor, context_BSD: Tensor, mask_BS: Tensor) -> Tensor:
        """Each of T queries reads the context."""
        value_BHSd = _heads(self.value(context_BSD))
        read_BTD: Tensor = self.out((self.weights(query_BTD, context_BSD, mask_BS) @ value_BHSd).transpose(1, 2).flatten(2))
        return read_BTD

    def weights(self, query_BTD: Tensor, context_BSD: Tensor, mask_BS: Tensor) -> Tensor:
        """How much of each token of the context a head of a query reads, (B, H, T, S)."""
        query_BHTd, key_BHSd = _heads(self.query(query_BTD)), _heads(self.key(context_BSD))
        scores_BHTS = query_BHTd @ key_BHSd.transpose(2, 3) / query_BHTd.shape[-1] ** 0.5
        return masked_softmax(scores_BHTS, mask_BS[:, None, None, :], dim=-1)


def _heads(projected_BTD: Tensor) -> Tensor:
    """(B, H, T, D / H)."""
    apart_BHTd: Tensor = projected_BTD.unflatten(-1, (HEADS, -1)).transpose(1, 2)
    return apart_BHTd


class Encoders(nn.Module):
    """Every modality's tokens, moved by its quality features, to (B, T, D); in the order of MODALITIES."""

    def __init__(self, widths: Widths, dropout: float = 0.0) -> None:
        super().__init__()
        self.tokens = nn.ModuleDict({name: project(widths.tokens[name], widths.model, dropout) for name in MODALITIES})
        self.quality = nn.ModuleDict({name: nn.Linear(widths.quality[name], widths.model) for name in MODALITIES})

    def forward(self, windows: Windows) -> list[Tensor]:
        """One tensor by modality; what stands where there is no token is anything."""
        return [self.tokens[name](it.tokens_BTD) + self.quality[name](it.quality_BQ)[:, None] for name, it in windows.streams()]


class Pools(nn.Module):
    """Encoded tokens to one summary by modality, zeros where it is absent."""

    def __init__(self, widths: Widths) -> None:
        super().__init__()
        self.pools = nn.ModuleList(AttentionPool(widths.model) for _ in MODALITIES)

    def forward(self, tokens: Sequence[Tensor], windows: Windows) -> Tensor:
        """What `Encoders` made, to (B, M, D)."""
        streams = (stream for _, stream in windows.streams())
        return torch.stack([pool(it, stream.mask_BT) for pool, it, stream in zip(self.pools, tokens, streams, strict=True)], dim=1)


class Summaries(nn.Module):
    """A window to one summary by modality (B, M, D), zeros where it is absent; or learned vectors there, with `missing`."""

    def __init__(self, widths: Widths, dropout: float = 0.0, *, missing: bool = False) -> None:
        super().__init__()
        self.encoders = Encoders(widths, dropout)
        self.pools = Pools(widths)
        self.missing_MD = nn.Parameter(torch.randn(len(MODALITIES), widths.model) * 0.02) if missing else None

    def forward(self, windows: Windows) -> Tensor:
        """(B, M, D)."""
        summary_BMD: Tensor = self.pools(self.encoders(windows), windows)
        return summary_BMD if self.missing_MD is None else torch.where(windows.present_BM[:, :, None], summary_BMD, self.missing_MD)


class Head(nn.Module):
    """What was fused to logits; the prior where there was nothing to fuse."""

    def __init__(self, inputs: int, widths: Widths, dropout: float = 0.0) -> None:
        super().__init__()
        self.classify = mlp(inputs, widths.model, widths.classes, dropout)
        self.prior_C = nn.Parameter(torch.zeros(widths.classes))

    def forward(self, fused_BD: Tensor, present_BM: Tensor) -> Tensor:
        """(B, D) to (B, C)."""
        return torch.where(present_BM.any(1, keepdim=True), self.classify(fused_BD), self.prior_C)
