"""A record that the client library cannot read stops nobody, and the records around it are read."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from streamer.config import KafkaSettings
from streamer.errors import BadRecord, Reason
from streamer.events import Message
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.log import LogReader
from streamer.kafka.readable import Batches
from streamer.stages.headers import session_of
from tests.kafka.hostile import write_odd
from tests.kafka.recorder import copied, write
from tests.kafka.test_source import until, until_copied, working


def plain(number: int, partition: int = 1) -> Message:
    return Message(topic="frames", key=b"yard", value=str(number).encode(), partition=partition)


async def test_a_header_name_that_is_not_utf8_leaves_what_follows_in_its_batch_unreadable_and_nothing_else(broker: KafkaSettings) -> None:
    kafka = Kafka(broker)
    odd = await write_odd(kafka, plain(3), others=[plain(number) for number in (1, 2, 4, 5)])
    async with Producer(kafka) as producer:
        await producer.send([plain(6)])
    async with LogReader(kafka) as reader:
        found = [record async for record in reader.read("frames", 0, partition=1)]
    assert [record.value for record in found] == [b"1", b"2", None, None, None, b"6"]
    assert [record.offset for record in found] == list(range(6))
    assert found[odd].value is None
    assert found[odd].arrival == found[0].arrival
    with pytest.raises(BadRecord, match="name is not UTF-8") as caught:
        session_of(found[2])
    assert caught.value.reason is Reason.BAD_HEADER


async def test_a_source_hands_over_what_lies_before_beside_and_after_an_unreadable_record(broker: KafkaSettings) -> None:
    wanted = await write(broker, 40)
    odd = await write_odd(Kafka(broker), plain(0))
    wanted |= {f"frames/1/{odd}".encode()} | await write(broker, 40, start=40)
    async with working(broker) as bench:
        await until_copied(broker, wanted)
        assert [r.offset for batch in bench.recorder.batches for r in batch.records if r.headers] == [odd]

        async def seen_again() -> bool:
            return len(await copied(broker)) == len(wanted)

        await until(seen_again)


def batch_of(values: Sequence[bytes]) -> bytes:
    batch = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 22)
    for at, value in enumerate(values):
        batch.append(at, timestamp=None, key=b"yard", value=value, headers=[])
    return bytes(batch.build())


def test_checksums_are_those_of_the_client_library() -> None:
    """For each of several batches, whole and with any one byte changed."""
    whole = [batch_of([os.urandom(size), b"", b"x" * size]) for size in (0, 1, 7, 64, 1_000)]
    for place in range(-1, sum(map(len, whole))):
        data = bytearray(b"".join(whole))
        if place >= 0:
            data[place] ^= 1 << place % 8
        ours, theirs = Batches(bytes(data)), MemoryRecords(bytes(data))
        verdicts = []
        while theirs.has_next():
            try:
                wanted = theirs.next_batch()
            except CorruptRecordException:  # the length itself
                with pytest.raises(CorruptRecordException):
                    ours.next_batch()
                break
            verdicts.append(wanted.validate_crc())
            assert ours.next_batch().validate_crc() == verdicts[-1]
        assert place >= 0 or verdicts == [True] * len(whole)
        assert ours.has_next() == theirs.has_next()


async def test_a_batch_that_changed_on_its_way_is_refused(broker: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka = Kafka(broker)
    async with Producer(kafka) as producer:
        await producer.send([plain(1)])
    consumer = kafka.consumer()
    monkeypatch.setattr(fetcher, "MemoryRecords", lambda data: Batches(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:]))
    await consumer.start()
    try:
        consumer.assign([kafka.partition("frames", 1)])
        await consumer.seek_to_beginning()
        with pytest.raises(CorruptRecordException, match="CRC"):
            await consumer.getone()
    finally:
        await consumer.stop()
