"""Reading a stretch of log: also one of which nothing is left."""

from __future__ import annotations

from streamer.config import KafkaSettings
from streamer.events import Message
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.log import LogReader
from tests.kafka.apache import delete_before


async def fill(kafka: Kafka, count: int) -> None:
    async with Producer(kafka) as producer:
        await producer.send([Message(topic="frames", key=b"k", value=str(n).encode(), partition=1) for n in range(count)])


async def test_a_partition_that_retention_has_emptied_ends_where_it_starts(apache_kafka: KafkaSettings) -> None:
    kafka = Kafka(apache_kafka)
    await fill(kafka, 9)
    await delete_before(kafka, kafka.partition("frames", 1), 9)
    async with LogReader(kafka) as reader:
        assert await reader.end(kafka.partition("frames", 1)) == 9
        assert [record async for record in reader.read("frames", 0, partition=1)] == []


async def test_reading_goes_from_an_offset_to_the_present_end(broker: KafkaSettings) -> None:
    kafka = Kafka(broker)
    await fill(kafka, 9)
    async with LogReader(kafka) as reader:
        assert [record.value async for record in reader.read("frames", 4, partition=1)] == [b"4", b"5", b"6", b"7", b"8"]
        await fill(kafka, 1)
        assert len([record async for record in reader.read("frames", 0, partition=1)]) == 10
        assert await reader.end(kafka.partition("frames", 2)) == 0
