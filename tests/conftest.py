"""Brokers for tests. `tansu` and `apache_kafka` give KafkaSettings of a fresh prefix with its topics created; `broker` runs a test on both.

Each process (each xdist worker too) has its own brokers, started at first use; the kernel ends them with the process.
A missing Kafka is a failure, not a skip.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from streamer.cli import home
from streamer.config import KafkaSettings
from streamer.engine import pull_weights
from streamer.kafka.client import Kafka
from streamer.kafka.embedded import EmbeddedBroker
from streamer.kafka.topics import create_topics
from streamer.roles import Seldom
from tests.kafka import apache

PARTITIONS = 4
settings.register_profile("laws", deadline=None)  # on a machine that does other work a slow example is no failure; a slow suite is
settings.load_profile("laws")


@pytest.fixture(autouse=True)
def _log_of_its_own() -> Iterator[None]:
    """A command run in this process sends the log to its test's stderr; the next test's log is not written to that closed file."""
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    for handler in [each for each in logging.root.handlers if any(isinstance(one, Seldom) for one in each.filters)]:
        logging.root.removeHandler(handler)


@pytest.fixture(scope="session")
def tansu_address() -> Iterator[str]:
    """One embedded broker per test process."""
    broker = EmbeddedBroker(memory_mb=4_096)
    asyncio.run(broker.__aenter__())
    yield broker.bootstrap
    asyncio.run(broker.__aexit__())


@pytest.fixture(scope="session")
def kafka_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Apache Kafka per test process."""
    with apache.apache_kafka(tmp_path_factory.mktemp("kafka")) as address:
        yield address


def fresh_settings(address: str, *, idempotent: bool) -> KafkaSettings:
    """Settings of a prefix that no other test uses. A dead member is noticed after 6 s."""
    return KafkaSettings(
        bootstrap=address,
        prefix=f"t{uuid.uuid4().hex[:10]}.",
        partitions=PARTITIONS,
        session_timeout="6s",
        idempotent=idempotent,
    )


@pytest.fixture
async def tansu(tansu_address: str) -> KafkaSettings:
    """A fresh prefix on the embedded broker; its topics exist."""
    settings = fresh_settings(tansu_address, idempotent=False)
    await create_topics(Kafka(settings))
    return settings


@pytest.fixture
async def apache_kafka(kafka_address: str) -> KafkaSettings:
    """A fresh prefix on Apache Kafka; its topics exist."""
    settings = fresh_settings(kafka_address, idempotent=True)
    await create_topics(Kafka(settings))
    return settings


@pytest.fixture
def fresh_kafka(kafka_address: str) -> Callable[[], Awaitable[KafkaSettings]]:
    """Gives a fresh prefix on Apache Kafka each time it is called; its topics exist."""

    async def fresh() -> KafkaSettings:
        settings = fresh_settings(kafka_address, idempotent=True)
        await create_topics(Kafka(settings))
        return settings

    return fresh


@pytest.fixture(params=["tansu", pytest.param("apache_kafka", marks=pytest.mark.kafka)])
def either_broker(request: pytest.FixtureRequest) -> KafkaSettings:
    """The address of both brokers in turn, with a fresh prefix."""
    if request.param == "tansu":
        return fresh_settings(request.getfixturevalue("tansu_address"), idempotent=False)
    return fresh_settings(request.getfixturevalue("kafka_address"), idempotent=True)


@pytest.fixture
async def broker(either_broker: KafkaSettings) -> KafkaSettings:
    """The same test on both brokers; its topics exist."""
    await create_topics(Kafka(either_broker))
    return either_broker


@pytest.fixture(scope="session")
def weights_home() -> Path:
    """The folder with the real weights, fetched if they are not there. That they cannot be had is a failure, not a skip."""
    pull_weights(home())
    return home()
