"""Three schedules on Apache Kafka with real workers; `make bench NAME=replays` plays more, and longer ones."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.simulator.replay import replayed

SEEDS = (980, 1289, 552)
"""In the first, workers with lasting names are killed and struck while they write, and alerts come of it; in the second, others are
struck and frozen past their session; in the third, retention takes records between two reads."""
RECORDS = 18


@pytest.mark.kafka
async def test_what_holds_in_the_simulator_holds_on_a_real_broker(kafka_address: str, tmp_path: Path) -> None:
    found = await asyncio.gather(*(replayed(seed, kafka_address, tmp_path, records=RECORDS) for seed in SEEDS))
    assert [wrong for _, wrong in found] == [""] * len(SEEDS)
    count = sum((counted for counted, _ in found), start=type(found[0][0])())
    wanted = ("killed", "struck", "frozen", "retain", "windows", "scores", "alerts", "with lasting names")
    assert all(count[name] > 0 for name in wanted), count
