"""Three schedules on Apache Kafka with real workers; `make bench NAME=replays` plays more, and longer ones."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.simulator.replay import replayed

SEEDS = (251, 269, 361)
"""Short, and in each of them workers are killed, struck in the middle of writing, frozen and replaced; in 269 retention takes records."""
RECORDS = 10


@pytest.mark.kafka
async def test_what_holds_in_the_simulator_holds_on_a_real_broker(kafka_address: str, tmp_path: Path) -> None:
    found = await asyncio.gather(*(replayed(seed, kafka_address, tmp_path, records=RECORDS) for seed in SEEDS))
    assert [wrong for _, wrong in found] == [""] * len(SEEDS)
    count = sum((counted for counted, _ in found), start=type(found[0][0])())
    assert all(count[name] > 0 for name in ("killed", "struck", "frozen", "left", "windows", "scores")), count
