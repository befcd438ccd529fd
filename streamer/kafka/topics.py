"""Creates the topics of `topology.py` on a broker, and refuses a broker whose topics disagree.

Counts, clean-up and timestamps must be what we want; retention and the largest message must be at least that, so an operator may
keep records longer. A broker that does not tell a setting (the embedded one tells only those given at creation) is not asked twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from streamer.errors import ConfigError, Transient
from streamer.events import MILLISECOND, SECOND
from streamer.kafka.client import Kafka
from streamer.topology import TOPICS, Topic

AT_LEAST = frozenset({"retention.ms", "max.message.bytes"})
SHORTEST_SEGMENT = 600_000  # ms; retention and compaction only touch closed segments
USABLE = 30.0  # seconds that a broker may take until a new topic is led


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One topic as a broker has it. `settings` holds what the broker tells; `replication` is the smallest of its partitions."""

    partitions: int
    replication: int
    led: bool
    settings: Mapping[str, str] = field(default_factory=dict)


def topic_settings(topic: Topic) -> dict[str, str]:
    """What a topic is created with. Text is compressed by the broker; media are stored as they came (JPEG and FLAC gain nothing)."""
    retention = topic.retention // MILLISECOND
    settings = {
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(topic.max_message_bytes),
        "compression.type": "zstd" if topic.text else "producer",
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "segment.ms": str(SHORTEST_SEGMENT if topic.compacted else max(SHORTEST_SEGMENT, retention // 6)),
    }
    return settings | ({"min.cleanable.dirty.ratio": "0.1"} if topic.compacted else {"retention.ms": str(retention)})


def disagreements(kafka: Kafka, topic: Topic, found: Found) -> Iterator[str]:
    """Each point in which a topic is not what we want, with both values."""
    where = f"topic {kafka.physical(topic.name)}"
    if found.partitions != kafka.settings.partitions:
        yield f"{where}: partitions {kafka.settings.partitions} wanted, {found.partitions} found"
    if found.replication < kafka.settings.replication:
        yield f"{where}: replication {kafka.settings.replication} wanted, {found.replication} found"
    for name, wanted in topic_settings(topic).items():
        value = found.settings.get(name, wanted)
        if name in AT_LEAST:
            if int(value) != -1 and int(value) < int(wanted):
                yield f"{where}: {name} at least {wanted} wanted, {value} found"
        elif name in ("message.timestamp.type", "cleanup.policy", "compression.type") and value != wanted:
            yield f"{where}: {name} {wanted} wanted, {value} found"


async def create_topics(kafka: Kafka) -> list[str]:
    """Create what is missing, wait until all are usable, and refuse what disagrees. Returns the logical names that were created.

    Raises ConfigError with one line for each disagreement, Transient when the broker is away.
    """
    async with _admin(kafka) as admin:
        found = await _find(admin, kafka)
        missing = [topic for topic in TOPICS if topic.name not in found]
        _refuse(kafka, found)
        if missing:
            await _create(admin, kafka, missing)
            _refuse(kafka, await _until_led(admin, kafka))
    await _until_served(kafka)
    return [topic.name for topic in missing]


async def check_topics(kafka: Kafka) -> None:
    """What every role asks at its start. Raises ConfigError where topics are missing or disagree, Transient when the broker is away."""
    async with _admin(kafka) as admin:
        found = await _find(admin, kafka)
    missing = [kafka.physical(topic.name) for topic in TOPICS if topic.name not in found]
    if missing:
        raise ConfigError(f"{kafka.settings.bootstrap} has no topic {', '.join(missing)}: run `streamer topics create`")
    _refuse(kafka, found)


def _refuse(kafka: Kafka, found: Mapping[str, Found]) -> None:
    wrong = [line for topic in TOPICS if topic.name in found for line in disagreements(kafka, topic, found[topic.name])]
    if wrong:
        raise ConfigError(f"the topics at {kafka.settings.bootstrap} disagree with the configuration:\n  " + "\n  ".join(wrong))


@asynccontextmanager
async def _admin(kafka: Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    """An open admin client; foreign errors inside become Transient."""
    admin = AIOKafkaAdminClient(**kafka.common)
    try:
        await admin.start()
        yield admin
    except (KafkaError, OSError) as exc:
        raise Transient(f"the broker at {kafka.settings.bootstrap} did not do it: {exc!r}") from exc
    finally:
        await admin.close()


async def _find(admin: AIOKafkaAdminClient, kafka: Kafka) -> dict[str, Found]:
    """Which of our topics a broker has, by logical name."""
    present = set(await admin.list_topics())
    names = [kafka.physical(topic.name) for topic in TOPICS if kafka.physical(topic.name) in present]
    if not names:
        return {}
    settings = await _settings(admin, names)
    return {
        kafka.logical(row["topic"]): Found(
            partitions=len(row["partitions"]),
            replication=min((len(p["replicas"]) for p in row["partitions"]), default=0),
            led=bool(row["partitions"]) and all(p["error_code"] == 0 and p["leader"] >= 0 for p in row["partitions"]),
            settings=settings.get(row["topic"], {}),
        )
        for row in await admin.describe_topics(names)
        if row["error_code"] == 0
    }


async def _settings(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    """Settings by physical name, as far as the broker tells them."""
    responses: list[Any] = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in names])
    return {
        name: {entry[0]: entry[1] for entry in entries if entry[1] is not None}
        for response in responses
        for _, _, _, name, entries in response.resources
    }


async def _create(admin: AIOKafkaAdminClient, kafka: Kafka, topics: list[Topic]) -> None:
    """Ask for all at once. Somebody else having created one meanwhile is no error: it is compared afterwards."""
    wanted = [
        NewTopic(
            kafka.physical(topic.name),
            num_partitions=kafka.settings.partitions,
            replication_factor=kafka.settings.replication,
            topic_configs=topic_settings(topic),
        )
        for topic in topics
    ]
    response: Any = await admin.create_topics(wanted)
    for name, code, *why in response.topic_errors:
        error = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise ConfigError(f"the broker refused topic {name}: {error.__name__} {' '.join(map(str, why))}".rstrip())


async def _until_led(admin: AIOKafkaAdminClient, kafka: Kafka) -> dict[str, Found]:
    """Wait until every partition of every topic has a leader."""
    deadline = asyncio.get_running_loop().time() + USABLE
    while True:
        found = await _find(admin, kafka)
        waiting = [topic.name for topic in TOPICS if topic.name not in found or not found[topic.name].led]
        if not waiting:
            return found
        if asyncio.get_running_loop().time() > deadline:
            raise Transient(f"topics {', '.join(waiting)} have no leader after {USABLE:.0f} s")
        await asyncio.sleep(0.05)


async def _until_served(kafka: Kafka) -> None:
    """Ask every partition for its end: a leader that was just named still answers NotLeaderForPartition, and the client asks again."""
    consumer = kafka.consumer(request_timeout_ms=int(USABLE * SECOND // MILLISECOND))
    try:
        await consumer.start()
        await consumer.end_offsets([kafka.partition(topic.name, n) for topic in TOPICS for n in range(kafka.settings.partitions)])
    except (KafkaError, OSError) as exc:
        raise Transient(f"the topics at {kafka.settings.bootstrap} do not answer: {exc!r}") from exc
    finally:
        await consumer.stop()
