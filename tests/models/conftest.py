"""Real weights, pulled once into the cache that everything else uses; a missing one is a failure, not a skip."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from models import packages, weights


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Operators this small are slower on two, and far slower where other tests run beside: threads that wait for each other spin."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def home() -> Path:
    """The cache folder, with every weight in it."""
    where = packages.resolve(Path(os.environ["STREAMER_HOME"]) if os.environ.get("STREAMER_HOME") else None)
    weights.pull(where)
    return where
