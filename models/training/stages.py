"""What the stages of one training share: recipe, seed, where they are seen and kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from models.training.checkpoints import Checkpoint
from models.training.loop import Stage
from models.training.recipe import Recipe
from models.training.watch import SILENT, Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """`key` names recipe, seed and data; `folder` holds a checkpoint by stage, None for none."""

    recipe: Recipe
    seed: int
    key: str
    watch: Watch = SILENT
    folder: Path | None = None

    def stage(self, name: str, *, stop: int | None = None) -> Stage:
        """One of them."""
        checkpoint = Checkpoint(path=self.folder / f"{name}.safetensors", key=self.key) if self.folder else None
        return Stage(name=name, seed=self.seed, recipe=self.recipe, stop=stop, watch=self.watch, checkpoint=checkpoint)

    def set_dropout(self, model: nn.Module) -> None:
        """The recipe's, in every part: it is no part of the weights."""
        for part in model.modules():
            if isinstance(part, nn.Dropout):
                part.p = self.recipe.dropout
