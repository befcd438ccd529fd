"""An output topic seen from outside: when each partition got a record again after a fault."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

from aiokafka.errors import KafkaError

from streamer.kafka.client import Kafka

LOOK = 0.02  # seconds
DEADLINE = 150.0  # seconds that a stage may take to come back
ON_ITS_WAY = 0.2  # seconds in which the broker may still append what a process sent before its end


@dataclass
class Watch:
    """Append times (the broker's, in seconds) of each partition's records, as they come."""

    topic: str
    times: dict[int, list[float]] = field(default_factory=dict)

    async def recovered(self, since: float, partitions: set[int], after: float = 0.0) -> tuple[float, float]:
        """Seconds from `since` to the first new record, and until each partition has one. Raises AssertionError at the deadline.

        `after`: until then the stage was not stopped yet.
        """
        deadline = time.time() + DEADLINE
        while not partitions <= (first := self.first(max(since + ON_ITS_WAY, after))).keys():
            assert time.time() < deadline, f"{self.topic}: nothing new in {sorted(partitions - first.keys())} for {DEADLINE:.0f} s"
            await asyncio.sleep(LOOK)
        return min(first.values()) - since, max(first[number] for number in partitions) - since

    def first(self, since: float) -> dict[int, float]:
        """Each partition's first record after `since`."""
        found: dict[int, float] = {}
        for number, times in self.times.items():
            for at in reversed(times):
                if at < since:
                    break
                found[number] = at
        return found

    def longest_pause(self, since: float, partitions: set[int]) -> float:
        """The longest time from then until now that one of the partitions was without a new record."""
        pauses = []
        for number in partitions:
            times = [at for at in self.times.get(number, ()) if at >= since]
            pauses += [later - earlier for earlier, later in pairwise([since, *times])]
        return max(pauses, default=0.0)


@asynccontextmanager
async def watching(kafka: Kafka, topic: str) -> AsyncIterator[Watch]:
    """Follow a topic from its start."""
    watch = Watch(topic)
    tps = [kafka.partition(topic, number) for number in range(kafka.settings.partitions)]
    consumer = kafka.consumer(fetch_max_wait_ms=20)
    await consumer.start()

    async def follow() -> None:
        consumer.assign(tps)
        for tp in tps:
            consumer.seek(tp, 0)
        while True:
            try:
                batches = await consumer.getmany(timeout_ms=200)
            except KafkaError:
                await asyncio.sleep(LOOK)
                continue
            for tp, records in batches.items():
                watch.times.setdefault(tp.partition, []).extend(record.timestamp / 1_000 for record in records)

    task = asyncio.create_task(follow())
    try:
        yield watch
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await consumer.stop()
