"""Windows that are already encoded, and what is true of them.

Laws:
1. Sampling and folds are drawn from their generator alone.
2. No recording stands in two folds.

Shape key: as in models/fusion/windows.py; N rows drawn, C classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator, Tensor

from models.classes import LABELS
from models.evaluation.alarms import Timeline
from models.evaluation.metrics import average_precision
from models.explain import take
from models.fusion.windows import Widths, Windows

CHUNK = 1024  # windows predicted at once


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Data:
    """One split. `group_B` (int): which recording a window is about; `known_BC` (bool): which labels are known, None for all.

    `timeline` says where the windows stand; calibration needs it. `verdicts`: see `Widths`. Spoilt copies are more windows, of their
    original's group.
    """

    windows: Windows
    truth_BC: Tensor
    group_B: Tensor
    classes: tuple[str, ...] = LABELS
    known_BC: Tensor | None = None
    timeline: Timeline | None = None
    verdicts: int = 0

    def __post_init__(self) -> None:
        B, C = len(self.windows.present_BM), len(self.classes)
        known_BC = self.known if self.known_BC is None else self.known_BC
        if not B or not self.truth_BC.shape == known_BC.shape == (B, C) or self.group_B.shape != (B,):
            found = f"truth {tuple(self.truth_BC.shape)}, known {tuple(known_BC.shape)}, groups {tuple(self.group_B.shape)}"
            raise ValueError(f"{found}: must be of {B} windows (1 at least) and {C} classes")
        if self.truth_BC.dtype != torch.bool or known_BC.dtype != torch.bool:
            raise ValueError(f"truth {self.truth_BC.dtype} and known {known_BC.dtype} must be bool")

    @property
    def known(self) -> Tensor:
        """`known_BC`, or all."""
        return torch.ones_like(self.truth_BC, dtype=torch.bool) if self.known_BC is None else self.known_BC

    @property
    def size(self) -> int:
        """Windows."""
        return len(self.truth_BC)

    def with_windows(self, windows: Windows) -> Data:
        """The same of other windows, one for each."""
        return replace(self, windows=windows)

    def to(self, device: torch.device) -> Data:
        """The same there."""
        known_BC = None if self.known_BC is None else self.known_BC.to(device)
        windows = self.windows.to(device)
        return replace(self, windows=windows, truth_BC=self.truth_BC.to(device), group_B=self.group_B.to(device), known_BC=known_BC)

    @property
    def digest(self) -> str:
        """16 hex digits that change with labels, groups, masks, and (by their sums) tokens and quality."""
        found = hashlib.sha256()
        for tensor in (self.truth_BC, self.known, self.group_B, *(stream.mask_BT for _, stream in self.windows.streams())):
            found.update(repr(tuple(tensor.shape)).encode() + tensor.cpu().contiguous().numpy().tobytes())
        for _, stream in self.windows.streams():
            for values in (stream.tokens_BTD, stream.quality_BQ):
                found.update(values.sum(dim=tuple(range(1, values.ndim))).cpu().numpy().tobytes())
        return found.hexdigest()[:16]


def widths_of(data: Data, model: int) -> Widths:
    """What a method for its windows is built for."""
    return Widths(
        tokens={name: stream.tokens_BTD.shape[2] for name, stream in data.windows.streams()},
        quality={name: stream.quality_BQ.shape[1] for name, stream in data.windows.streams()},
        classes=len(data.classes),
        model=model,
        verdicts=data.verdicts,
    )


def chances(truth_BC: Tensor, group_B: Tensor, balance: float) -> Tensor | None:
    """How likely each window is drawn, (B,); None where each is taken once.

    A window's chance at balance 1: one part by class (and one for windows without any), shared by the class's recordings, then by their
    windows; the greatest of its classes' counts. At less, the power `balance` of it.
    """
    if not balance:
        return None
    labels_BL = torch.cat([truth_BC, ~truth_BC.any(1, keepdim=True)], dim=1).cpu().numpy()
    groups, group_B_ = np.unique(group_B.cpu().numpy(), return_inverse=True)
    count_GL = np.zeros((len(groups), labels_BL.shape[1]))
    np.add.at(count_GL, group_B_, labels_BL)
    share_GL = 1.0 / (np.maximum(count_GL, 1) * np.maximum((count_GL > 0).sum(0), 1))
    return torch.from_numpy(np.where(labels_BL, share_GL[group_B_], 0.0).max(1) ** balance)


def draw(size: int, chance_B: Tensor | None, generator: Generator) -> Tensor:
    """The rows of an epoch: every one once in random order, or as many by their chances."""
    if chance_B is None:
        return torch.randperm(size, generator=generator)
    return torch.multinomial(chance_B, size, replacement=True, generator=generator)


def folds(group_B: Tensor, count: int, generator: Generator) -> Tensor:
    """Each window's fold, 0..count-1: recordings in random order, each to the fold with the fewest windows. ValueError with too few."""
    groups_G, at_B, size_G = group_B.cpu().unique(return_inverse=True, return_counts=True)
    if len(groups_G) < count:
        raise ValueError(f"{len(groups_G)} recordings are too few for {count} folds")
    fold_G, filled = torch.zeros(len(groups_G), dtype=torch.long), [0] * count
    for group in torch.randperm(len(groups_G), generator=generator).tolist():
        fold_G[group] = filled.index(min(filled))
        filled[fold_G[group]] += int(size_G[group])
    return fold_G[at_B]


@torch.no_grad()
def predict(forward: Callable[[Windows], Tensor], windows: Windows, keep_BM: Tensor | None = None, row_B: Tensor | None = None) -> Tensor:
    """Logits of windows (or of those rows of them), of the modalities kept, a chunk at a time."""
    every_B = torch.arange(len(windows.present_BM), device=windows.present_BM.device) if row_B is None else row_B
    found = []
    for at in range(0, len(every_B), CHUNK):
        found.append(forward(take(windows, every_B[at : at + CHUNK], None if keep_BM is None else keep_BM[at : at + CHUNK])))
    return torch.cat(found)


def precision(logits_BC: Tensor, truth_BC: Tensor, counts_BC: Tensor) -> float:
    """Mean average precision over the classes with a positive, of the windows that count. NaN without any."""
    logits_BC, truth_BC, counts_BC = logits_BC.detach().float().cpu(), truth_BC.cpu(), counts_BC.cpu()
    found = []
    for c in range(truth_BC.shape[1]):
        rows_B = counts_BC[:, c]
        if (truth_BC[:, c] & rows_B).any():
            found.append(average_precision(logits_BC[rows_B, c].double().numpy(), truth_BC[rows_B, c].numpy()))
    return float(np.mean(found)) if found else float("nan")
