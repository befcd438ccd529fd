"""The door to the broker: what is written comes back, on both brokers."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from aiokafka import AIOKafkaConsumer

from streamer.config import KafkaSettings
from streamer.errors import ConfigError, Transient
from streamer.events import Message, Record
from streamer.ids import partition_of
from streamer.kafka.batches import LARGEST_BATCH
from streamer.kafka.client import LARGEST_REQUEST, Kafka, Producer
from streamer.kafka.embedded import free_port
from streamer.topology import TOPIC


async def read(kafka: Kafka, topic: str, count: int) -> list[Record]:
    """The first `count` records of a topic, over all its partitions."""
    consumer: AIOKafkaConsumer = kafka.consumer()
    await consumer.start()
    try:
        partitions = [kafka.partition(topic, n) for n in range(kafka.settings.partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        found: list[Record] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(20):
                while len(found) < count:
                    batches = await consumer.getmany(timeout_ms=500)
                    found += [kafka.record(raw) for batch in batches.values() for raw in batch]
        return found
    finally:
        await consumer.stop()


async def test_a_record_round_trips_with_its_headers_and_lands_where_its_key_belongs(broker: KafkaSettings) -> None:
    kafka = Kafka(broker)
    headers = (("ce_id", b"t1"), ("empty", b""), ("null", None), ("twice", b"1"), ("twice", "zwölf".encode()))
    messages = [Message(topic="windows", key=f"s{n}".encode(), value=b"{}" * n, headers=headers) for n in range(12)]
    async with Producer(kafka) as producer:
        written = await producer.send(messages)
    found = await read(kafka, "windows", len(messages))
    assert sorted((r.key, r.value, r.headers) for r in found) == sorted((m.key, m.value, headers) for m in messages)
    assert all(record.topic == "windows" and record.partition == partition_of(record.key or b"", 4) for record in found)
    assert [w.partition for w in written] == [partition_of(m.key, 4) for m in messages]


async def test_a_null_value_round_trips(broker: KafkaSettings) -> None:
    kafka = Kafka(broker)
    async with Producer(kafka) as producer:
        await producer.send([Message(topic="checkpoints", key=b"a", value=None)])
    assert [record.value for record in await read(kafka, "checkpoints", 1)] == [None]


async def test_the_largest_permitted_payload_of_each_topic_is_accepted(broker: KafkaSettings) -> None:
    kafka = Kafka(broker)
    async with Producer(kafka) as producer:
        for name in ("frames", "transcripts", "deadletter"):
            await producer.send([Message(topic=name, key=b"s", value=bytes(TOPIC[name].limit))])
            assert [len(record.value or b"") for record in await read(kafka, name, 1)] == [TOPIC[name].limit]


async def test_every_message_stands_where_its_acknowledgement_says_in_the_order_given(broker: KafkaSettings) -> None:
    kafka = Kafka(broker)
    sizes = (10, LARGEST_BATCH // 3, 3 * LARGEST_BATCH, 1, LARGEST_BATCH - 200, 2_000)  # alone, together, and between
    one, other = (
        [Message(topic="frames", key=b"s%d" % (n % 5), value=b"%d" % n * sizes[n % 6]) for n in range(at, at + 30)] for at in (0, 30)
    )
    other += [Message(topic="audio", key=b"s", value=b"a", partition=n % 4) for n in range(9)]
    async with Producer(kafka) as producer:
        written = await asyncio.gather(producer.send(one), producer.send(other))
    found = await read(kafka, "frames", 60) + await read(kafka, "audio", 9)
    stands = {(record.topic, record.partition, record.offset): record.value for record in found}
    for messages, places in zip((one, other), written, strict=True):
        last = dict[tuple[str, int], int]()
        for message, place in zip(messages, places, strict=True):
            where = message.topic, place.partition
            assert stands[*where, place.offset] == message.value
            assert place.offset > last.get(where, -1)
            last[where] = place.offset
    assert len(stands) == 69


async def test_a_message_that_no_topic_takes_is_refused_and_nothing_of_its_company_is_written(broker: KafkaSettings) -> None:
    kafka = Kafka(broker)
    async with Producer(kafka) as producer:
        with pytest.raises(ConfigError, match=rf"takes no record as large as ours \({LARGEST_REQUEST} bytes\)"):
            await producer.send([Message(topic="alerts", key=b"s", value=value) for value in (b"{}", bytes(LARGEST_REQUEST))])
        [written] = await producer.send([Message(topic="alerts", key=b"s", value=b"{}")])
    assert written.offset == 0


async def test_arrival_is_the_time_the_broker_says_in_microseconds(broker: KafkaSettings) -> None:
    kafka = Kafka(broker)
    async with Producer(kafka) as producer:
        [written] = await producer.send([Message(topic="alerts", key=b"s", value=b"{}")])
    [record] = await read(kafka, "alerts", 1)
    assert record.arrival > 1_700_000_000_000_000
    assert written.arrival in (record.arrival, 0)


async def test_a_missing_broker_is_transient() -> None:
    producer = Producer(Kafka(KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}")))
    with pytest.raises(Transient, match="no broker at"):
        await producer.__aenter__()


def test_the_word_embedded_is_no_address() -> None:
    with pytest.raises(ConfigError, match="host:port"):
        Kafka(KafkaSettings())
