"""Small windows and methods of which nothing is at a special value."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from models.fusion.methods import METHODS
from models.fusion.windows import MODALITIES, Stream, Widths, Windows

WIDTHS = Widths(
    tokens={"frames": 6, "audio": 10, "transcripts": 4}, quality={"frames": 2, "audio": 3, "transcripts": 1}, classes=3, model=16
)
PATTERNS = torch.cartesian_prod(*[torch.tensor([False, True])] * 3)
"""Every availability of three modalities; the first is none, the last is all."""
Module = TypeVar("Module", bound=nn.Module)
TOKENS = 4  # of each modality, some of them left out
NAN = float("nan")


def windows_of(present_BM: Tensor = PATTERNS, *, seed: int = 0) -> Windows:
    """Random windows; of a modality that is present, one to TOKENS tokens."""
    random = torch.Generator().manual_seed(seed)
    size = len(present_BM)
    streams = {}
    for at, name in enumerate(MODALITIES):
        mask_BT = torch.rand(size, TOKENS, generator=random) < 0.6
        mask_BT[torch.arange(size), torch.randint(TOKENS, (size,), generator=random)] = True
        tokens_BTD = torch.randn(size, TOKENS, WIDTHS.tokens[name], generator=random)
        quality_BQ = torch.randn(size, WIDTHS.quality[name], generator=random)
        streams[name] = Stream.of(tokens_BTD, mask_BT & present_BM[:, at, None], quality_BQ)
    return Windows(**streams)


def filled(windows: Windows, value: float) -> Windows:
    """The same with `value` wherever a mask leaves something out, past the laws of `Stream.of` where it is a number."""
    return Windows(**{name: _filled(stream, value) for name, stream in windows.streams()})


def _filled(stream: Stream, value: float) -> Stream:
    tokens_BTD = torch.where(stream.mask_BT[:, :, None], stream.tokens_BTD, value)
    quality_BQ = torch.where(stream.present_B[:, None], stream.quality_BQ, value)
    if value != value:
        return Stream.of(tokens_BTD, stream.mask_BT, quality_BQ)
    return Stream(tokens_BTD=tokens_BTD, mask_BT=stream.mask_BT, quality_BQ=quality_BQ, present_B=stream.present_B)


def padded(windows: Windows, more: int) -> Windows:
    """The same with `more` tokens of zeros that no mask keeps."""
    return Windows(
        **{
            name: Stream.of(
                nn.functional.pad(stream.tokens_BTD, (0, 0, 0, more)), nn.functional.pad(stream.mask_BT, (0, more)), stream.quality_BQ
            )
            for name, stream in windows.streams()
        }
    )


def rows(windows: Windows, chosen: slice) -> Windows:
    """Some windows of the batch."""
    return Windows(**{name: Stream.of(it.tokens_BTD[chosen], it.mask_BT[chosen], it.quality_BQ[chosen]) for name, it in windows.streams()})


def shaken(method: Module, *, seed: int = 0) -> Module:
    """The same with noise on every parameter: no zero of the start hides a fault."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in method.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
    return method


def made(name: str, *, seed: int = 0) -> nn.Module:
    """A method as its seed makes it."""
    torch.manual_seed(seed)
    return METHODS[name](WIDTHS)


def train(method: nn.Module, windows: Windows, target_BC: Tensor, *, steps: int, until: float = 0.0) -> float:
    """AdamW on one batch; the last loss."""
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-2)
    found = float("inf")
    for _ in range(steps):
        loss = nn.functional.binary_cross_entropy_with_logits(method(windows), target_BC)
        found = float(loss.detach())
        if found < until:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return found
