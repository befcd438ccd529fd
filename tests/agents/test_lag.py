"""Lag and the age of checkpoints, which alerts rest on, of roles that hang and of roles that are well; on both brokers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from streamer.agents import infer
from streamer.agents.infer_read import Intake
from streamer.config import Config, KafkaSettings
from streamer.events import SECOND, Micros, SessionId
from streamer.health import Health
from streamer.kafka.client import Kafka, Producer
from streamer.metrics import Metrics
from streamer.runtime import Runtime
from tests.agents.infer_room import TINY, CountingEngine, Scene, running
from tests.agents.test_align import a_frame, now
from tests.agents.test_align_guarantee import Failing, aligning
from tests.agents.test_ingest import metric

ROWS = 600


def lag(role: Runtime, topic: str, stage: str = "align") -> float:
    return metric(role, "streamer_lag_records", stage=stage, topic=topic)


def age(role: Runtime, stage: str = "align") -> float:
    return metric(role, "streamer_checkpoint_age_seconds", stage=stage)


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not met():
            await asyncio.sleep(0.05)


async def test_align_that_cannot_write_shows_its_lag_and_an_old_checkpoint_until_it_can(broker: KafkaSettings) -> None:
    failing = Failing(Kafka(broker), failures=1_000_000)
    start = Micros(now() // SECOND * SECOND - 60 * SECOND)
    backlog = [a_frame(SessionId("gate"), Micros(start + n * SECOND // 20)) for n in range(ROWS)]
    async with Producer(Kafka(broker)) as producer:
        await producer.send(backlog)
    async with aligning(broker, failing) as (role, _):
        await until(lambda: lag(role, "frames") >= ROWS // 2 and age(role) > 2)
        failing.failures = 0
        await until(lambda: lag(role, "frames") == 0 and 0 < age(role) < 2)
        assert lag(role, "audio") == lag(role, "transcripts") == 0
        assert metric(role, "streamer_records_read_total", stage="align", topic="frames") == ROWS


async def test_infer_whose_engine_hangs_shows_the_windows_that_wait_and_that_it_commits(broker: KafkaSettings) -> None:
    engine = CountingEngine()
    async with Producer(Kafka(broker)) as producer, running(broker, engine=engine) as infer:
        scene = Scene(producer)
        engine.gate.clear()
        await scene.seconds(0, 4)
        for start in range(3):
            await scene.window(start)
        await until(lambda: lag(infer.runtime, "windows", "infer") == 3)
        engine.gate.set()
        await until(lambda: lag(infer.runtime, "windows", "infer") == lag(infer.runtime, "frames", "infer") == 0)
        await until(lambda: 0 < age(infer.runtime, "infer") < 2)


async def test_infer_whose_partitions_are_restored_shows_how_long_that_takes(tansu: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    free, positions = asyncio.Event(), Intake._positions

    async def slow(self: Intake, number: int) -> dict[str, int]:
        await free.wait()
        return await positions(self, number)

    monkeypatch.setattr(Intake, "_positions", slow)
    runtime = Runtime(config=Config(kafka=tansu, infer=TINY), metrics=Metrics("infer"), health=Health(), stop=asyncio.Event())
    task = asyncio.create_task(infer.serve(runtime, CountingEngine))
    try:
        await until(lambda: age(runtime, "infer") > 1.5)
        free.set()
        await until(lambda: runtime.health.why is None and 0 < age(runtime, "infer") < 1)
    finally:
        free.set()
        runtime.stop.set()
        await task
