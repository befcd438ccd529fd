"""The three ways of the benchmark, built once: real networks, random weights, small batches."""

from __future__ import annotations

import pytest

from models.bench.fast import Plan
from models.bench.whole import Bench, prepared


@pytest.fixture(scope="session")
def bench() -> Bench:
    """On the CPU, in float32, in shapes of one row and of four."""
    return prepared(Plan(sizes=(1, 4)))
