"""Topics as wanted, and refusals with both numbers."""

from __future__ import annotations

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.kafka import broker as launcher
from streamer.config import KafkaSettings
from streamer.errors import ConfigError, Transient
from streamer.kafka.client import LARGEST_REQUEST, Kafka
from streamer.kafka.embedded import free_port
from streamer.kafka.topics import check_topics, create_topics
from streamer.topology import TOPICS


async def make(kafka: Kafka, name: str, partitions: int, **settings: str) -> None:
    """Create one topic by hand, as somebody else might have."""
    admin = AIOKafkaAdminClient(**kafka.common)
    await admin.start()
    try:
        configs = {key.replace("_", "."): value for key, value in settings.items()}
        await admin.create_topics([NewTopic(kafka.physical(name), partitions, 1, topic_configs=configs)])
    finally:
        await admin.close()


async def test_creating_twice_changes_nothing(broker: KafkaSettings) -> None:
    kafka = Kafka(broker)
    assert await create_topics(kafka) == []
    await check_topics(kafka)


async def test_a_new_prefix_gets_every_topic_of_the_topology(broker: KafkaSettings) -> None:
    kafka = Kafka(broker.model_copy(update={"prefix": broker.prefix + "new."}))
    with pytest.raises(ConfigError, match=r"has no topic .*frames.* run `streamer topics create`"):
        await check_topics(kafka)
    assert await create_topics(kafka) == [topic.name for topic in TOPICS]
    await check_topics(kafka)


async def test_other_partitions_are_refused_with_both_numbers(broker: KafkaSettings) -> None:
    kafka = Kafka(broker.model_copy(update={"partitions": 12}))
    for ask in (check_topics, create_topics):
        with pytest.raises(ConfigError) as refused:
            await ask(kafka)
        assert f"topic {broker.prefix}frames: partitions 12 wanted, 4 found" in str(refused.value)
        assert str(refused.value).count("wanted") == len(TOPICS)


async def test_a_foreign_topic_among_missing_ones_is_refused_before_any_is_made(broker: KafkaSettings) -> None:
    kafka = Kafka(broker.model_copy(update={"prefix": broker.prefix + "half."}))
    await make(kafka, "frames", 3)
    with pytest.raises(ConfigError, match="frames: partitions 4 wanted, 3 found"):
        await create_topics(kafka)
    with pytest.raises(ConfigError, match=r"has no topic .*audio"):
        await check_topics(kafka)


@pytest.mark.kafka
async def test_other_settings_are_refused_with_both_values(apache_kafka: KafkaSettings) -> None:
    kafka = Kafka(apache_kafka.model_copy(update={"prefix": apache_kafka.prefix + "other."}))
    await make(kafka, "windows", 4, retention_ms="60000", max_message_bytes="1000")
    with pytest.raises(ConfigError) as refused:
        await create_topics(kafka)
    message = str(refused.value)
    assert "windows: retention.ms at least 604800000 wanted, 60000 found" in message
    assert "windows: max.message.bytes at least 4784128 wanted, 1000 found" in message
    assert "windows: message.timestamp.type LogAppendTime wanted, CreateTime found" in message
    assert "windows: compression.type zstd wanted, producer found" in message


@pytest.mark.kafka
async def test_records_may_be_kept_longer_than_asked(apache_kafka: KafkaSettings) -> None:
    kafka = Kafka(apache_kafka.model_copy(update={"prefix": apache_kafka.prefix + "long."}))
    kept = {"retention_ms": "-1", "max_message_bytes": "99999999", "message_timestamp_type": "LogAppendTime"}
    await make(kafka, "frames", 4, **kept)
    assert "frames" not in await create_topics(kafka)


async def test_a_missing_broker_is_transient() -> None:
    with pytest.raises(Transient):
        await check_topics(Kafka(KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}")))


def test_the_launched_kafka_takes_the_largest_message() -> None:
    assert launcher.MESSAGE_MAX_BYTES > LARGEST_REQUEST
