"""decide and deliver as processes of their own, killed -9 while alerts flow: at the receiver each (id, revision) counts once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from streamer.config import KafkaSettings
from tests.agents.test_decide import RULES, alerts, brief, expected, message, story, until, write
from tests.sinks.receiver import SECRET, Receiver


@asynccontextmanager
async def role(name: str, config: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """One role as a process; killed -9 at the end."""
    command = (sys.executable, "-m", "streamer", "role", name, "-c", str(config))
    with (config.parent / f"{name}.log").open("ab") as log:
        child = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, env={**os.environ, "HOOK": SECRET})
    try:
        yield child
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGKILL)
        await child.wait()


def configuration(kafka: KafkaSettings, receiver: Receiver, folder: Path) -> Path:
    (folder / "rules.yaml").write_text(yaml.safe_dump(RULES))
    sink = {"type": "webhook", "name": "hook", "url": receiver.url, "secret_env": "HOOK"}
    shared = {
        "kafka": {
            "bootstrap": kafka.bootstrap,
            "prefix": kafka.prefix,
            "partitions": kafka.partitions,
            "session_timeout": "6s",
            "idempotent": kafka.idempotent,
        },
        "rules": "rules.yaml",
        "deliver": {"sinks": [sink]},
        "health": {"port": 0},
    }
    path = folder / "streamer.yaml"
    path.write_text(yaml.safe_dump(shared))
    return path


@pytest.mark.slow
async def test_killed_at_any_time_no_alert_is_lost_and_each_counts_once(broker: KafkaSettings, tmp_path: Path) -> None:
    records = story()
    keys = {f"{name}.{revision}" for name, revision in expected(records)}
    third = len(keys) // 3
    kills = 2
    async with Receiver() as receiver:
        config = configuration(broker, receiver, tmp_path)

        async def feed() -> None:
            for start in range(0, len(records), 6):
                await write(broker, [message(r) for r in records[start : start + 6]])
                await asyncio.sleep(0.05)

        feeding = asyncio.create_task(feed())
        for kill in range(kills):
            async with role("decide", config), role("deliver", config):
                await until(lambda kill=kill: len(receiver.accepted) >= (kill + 1) * third, 90)  # type: ignore[misc]
        await feeding
        async with role("decide", config), role("deliver", config):
            await until(lambda: receiver.accepted.keys() >= keys, 90)
    assert receiver.accepted.keys() == keys
    assert sum(receiver.accepted.values()) <= len(keys) + kills  # a yes that was not yet noted when the process died comes again
    assert brief(await alerts(broker)) == expected(records)
    assert receiver.forged == 0
