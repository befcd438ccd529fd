"""Where faults play: roles as processes on a broker, and their output topics seen from outside."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from streamer.config import KafkaSettings
from streamer.events import Record
from streamer.ids import partition_of
from streamer.kafka.client import Kafka
from tests.faults.processes import Child, role
from tests.faults.watch import Watch
from tests.integration.pipeline import everything

SESSION_TIMEOUT = 6.0  # seconds
PARTITIONS = 4
NOTHING: Mapping[int, int] = {}
T = TypeVar("T")


def fresh(address: str, session_timeout: float = SESSION_TIMEOUT) -> KafkaSettings:
    """Settings of a prefix that nobody else uses; a dead member is noticed after so many seconds."""
    return KafkaSettings(bootstrap=address, prefix=f"f{time.time_ns()}.", partitions=PARTITIONS, session_timeout=f"{session_timeout}s")


@dataclass(frozen=True, kw_only=True)
class Recovery:
    """Seconds from a fault to the first new record in `topic`, and until all partitions have one. `lasted`: how long it was left so.

    For a worker that joins or leaves, both are the longest time without a new record in a partition.
    """

    fault: str
    topic: str
    first: float
    all: float
    lasted: float = 0.0


def summary(recoveries: Iterable[Recovery]) -> list[dict[str, float | int | str]]:
    """One row for each kind of fault and stage: medians and worst."""
    kinds: dict[tuple[str, str], list[Recovery]] = {}
    for one in recoveries:
        kinds.setdefault((one.fault, one.topic), []).append(one)
    return [
        {
            "fault": fault,
            "new record in": topic,
            "times": len(found),
            "lasted s": statistics.median(one.lasted for one in found),
            "first s, median": statistics.median(one.first for one in found),
            "first s, worst": max(one.first for one in found),
            "all partitions s, median": statistics.median(one.all for one in found),
            "all partitions s, worst": max(one.all for one in found),
        }
        for (fault, topic), found in kinds.items()
    ]


@dataclass
class Place:
    """Sessions on a broker and the workers for them. Faults are done to `workers`; `recover` waits for what follows."""

    kafka: Kafka
    folder: Path
    sessions: Sequence[str]
    watches: Mapping[str, Watch]
    env: Mapping[str, str] = field(default_factory=dict)
    workers: dict[str, Child] = field(default_factory=dict)
    recoveries: list[Recovery] = field(default_factory=list)

    @property
    def partitions(self) -> set[int]:
        """Those that have sessions."""
        return {partition_of(name.encode(), PARTITIONS) for name in self.sessions}

    def join(self, name: str, called: str = "") -> Child:
        """Start a worker of a role."""
        worker = self.workers[called or name] = role(name, self.folder / "streamer.yaml", called=called, env=self.env)
        return worker

    async def recover(self, fault: str, topic: str, since: float, *, lasted: float = 0.0, after: float = 0.0) -> Recovery:
        """Wait until every partition has a new record since then. Nobody may have ended by himself."""
        first, last = await self._recovered(topic, since, after)
        self.recoveries.append(Recovery(fault=fault, topic=topic, first=first, all=last, lasted=lasted))
        return self.recoveries[-1]

    async def paused(self, fault: str, topic: str, since: float) -> Recovery:
        """The same for what does not stop the stage at once: the longest time since then without a new record in a partition."""
        await self._recovered(topic, time.time())
        pause = self.watches[topic].longest_pause(since, self.partitions)
        self.recoveries.append(Recovery(fault=fault, topic=topic, first=pause, all=pause))
        return self.recoveries[-1]

    async def _recovered(self, topic: str, since: float, after: float = 0.0) -> tuple[float, float]:
        waiting = asyncio.create_task(self.watches[topic].recovered(since, self.partitions, after))
        try:
            while not waiting.done():
                self.look()
                await asyncio.wait([waiting], timeout=0.5)
        finally:
            waiting.cancel()
        return waiting.result()

    def look(self) -> None:
        """Fail if a process has ended that we did not end."""
        for child in self.workers.values():
            assert child.code is None, f"{child.name} ended with {child.code}:\n{child.tail()}"

    def leave(self, called: str) -> None:
        """Ask a worker to end, and see that it ends well."""
        worker = self.workers.pop(called)
        assert worker.code is None, f"{called} ended before, with {worker.code}:\n{worker.tail()}"
        code = worker.end()
        assert code == 0, f"{called} ended with {code}:\n{worker.tail()}"

    def close(self) -> None:
        """Nothing is left running."""
        for child in self.workers.values():
            child.kill()

    async def read(self, topic: str, read: Callable[[Record], T], after: Mapping[int, int] = NOTHING) -> list[T]:
        """All that stands in a topic; `after`: only what stands behind so many records of each partition."""
        async with everything(self.kafka, topic) as records:
            return [read(record) for record in records if record.offset >= after.get(record.partition, 0)]
