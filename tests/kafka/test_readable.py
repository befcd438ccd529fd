"""A record that the client library cannot read stops nobody, and the records around it are read."""

from __future__ import annotations

import pytest

from streamer.config import KafkaSettings
from streamer.errors import BadRecord, Reason
from streamer.events import Message
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.log import LogReader
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
