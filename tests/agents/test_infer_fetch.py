"""infer's second reader: what it gives of what it is asked for, and what it says is not there."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import OffsetOutOfRangeError
from aiokafka.structs import ConsumerRecord, TopicPartition

from streamer.agents.infer_fetch import Fetcher
from streamer.config import KafkaSettings
from streamer.events import Message, Origin
from streamer.kafka.client import Kafka, Producer
from tests.builders import SESSION, an_origin


def frames(*offsets: int) -> list[Origin]:
    return [an_origin("frames", offset) for offset in offsets]


async def fetched(fetcher: Fetcher, origins: list[Origin]) -> dict[tuple[str, int], bool]:
    """By (topic, offset): whether a record came. Every origin comes once."""
    found = [((origin.topic, origin.offset), record is not None) async for origin, record in fetcher.fetch(origins)]
    assert len(dict(found)) == len(found) == len(origins)
    return dict(found)


async def test_what_lies_behind_the_end_is_not_waited_for_and_the_rest_comes(broker: KafkaSettings) -> None:
    kafka = Kafka(broker)
    async with Producer(kafka) as producer, Fetcher(kafka) as fetcher:
        await producer.send([Message(topic=topic, key=SESSION.encode(), value=b"x") for topic in ("frames", "audio") for _ in range(5)])
        assert await fetched(fetcher, frames(50, 60)) == {("frames", 50): False, ("frames", 60): False}
        assert await fetched(fetcher, [*frames(4, 5, 99), an_origin("audio", 1)]) == {
            ("frames", 4): True,
            ("frames", 5): False,
            ("frames", 99): False,
            ("audio", 1): True,
        }
        assert await fetched(fetcher, [an_origin("transcripts", 0)]) == {("transcripts", 0): False}


class Shrinking(AIOKafkaConsumer):  # type: ignore[misc]
    """A client of a broker whose retention takes the first five of 20 frames after it was asked where they start."""

    def __init__(self) -> None:
        self.first, self.end = 0, 20
        self.at = dict[TopicPartition, int]()

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        told, self.first = self.first, 5
        return dict.fromkeys(partitions, told)

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.at = {}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.at[partition] = offset

    async def position(self, partition: TopicPartition) -> int:
        return self.at[partition]

    def highwater(self, partition: TopicPartition) -> int | None:
        return self.end

    async def getmany(self, *partitions: TopicPartition, **_: Any) -> dict[TopicPartition, list[ConsumerRecord]]:
        await asyncio.sleep(0)
        for tp, at in self.at.items():
            if not self.first <= at <= self.end:
                raise OffsetOutOfRangeError({tp: at})
        found = {tp: [self._record(tp, offset) for offset in range(at, min(at + 5, self.end))] for tp, at in self.at.items()}
        self.at = {tp: min(at + 5, self.end) for tp, at in self.at.items()}
        return {tp: records for tp, records in found.items() if records}

    def _record(self, tp: TopicPartition, offset: int) -> ConsumerRecord:
        return ConsumerRecord(tp.topic, tp.partition, offset, 0, 0, b"yard", b"x", 0, 1, 1, ())

    def __del__(self, **_: Any) -> None:
        """Nothing to close."""


class ShrinkingKafka(Kafka):
    def consumer(self, *topics: str, group: str | None = None, **more: Any) -> AIOKafkaConsumer:
        return cast(AIOKafkaConsumer, Shrinking())


async def test_what_expires_while_it_is_fetched_is_none_and_the_rest_comes() -> None:
    fetcher = Fetcher(ShrinkingKafka(KafkaSettings(bootstrap="127.0.0.1:1", partitions=4)))
    async with asyncio.timeout(5):
        assert await fetched(fetcher, frames(3, 7, 12)) == {("frames", 3): False, ("frames", 7): True, ("frames", 12): True}
