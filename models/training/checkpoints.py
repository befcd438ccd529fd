"""A stage of training as a file: what it has learned and how far it is. Safetensors and JSON; nothing in it is run when it is read.

Laws:
1. A stage that goes on from its checkpoint ends with the same weights as one that was never interrupted, to the bit.
2. A checkpoint of another recipe, seed or data is a ValueError, never mixed in.
3. A file is whole or not there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.head import read, write

MOST_BYTES = 1 << 30
"""No checkpoint is larger."""
VERSION = "2"

State = dict[str, Tensor]


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a stage is. `best` are the averaged weights of `best_epoch`; epochs count from 0, before the first step."""

    epoch: int = 0
    best_epoch: int = 0
    best_score: float = float("-inf")
    best: State = field(default_factory=dict)
    done: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One stage's file. `key` says of what: recipe, seed and data."""

    path: Path
    key: str

    def save(self, progress: Progress, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """After an epoch."""
        tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in progress.best.items()}
        for at, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{at}.{name}": tensor for name, tensor in state.items()}
        about = {
            "version": VERSION,
            "key": self.key,
            "epoch": str(progress.epoch),
            "best_epoch": str(progress.best_epoch),
            "best_score": progress.best_score.hex(),
            "done": json.dumps(progress.done),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write(self.path, {name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, about)

    def load(self, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> Progress | None:
        """None where there is no file yet. ValueError where it is of something else, or no checkpoint."""
        if not self.path.exists():
            return None
        tensors, about = read(self.path, MOST_BYTES)
        if about.get("version") != VERSION or about.get("key") != self.key:
            raise ValueError(f"{self.path} is of another recipe, seed, data or release: remove it, or choose another folder")
        try:
            model.load_state_dict(_below(tensors, "model"))
            average.load_state_dict(_below(tensors, "average"))
            _restore(optimizer, _below(tensors, "optimizer"))
            return Progress(
                epoch=int(about["epoch"]),
                best_epoch=int(about["best_epoch"]),
                best_score=float.fromhex(about["best_score"]),
                best=_below(tensors, "best"),
                done=bool(json.loads(about["done"])),
            )
        except (KeyError, RuntimeError, ValueError) as exc:
            raise ValueError(f"{self.path} is no checkpoint of this stage: {exc}") from exc


def _below(tensors: Mapping[str, Tensor], prefix: str) -> State:
    return {name.removeprefix(f"{prefix}."): tensor.clone() for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}


def _restore(optimizer: torch.optim.Optimizer, flat: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in flat.items():
        at, _, key = name.partition(".")
        state.setdefault(int(at), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
