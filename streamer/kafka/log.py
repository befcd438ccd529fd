"""Reading a stretch of a partition's log, apart from any consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable

from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from streamer.errors import Transient
from streamer.events import Record
from streamer.kafka.client import Kafka
from streamer.kafka.readable import Raw

POLL_MS = 20
PATIENCE = 30.0  # seconds without a record before the broker counts as away


class LogReader:
    """Use as `async with`. One read at a time: a second one takes the consumer from the first."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._consumer = kafka.consumer(fetch_max_wait_ms=5)

    async def __aenter__(self) -> LogReader:
        try:
            await self._consumer.start()
        except KafkaError as exc:
            await self._consumer.stop()
            raise Transient(f"no broker at {self._kafka.settings.bootstrap}: {exc}") from exc
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def starts(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Each partition's first offset. Raises Transient."""
        wanted = list(partitions)
        try:
            return dict(await self._consumer.beginning_offsets(wanted)) if wanted else {}
        except KafkaError as exc:
            raise Transient(f"cannot read where logs start: {exc!r}") from exc

    async def ends(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset after each partition's last record, in one request. The embedded broker names the start of its last batch.

        Raises Transient.
        """
        wanted = list(partitions)
        try:
            async with asyncio.timeout(PATIENCE):
                return dict(await self._consumer.end_offsets(wanted)) if wanted else {}
        except (KafkaError, TimeoutError) as exc:
            raise Transient(f"cannot read where logs end: {exc!r}") from exc

    async def end(self, tp: TopicPartition) -> int:
        """The offset after a partition's last record. Raises Transient.

        Told by a fetch: asked directly, the embedded broker names the start of its last batch.
        """
        listed = (await self.ends([tp]))[tp]
        if listed <= (await self.starts([tp]))[tp]:
            return listed  # empty, or all of it expired: there is nothing that a fetch could tell
        self._consumer.assign([tp])
        self._consumer.seek(tp, listed - 1)
        return await self._until(tp, lambda: self._consumer.highwater(tp))

    async def read(self, topic: str, offset: int, *, partition: int) -> AsyncIterator[Record]:
        """Records from `offset`, or from the log's start where that is later, to its present end. Raises Transient."""
        tp = self._kafka.partition(topic, partition)
        end = await self.end(tp)
        at = max((await self.starts([tp]))[tp], offset)
        if at >= end:
            return
        self._consumer.seek(tp, at)
        loop = asyncio.get_running_loop()
        moved = loop.time()
        while at < end:
            batch, position = await self._some(tp)
            for raw in batch:
                if raw.offset < end:
                    yield self._kafka.record(raw)
            if position > at:
                at, moved = position, loop.time()
            elif loop.time() - moved > PATIENCE:
                raise Transient(f"{topic}/{partition} gives nothing at {at} of {end} for {PATIENCE:.0f} s")
        self._consumer.pause(tp)  # else it would go on asking for what comes next

    async def _some(self, tp: TopicPartition) -> tuple[list[Raw], int]:
        """What the next fetch brings, and the position after it."""
        try:
            batch = (await self._consumer.getmany(tp, timeout_ms=POLL_MS)).get(tp, [])
            return batch, await self._consumer.position(tp)
        except KafkaError as exc:
            raise Transient(f"cannot read {tp}: {exc!r}") from exc

    async def _until(self, tp: TopicPartition, told: Callable[[], int | None]) -> int:
        """Fetch until something is told."""
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while (found := told()) is None:
            await self._some(tp)
            if asyncio.get_running_loop().time() > deadline:
                raise Transient(f"{tp} does not answer for {PATIENCE:.0f} s")
        return found
