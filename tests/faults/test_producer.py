"""Our producer after aiokafka gave a batch up: what comes next is written."""

from __future__ import annotations

import asyncio

import pytest

from streamer.config import KafkaSettings
from streamer.errors import Transient
from streamer.events import Message
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.log import LogReader

pytestmark = pytest.mark.kafka


async def test_a_sequence_number_that_went_with_a_lost_batch_does_not_stop_all_later_writes(apache_kafka: KafkaSettings) -> None:
    """A batch that finds no leader for 40 s fails in aiokafka after it was numbered. Here its number is taken at once."""
    kafka = Kafka(apache_kafka)
    async with Producer(kafka) as producer:
        await producer.send([Message(topic="alerts", key=b"s", value=b"first", partition=0)])
        assert producer._producer is not None
        producer._producer._txn_manager.increment_sequence_number(kafka.partition("alerts", 0), 1)
        third = [Message(topic="alerts", key=b"s", value=b"third", partition=0)]
        found = await asyncio.gather(producer.send(third), producer.send(third), return_exceptions=True)
        assert [type(one) for one in found] == [Transient, Transient]
        await producer.send(third)
    async with LogReader(kafka) as reader:
        assert [record.value async for record in reader.read("alerts", 0, partition=0)] == [b"first", b"third"]
