"""Real weights, pulled once into the cache that everything else uses; a missing one is a failure, not a skip."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models import packages, weights
from streamer.stages.media import decode_image

DEMO = Path(__file__).parents[2] / "deploy" / "demo"


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


@pytest.fixture(scope="session")
def pictures() -> list[NDArray[np.uint8]]:
    """A street, the same stretched and in other light, people walking there, noise."""
    street = decode_image((DEMO / "street.jpg").read_bytes(), 34_000_000)
    stretched = [street, street[:, ::-1], street[: len(street) // 2], np.tile(street, (1, 3, 1)), street // 4, 255 - street]
    noise = np.random.default_rng(1).integers(0, 256, (400, 500, 3), np.uint8)
    with av.open(str(DEMO / "pedestrians.mp4")) as clip:
        walking = [frame.to_ndarray(format="rgb24") for frame in islice(clip.decode(video=0), 0, 60, 5)]
    return [np.ascontiguousarray(image) for image in [*stretched, *walking, noise]]
