"""Parts that several small encoders are made of.

Laws:
1. A network takes what `prepare` makes of events. What was fitted to training inputs is a buffer: it travels with the weights.
2. An event's logits and embedding do not depend on what else is in the batch, beyond the last bits of a sum.

Shape key: N events of a batch, C classes, D embedding, H x W map (of sound: time x band).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.features import Array, Chances

AT_ONCE = 32
"""Events in one forward."""
CONSTANT = 1e-3
"""A dimension that spreads less than this is left unscaled."""


class Network(nn.Module, ABC):
    """Events to logits (N, C) and embeddings (N, D); `Networks` makes one."""

    classifier: nn.Linear

    @abstractmethod
    def prepare(self, events: Sequence[Any]) -> Tensor:
        """What `forward` takes of these events, on the CPU. ValueError where one is none."""

    def fit(self, inputs: Tensor) -> None:
        """Scale to these inputs, of training; nothing where there is nothing to scale."""

    @torch.inference_mode()
    def say(self, events: Sequence[Any]) -> tuple[Array, Array]:
        """Logits (N, C) and embeddings (N, D), AT_ONCE at a time, as in evaluation: nothing is spoilt or dropped."""
        if not len(events):
            return np.empty((0, self.classifier.out_features), np.float32), np.empty((0, self.classifier.in_features), np.float32)
        device, training = next(self.parameters()).device, self.training
        self.eval()
        batches = [events[at : at + AT_ONCE] for at in range(0, len(events), AT_ONCE)]
        made = [self(self.prepare(batch).to(device)) for batch in batches]
        self.train(training)
        logits_NC, embedding_ND = (torch.cat(each).float().cpu().numpy() for each in zip(*made, strict=True))
        return logits_NC, embedding_ND


Networks = Mapping[str, Callable[[int, int], Network]]
"""Architectures by name: made of the number of classes, and of the width (32 to 128, a multiple of 8); embeddings are twice as wide."""


class Standard(nn.Module):
    """The last dimension to mean 0 and scale 1, over all others."""

    mean_D: Tensor
    scale_D: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean_D", torch.zeros(width))
        self.register_buffer("scale_D", torch.ones(width))

    def fit(self, values: Tensor) -> None:
        """To these, (..., D); those of no event change nothing."""
        flat_ND = values.detach().flatten(0, -2).double()
        if len(flat_ND):
            spread_D = flat_ND.std(0, correction=0)
            self.mean_D.copy_(flat_ND.mean(0))
            self.scale_D.copy_(torch.where(spread_D > CONSTANT, spread_D, 1.0))

    def forward(self, values: Tensor) -> Tensor:
        """The same shape."""
        return (values - self.mean_D) / self.scale_D


class Block(nn.Module):
    """A 3 x 3 convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: tuple[int, int] = (2, 2)) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, map_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / stride, W / stride)."""
        return functional.relu(self.norm(self.conv(map_NCHW)))


def pyramid(inputs: int, width: int, strides: Sequence[tuple[int, int]]) -> nn.Sequential:
    """At most five blocks: the last two `width` wide, each one before half as wide as the next."""
    channels = [inputs, *(width // share for share in (8, 4, 2, 1, 1)[-len(strides) :])]
    return nn.Sequential(*(Block(*pair, stride) for pair, stride in zip(pairwise(channels), strides, strict=True)))


def pooled(values: Tensor, *dims: int) -> Tensor:
    """Mean and greatest over those dimensions, one after the other: twice as wide."""
    return torch.cat([values.mean(dims), values.amax(dims)], dim=1)


def chances_of(classes: Sequence[str], logit_C: Array) -> Chances:
    """Of one event, by class."""
    return dict(zip(classes, torch.sigmoid(torch.from_numpy(logit_C)).tolist(), strict=True))
