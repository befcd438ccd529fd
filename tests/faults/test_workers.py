"""align as real processes on Apache Kafka: its workers come, go and stand still, the broker goes away, and no record is lost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.faults.acts import freeze, join, leave
from tests.faults.processes import Broker
from tests.faults.town import town

SHORT = 3.0  # seconds of session timeout

pytestmark = [pytest.mark.slow, pytest.mark.kafka]


async def test_a_second_worker_comes_the_first_stands_still_and_the_second_leaves(kafka_address: str, tmp_path: Path) -> None:
    """Twice its session timeout the first one stands still: it was replaced, and does not know it when it wakes."""
    async with town(kafka_address, tmp_path, sessions=4, session_timeout=SHORT) as place:
        since = time.time()
        place.join("align")
        await place.recover("starts", "windows", since)
        second = await join(place, "align", "windows")
        await freeze(place, "align", "windows", 2 * SHORT, "frozen")
        await leave(place, second, "windows")
        await place.finish()
        found = await place.verdict()
        place.leave("align")
    assert found.wrong == dict.fromkeys(found.wrong, 0), found.missed
    assert min(found.duplicates, found.revisions) > 0


async def test_the_broker_stops_and_comes_back(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    with Broker(tmp_path / "kafka") as broker:
        async with town(broker.address, tmp_path, sessions=4, session_timeout=SHORT) as place:
            since = time.time()
            place.join("align")
            await place.recover("starts", "windows", since)
            since = time.time()
            broker.stop()
            gone = time.time()
            broker.again()
            await place.recover("stopped", "windows", since, after=gone)
            await place.finish()
            found = await place.verdict()
            place.leave("align")
    assert found.wrong == dict.fromkeys(found.wrong, 0), found.missed
    assert min(found.duplicates, found.revisions) > 0
