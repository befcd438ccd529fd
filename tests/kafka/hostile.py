"""Records that no client of ours would write: header names that are not UTF-8."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c

from streamer.events import Message
from streamer.kafka.client import Kafka

PLAIN, ODD = b"plain-name", b"\xff\xfe\xfdno-utf8"
CRC_AT, CRC_FROM = 17, 21  # where a record batch (format 2) keeps its checksum, and what that covers


class OddBatch(BatchBuilder):
    """A batch in which the header name `PLAIN` becomes `ODD`, with a checksum that fits."""

    def _build(self) -> bytearray:
        raw = bytearray(super()._build()).replace(PLAIN, ODD)
        struct.pack_into(">I", raw, CRC_AT, calc_crc32c(bytes(raw[CRC_FROM:])))
        self._buffer = raw
        return raw


async def write_odd(kafka: Kafka, message: Message, *, others: Sequence[Message] = ()) -> int:
    """Write `message` with one more header, whose name is not UTF-8, between `others` in one batch. Returns its offset."""
    assert message.partition is not None
    batch, middle = OddBatch(1 << 20, 0), len(others) // 2
    for one in (*others[:middle], message, *others[middle:]):
        headers = [*one.headers, *([(PLAIN.decode(), b"1")] if one is message else [])]
        batch.append(timestamp=None, key=one.key, value=one.value, headers=headers)
    batch.close()
    producer = AIOKafkaProducer(**kafka.common, acks="all")
    await producer.start()
    try:
        done = await (await producer.send_batch(batch, kafka.physical(message.topic), partition=message.partition))
        return int(done.offset) + middle
    finally:
        await producer.stop()
