"""Messages in batches: those for one partition go to the broker, and are acknowledged, together.

A call and a future for each message would cost five times as much. Order within a partition is the order they were given in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError
from aiokafka.producer.message_accumulator import BatchBuilder

from streamer.events import MILLISECOND, Message, Micros
from streamer.ids import partition_of
from streamer.topology import TOPICS

LARGEST_REQUEST = max(topic.max_message_bytes for topic in TOPICS)
LARGEST_BATCH = min(topic.max_message_bytes for topic in TOPICS)
"""Bytes of a batch, which every topic takes; a larger message goes alone."""


class Written(NamedTuple):
    """Where an acknowledged message stands, and the arrival time the broker gave it (0 where it does not say)."""

    partition: int
    offset: int
    arrival: Micros


class _Batch(NamedTuple):
    """What goes to one partition together: each message's place among all that are sent, and the time it was stamped with."""

    topic: str
    partition: int
    builder: BatchBuilder
    places: list[int]
    stamps: list[int]

    def add(self, message: Message, place: int) -> bool:
        """Whether there was room."""
        found = self.builder.append(timestamp=None, key=message.key, value=message.value, headers=list(message.headers))
        if found is None:
            return False
        self.places.append(place)
        self.stamps.append(found.timestamp)
        return True


async def write(producer: AIOKafkaProducer, messages: Sequence[tuple[str, Message]]) -> list[Written]:
    """Write all, each with its topic's name at the broker, and wait until all are acknowledged. Raises KafkaError."""
    batches, found = await _batches(producer, messages), dict[int, Written]()
    pending = [await producer.send_batch(batch.builder, batch.topic, partition=batch.partition) for batch in batches]
    for batch, done in zip(batches, await asyncio.gather(*pending), strict=True):
        for at, (place, stamp) in enumerate(zip(batch.places, batch.stamps, strict=True)):
            arrival = stamp if done.timestamp == -1 else done.timestamp or 0
            found[place] = Written(batch.partition, done.offset + at, Micros(max(arrival, 0) * MILLISECOND))
    return [found[place] for place in range(len(messages))]


async def _batches(producer: AIOKafkaProducer, messages: Sequence[tuple[str, Message]]) -> list[_Batch]:
    """The first batch of every partition, then every second one, and so on: a partition takes its next one when the last is on its way."""
    counts = {topic: len(await producer.partitions_for(topic)) for topic in {topic for topic, _ in messages}}
    rows = dict[tuple[str, int], list[_Batch]]()
    for place, (topic, message) in enumerate(messages):
        partition = partition_of(message.key, counts[topic]) if message.partition is None else message.partition
        row = rows.setdefault((topic, partition), [])
        if not row or not row[-1].add(message, place):
            row.append(_Batch(topic, partition, producer.create_batch(), [], []))
            row[-1].add(message, place)
            if (size := row[-1].builder.size()) > LARGEST_REQUEST:
                raise MessageSizeTooLargeError(f"{size} bytes exceed {LARGEST_REQUEST}")
    most = max(map(len, rows.values()), default=0)
    return [row[turn] for turn in range(most) for row in rows.values() if turn < len(row)]
