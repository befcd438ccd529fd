"""What a fusion method reads: a batch of windows, each with what the encoders made of its events.

Laws:
1. A window without a token of a modality lacks that modality. Its tokens and quality features there are zeros, whatever stood there.
2. Tokens that the mask leaves out are zeros.

Shape key: B windows, M modalities in the order of MODALITIES, T tokens of one modality (padded), D width of such a token,
Q quality features, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

MODALITIES = ("frames", "audio", "transcripts")
"""Names as they stand in contributions. Their order is that of every dimension M."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Widths:
    """What a method is built for: sizes by modality, how many classes, and the width that it works in.

    `verdicts`: so many numbers lead each token, what its encoder itself says of the first so many classes; constant where it says nothing.
    """

    tokens: Mapping[str, int]
    quality: Mapping[str, int]
    classes: int
    model: int = 64
    verdicts: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stream:
    """One modality of a batch. Made by `Stream.of`, which holds the laws."""

    tokens_BTD: Tensor
    mask_BT: Tensor
    quality_BQ: Tensor
    present_B: Tensor

    @classmethod
    def of(cls, tokens_BTD: Tensor, mask_BT: Tensor, quality_BQ: Tensor) -> Stream:
        """`mask_BT` (bool) says which tokens there are. What it leaves out may hold anything, also what is not a number."""
        present_B = mask_BT.any(1)
        tokens_BTD = torch.where(mask_BT[:, :, None], tokens_BTD, 0.0)
        quality_BQ = torch.where(present_B[:, None], quality_BQ, 0.0)
        return cls(tokens_BTD=tokens_BTD, mask_BT=mask_BT, quality_BQ=quality_BQ, present_B=present_B)

    def only(self, keep_B: Tensor) -> Stream:
        """The same where `keep_B` (bool), absent elsewhere."""
        return Stream.of(self.tokens_BTD, self.mask_BT & keep_B[:, None], self.quality_BQ)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Windows:
    """A batch."""

    frames: Stream
    audio: Stream
    transcripts: Stream
    present_BM: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "present_BM", torch.stack([stream.present_B for _, stream in self.streams()], dim=1))

    def streams(self) -> Iterator[tuple[str, Stream]]:
        """By name, in the order of MODALITIES."""
        yield from ((name, getattr(self, name)) for name in MODALITIES)

    def only(self, keep_BM: Tensor) -> Windows:
        """The same with those modalities alone (of those that are there): a coalition."""
        return Windows(**{name: stream.only(keep_BM[:, at]) for at, (name, stream) in enumerate(self.streams())})

    def to(self, device: torch.device) -> Windows:
        """The same there."""
        moved = {name: (one.tokens_BTD.to(device), one.mask_BT.to(device), one.quality_BQ.to(device)) for name, one in self.streams()}
        return Windows(**{name: Stream.of(*parts) for name, parts in moved.items()})
