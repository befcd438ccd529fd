"""The one door to a broker: consumers and producers with our settings, and the prefix before topic names.

Foreign errors stop here: what may pass by itself becomes Transient, what our settings caused becomes ConfigError.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, OutOfOrderSequenceNumber, RecordTooLargeError
from aiokafka.structs import ConsumerRecord, TopicPartition

from streamer.config import KafkaSettings
from streamer.errors import ConfigError, Transient
from streamer.events import MILLISECOND, Message, Micros, Record
from streamer.kafka.batches import LARGEST_BATCH, LARGEST_REQUEST, Written, write
from streamer.kafka.readable import make_readable
from streamer.stages.times import LATEST

__all__ = ["LARGEST_REQUEST", "Kafka", "Producer", "Written"]

FETCH_BYTES = 1 << 20
"""Asked of a partition at a time; a larger record comes all the same. More would not be faster: fresh memory for tens of megabytes costs
the system as much as all the rest of fetching."""
PATIENCE_MS = 24 * 3_600_000  # our own watchdogs say when work takes too long; leaving the group would only hand it on


class Kafka:
    """Connection settings made usable. `password` comes from the command line, never from the file."""

    def __init__(self, settings: KafkaSettings, *, password: str | None = None) -> None:
        if settings.bootstrap == "embedded":
            raise ConfigError("kafka.bootstrap=embedded has an address only inside `streamer run`; give host:port")
        self.settings = settings
        self._common: dict[str, Any] = {
            "bootstrap_servers": settings.bootstrap,
            "security_protocol": settings.security_protocol,
        }
        if settings.security_protocol.endswith("SSL"):
            self._common["ssl_context"] = ssl.create_default_context(cafile=settings.ca_file)
        if settings.username:
            self._common |= {
                "sasl_mechanism": settings.sasl_mechanism,
                "sasl_plain_username": settings.username,
                "sasl_plain_password": password,
            }

    @property
    def common(self) -> dict[str, Any]:
        """Keyword arguments for any aiokafka client: address and security."""
        return dict(self._common)

    def physical(self, topic: str) -> str:
        """The broker's name of a logical topic or group."""
        return self.settings.prefix + topic

    def logical(self, topic: str) -> str:
        """Our name of a broker's topic."""
        return topic.removeprefix(self.settings.prefix)

    def partition(self, topic: str, number: int) -> TopicPartition:
        """aiokafka's name for one partition of a logical topic."""
        return TopicPartition(self.physical(topic), number)

    def consumer(self, *topics: str, group: str | None = None, **more: Any) -> AIOKafkaConsumer:
        """A consumer that never resets an offset silently, never splits a session's topics over members, and reads every record."""
        make_readable()
        timeout = self.settings.session_timeout // MILLISECOND
        settings = {
            "group_id": self.physical(group) if group else None,
            "group_instance_id": self.settings.instance if group else None,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "partition_assignment_strategy": [RangePartitionAssignor],
            "session_timeout_ms": timeout,
            "heartbeat_interval_ms": max(100, timeout // 5),
            "max_partition_fetch_bytes": FETCH_BYTES,
            "max_poll_interval_ms": PATIENCE_MS,
        }
        return AIOKafkaConsumer(*(self.physical(topic) for topic in topics), **(self._common | settings | more))

    def record(self, raw: ConsumerRecord[bytes, bytes]) -> Record:
        """aiokafka's record as ours."""
        return Record(
            topic=self.logical(raw.topic),
            partition=raw.partition,
            offset=raw.offset,
            arrival=Micros(min(max(raw.timestamp, 0) * MILLISECOND, LATEST)),
            key=raw.key,
            value=raw.value,
            headers=tuple(raw.headers),
        )


class Producer:
    """Writes messages and waits for the broker's yes (acks=all). Use as `async with`."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._producer: AIOKafkaProducer | None = None
        self._renewing = asyncio.Lock()

    async def __aenter__(self) -> Producer:
        self._producer = await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._producer:
            await self._producer.stop()

    async def send(self, messages: Sequence[Message]) -> list[Written]:
        """Write all, in order per partition, and wait until all are acknowledged. Raises Transient."""
        if (producer := self._producer) is None:
            raise Transient("the producer is not open")
        try:
            return await write(producer, [(self._kafka.physical(message.topic), message) for message in messages])
        except (MessageSizeTooLargeError, RecordTooLargeError) as exc:
            largest = max(len(m.value or b"") for m in messages)
            raise ConfigError(f"the broker takes no record as large as ours ({largest} bytes): run `streamer topics check`; {exc}") from exc
        except KafkaError as exc:
            if isinstance(exc, OutOfOrderSequenceNumber):
                await self._renew(producer)
            raise Transient(f"write failed: {exc!r}") from exc

    async def _open(self) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            **self._kafka.common,
            acks="all",
            enable_idempotence=self._kafka.settings.idempotent,
            max_request_size=LARGEST_REQUEST,
            max_batch_size=LARGEST_BATCH,
            linger_ms=0,
        )
        try:
            await producer.start()
        except KafkaError as exc:
            await producer.stop()
            raise Transient(f"no broker at {self._kafka.settings.bootstrap}: {exc}") from exc
        return producer

    async def _renew(self, broken: AIOKafkaProducer) -> None:
        """aiokafka gives up what waits too long for a leader, but not its sequence number: after it the broker takes nothing more."""
        async with self._renewing:
            if self._producer is broken:
                self._producer = await self._open()
                await broken.stop()
