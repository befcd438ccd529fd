"""infer's second reader: records by their offset, for what the cache lacks."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Iterator

from aiokafka.errors import KafkaError, OffsetOutOfRangeError
from aiokafka.structs import TopicPartition

from streamer.errors import Transient
from streamer.events import Origin, Record
from streamer.kafka.client import Kafka
from streamer.kafka.readable import Raw

POLL_MS = 100
PATIENCE = 30.0  # seconds without a record before the broker counts as away
FAR = 64  # records: a gap between two wanted offsets that is sought across, not read through
AT_ONCE = 1 << 20  # bytes asked of a partition at a time; a larger record comes all the same


class Fetcher:
    """A consumer without a group. Use as `async with`; one `fetch` at a time."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._consumer = kafka.consumer(fetch_max_wait_ms=10, max_partition_fetch_bytes=AT_ONCE)

    async def __aenter__(self) -> Fetcher:
        try:
            await self._consumer.start()
        except KafkaError as exc:
            await self._consumer.stop()
            raise Transient(f"no broker at {self._kafka.settings.bootstrap}: {exc}") from exc
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def fetch(self, origins: Iterable[Origin]) -> AsyncIterator[tuple[Origin, Record | None]]:
        """Each record as it comes; None for one that is not in the log: retention took it, or it never was. Raises Transient."""
        wanted = defaultdict[TopicPartition, deque[int]](deque)
        for origin in sorted(set(origins), key=_place):
            wanted[self._kafka.partition(origin.topic, origin.partition)].append(origin.offset)
        try:
            for tp, offset in await self._expired(wanted):
                yield self._origin(tp, offset), None
            async for tp, offset, record in self._read(wanted):
                yield self._origin(tp, offset), record
        except KafkaError as exc:
            raise Transient(f"cannot fetch by offset: {exc!r}") from exc

    async def _expired(self, wanted: dict[TopicPartition, deque[int]]) -> list[tuple[TopicPartition, int]]:
        """Take out what is not in the log any more."""
        first = await self._consumer.beginning_offsets(list(wanted))
        gone = [(tp, offset) for tp, offsets in wanted.items() for offset in offsets if offset < first[tp]]
        for tp, _ in gone:
            wanted[tp].popleft()
        return gone

    async def _read(self, wanted: dict[TopicPartition, deque[int]]) -> AsyncIterator[tuple[TopicPartition, int, Record | None]]:
        pending = {tp: offsets for tp, offsets in wanted.items() if offsets}
        self._consumer.assign(list(pending))
        for tp, offsets in pending.items():
            self._consumer.seek(tp, offsets[0])
        loop = asyncio.get_running_loop()
        moved = loop.time()
        while pending:
            for tp, offset, raw in await self._some(pending):
                moved = loop.time()
                yield tp, offset, self._kafka.record(raw) if raw else None
            pending = {tp: offsets for tp, offsets in pending.items() if offsets}
            if loop.time() - moved > PATIENCE:
                raise Transient(f"nothing comes of {len(pending)} partitions for {PATIENCE:.0f} s")

    async def _some(self, pending: dict[TopicPartition, deque[int]]) -> list[tuple[TopicPartition, int, Raw | None]]:
        """Take out what the next fetch settles."""
        try:
            batches = await self._consumer.getmany(*pending, timeout_ms=POLL_MS)
        except OffsetOutOfRangeError as exc:
            gone = [*await self._expired(pending), *_refused(pending, exc)]
            for tp, offsets in pending.items():
                if offsets:
                    self._consumer.seek(tp, offsets[0])
            return [(tp, offset, None) for tp, offset in gone]
        found = list[tuple[TopicPartition, int, Raw | None]]()
        for tp, batch in batches.items():
            found += [(tp, offset, raw) for offset, raw in _take(pending[tp], batch)]
            if pending[tp] and pending[tp][0] > batch[-1].offset + FAR:
                self._consumer.seek(tp, pending[tp][0])
        for tp, offsets in pending.items():
            found += [(tp, offset, None) for offset in await self._nowhere(tp, offsets)]
        return found

    async def _nowhere(self, tp: TopicPartition, offsets: deque[int]) -> list[int]:
        """Take out what was read past (it is no record, but the end of a transaction), and what lies behind the log's end.

        The end is the one that the last fetch told: whoever names an event has seen it in the log before we were asked.
        """
        at, end = await self._consumer.position(tp), self._consumer.highwater(tp)
        found = []
        while offsets and offsets[0] < at:
            found.append(offsets.popleft())
        while end is not None and offsets and offsets[-1] >= end:
            found.append(offsets.pop())
        return found

    def _origin(self, tp: TopicPartition, offset: int) -> Origin:
        return Origin(topic=self._kafka.logical(tp.topic), partition=tp.partition, offset=offset)


def _place(origin: Origin) -> tuple[str, int, int]:
    return origin.topic, origin.partition, origin.offset


def _refused(pending: dict[TopicPartition, deque[int]], exc: OffsetOutOfRangeError) -> Iterator[tuple[TopicPartition, int]]:
    """Take out what is refused though the log's start lies before it: it lies behind the end, and so does all after it."""
    for tp, offset in exc.args[0].items():
        if (offsets := pending.get(tp)) and offsets[0] == offset:
            yield from ((tp, beyond) for beyond in offsets)
            offsets.clear()


def _take(offsets: deque[int], batch: Iterable[Raw]) -> Iterator[tuple[int, Raw | None]]:
    """What is wanted of a batch; None where the log passes over a wanted offset."""
    for raw in batch:
        while offsets and offsets[0] <= raw.offset:
            offset = offsets.popleft()
            yield offset, raw if offset == raw.offset else None
