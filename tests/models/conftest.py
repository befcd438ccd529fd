"""Real weights, pulled once into the cache that everything else uses; a missing one is a failure, not a skip."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from models import packages, weights


@pytest.fixture(scope="session")
def home() -> Path:
    """The cache folder, with every weight in it."""
    torch.set_num_threads(1)
    where = packages.resolve(Path(os.environ["STREAMER_HOME"]) if os.environ.get("STREAMER_HOME") else None)
    weights.pull(where)
    return where
