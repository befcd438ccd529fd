"""What a source reads: fetches of its partitions, merged in arrival order, and how far each partition has been read.

Laws:
1. What is handed over of a partition goes on exactly where `begin` or `done` left it.
2. A partition counts as read to its end only when a fetch of just now said so and nothing of it is still to be handed over.
3. A partition of which something is held is paused, so that what waits here is at most one fetch of each.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from aiokafka.structs import TopicPartition

from streamer.events import FRESH, MILLISECOND, Clock, Micros
from streamer.kafka.client import Kafka
from streamer.kafka.merge import Merge, slices
from streamer.kafka.readable import Raw
from streamer.kafka.stateful import Batch, Position

POLL_MS = 100
FRESH_MS = FRESH // MILLISECOND

log = structlog.get_logger()

Part = tuple[list[Raw], frozenset[TopicPartition]]
"""Records to hand over together, and the partitions of which more is at hand."""


class Intake:
    """Reads with `consumer`, whose group says which partitions; everything here is of these alone."""

    def __init__(self, kafka: Kafka, consumer: AIOKafkaConsumer) -> None:
        self._kafka, self._consumer = kafka, consumer
        self._next: dict[TopicPartition, int] = {}
        self._clock: dict[TopicPartition, Micros] = {}
        self._merge = Merge({})
        self._paused: set[TopicPartition] = set()  # something of them is held
        self._rest: frozenset[TopicPartition] = frozenset()  # more of them follows the part at hand
        self._in_hand: set[TopicPartition] = set()  # of the part that was handed over and is not done
        self._looked = time.monotonic()

    def begin(self, positions: Mapping[TopicPartition, Position]) -> None:
        """Read on from exactly here. Does not await."""
        self.clear()
        for tp, position in positions.items():
            self._next[tp], self._clock[tp] = position.offset or 0, position.clock
            self._consumer.seek(tp, self._next[tp])
        self._merge = Merge({tp: position.clock // MILLISECOND for tp, position in positions.items()})
        self._consumer.resume(*positions)

    def clear(self) -> None:
        """Forget everything."""
        self._next.clear()
        self._clock.clear()
        self._merge = Merge({})
        self._paused, self._rest, self._in_hand = set(), frozenset(), set()

    async def fetch(self, *, at_once: int, ours: Callable[[], bool]) -> Iterator[Part] | None:
        """One `getmany`, and what may be handed over now. None when it is not `ours`: it may wait for a rebalance. Raises KafkaError."""
        fetched = await self._consumer.getmany(timeout_ms=POLL_MS)
        if not ours():
            return None
        self._merge.put({tp: self._new(tp, records) for tp, records in fetched.items()})
        ended = {tp for tp in self._merge.undecided() if tp not in self._paused and await self._at_end(tp)}
        if not ours():
            return None
        now = time.monotonic()
        taken, self._looked = self._merge.take(ended, now - self._looked), now
        full = self._merge.full()
        self._consumer.pause(*full - self._paused)
        self._consumer.resume(*self._paused - full)
        self._paused = full
        return slices(taken, at_once)

    async def batch(self, part: Part) -> Batch:
        """A part as it is handed over."""
        raw, self._rest = part
        records = tuple(map(self._kafka.record, raw))
        tops = dict[tuple[str, int], Micros]()
        for plain, record in zip(raw, records, strict=True):
            where = plain.topic, plain.partition
            tops[where] = max(tops.get(where, record.arrival), record.arrival)
        for tp, top in ((TopicPartition(*where), top) for where, top in tops.items()):
            self._clock[tp] = max(self._clock[tp], top)
            self._in_hand.add(tp)
        clocks = {}
        for tp, arrival in self._clock.items():
            caught_up = tp not in self._rest and tp not in self._paused and await self._at_end(tp)
            clocks[self._kafka.logical(tp.topic), tp.partition] = Clock(arrival=arrival, caught_up=caught_up)
        return Batch(records=records, clocks=clocks, now=Micros(time.time_ns() // 1_000))

    def done(self, raw: Sequence[Raw]) -> None:
        """These were handed over and are dealt with."""
        last = {(record.topic, record.partition): record.offset for record in raw}
        self._next |= {TopicPartition(*where): offset + 1 for where, offset in last.items()}
        self._in_hand.clear()

    def positions(self, topics: Sequence[str], number: int) -> dict[str, int]:
        """Topic -> the offset of its next record to hand over."""
        return {topic: self._next[self._kafka.partition(topic, number)] for topic in topics}

    async def lag(self, topic: str) -> int:
        """Records of a topic that are not dealt with, as the last fetches saw it."""
        wanted = self._kafka.physical(topic)
        return sum([await self._behind(tp) for tp in list(self._next) if tp.topic == wanted])

    async def commit(self) -> None:
        """The group's positions, for tools that show lag; a failure changes nothing."""
        try:
            async with asyncio.timeout(1):
                await self._consumer.commit(dict(self._next))
        except (KafkaError, TimeoutError) as exc:
            log.debug("the lag gauge was not moved", error=repr(exc))

    def _new(self, tp: TopicPartition, records: list[Raw]) -> list[Raw]:
        first = self._next.get(tp, 0)
        return records if records[0].offset >= first else [record for record in records if record.offset >= first]

    async def _at_end(self, tp: TopicPartition) -> bool:
        """All that a fetch of just now could see of it was fetched."""
        try:
            fresh = time.time() * 1_000 - (self._consumer.last_poll_timestamp(tp) or 0) < FRESH_MS
            return fresh and await self._unfetched(tp) == 0
        except (KafkaError, AssertionError):
            return False

    async def _behind(self, tp: TopicPartition) -> int:
        """Records that are not dealt with. Offsets without a record at the end (a transaction's marks) do not count."""
        try:
            unfetched, end = await self._unfetched(tp), self._consumer.highwater(tp)
        except (KafkaError, AssertionError):
            return 0
        waiting = unfetched or tp in self._paused or tp in self._rest or tp in self._in_hand
        return max(0, end - self._next.get(tp, end)) if end is not None and waiting else 0

    async def _unfetched(self, tp: TopicPartition) -> int | None:
        """Records between position and end, as the last fetch saw it; None where nothing was fetched yet. Raises when it is not ours."""
        end = self._consumer.highwater(tp)
        return None if end is None else max(0, end - await self._consumer.position(tp))
