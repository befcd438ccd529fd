"""`getmany` of the partitions in `positions`."""

from __future__ import annotations

from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition

Raw = ConsumerRecord[bytes, bytes]


async def poll(consumer: AIOKafkaConsumer, positions: Mapping[TopicPartition, int], *, timeout_ms: int) -> dict[TopicPartition, list[Raw]]:
    """What `consumer.getmany` gives of the partitions in `positions` (partition -> next offset to be read). Raises KafkaError."""
    return dict(await consumer.getmany(*positions, timeout_ms=timeout_ms))
