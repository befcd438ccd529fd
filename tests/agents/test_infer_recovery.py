"""infer's own recovery rules: workers that come, go and freeze, and windows that are gone before they are scored."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from contextlib import AsyncExitStack

from structlog.testing import capture_logs

from streamer.config import KafkaSettings
from streamer.events import Scores, SessionId, Window
from streamer.kafka.client import Kafka, Producer
from tests.agents.infer_room import CountingEngine, Running, Scene, committed, running, scores_of
from tests.integration.pipeline import until
from tests.kafka.apache import delete_before


async def scored_alike(kafka: Kafka, windows: list[Window]) -> int:
    """Wait until each window has its score; whichever has several has the same one each time. The number of scores."""
    wanted, found = {window.id for window in windows}, defaultdict[str, list[Scores]](list)

    async def all_there() -> bool:
        found.clear()
        for one in await scores_of(kafka):
            if isinstance(one, Scores):
                found[one.window].append(one)
        return found.keys() >= wanted

    await until(all_there, "a score for each window", seconds=60)
    assert found.keys() == wanted
    for first, *again in found.values():
        assert all(one == first for one in again)
    return sum(map(len, found.values()))


async def test_partitions_move_without_loss_when_workers_join_leave_and_die(apache_kafka: KafkaSettings) -> None:
    kafka, windows = Kafka(apache_kafka), list[Window]()

    async def more(scenes: list[Scene], first: int) -> None:
        for second in range(first, first + 4):
            for scene in scenes:
                await scene.seconds(second, second + 1)
                if second:
                    windows.append(await scene.window(second - 1))

    def holds(infer: Running) -> bool:
        return infer.runtime.health.why is None

    async with Producer(kafka) as producer, AsyncExitStack() as stack:
        scenes = [Scene(producer, session=SessionId(f"yard-{number}")) for number in range(6)]
        one = await stack.enter_async_context(running(apache_kafka, engine=CountingEngine(pause=0.02)))
        await more(scenes, 0)
        async with running(apache_kafka, engine=CountingEngine(pause=0.02)) as two:
            await one.until(lambda: holds(one) and holds(two), "both at work")
            await more(scenes, 4)
            await two.until(lambda: two.written > 0, "its first scores")
        await more(scenes, 8)  # it left in the middle
        async with running(apache_kafka, engine=CountingEngine(pause=0.02)) as three:
            await one.until(lambda: holds(one) and holds(three), "both at work again")
            await more(scenes, 12)
            await three.until(lambda: three.written > 0, "its first scores")
            one.task.cancel()
            await asyncio.wait([one.task])
            await more(scenes, 16)
            await scored_alike(kafka, windows)
        one.task = asyncio.create_task(asyncio.sleep(0))  # it is gone: nothing to be stopped
    assert len(windows) == 6 * 19


async def test_windows_that_retention_took_before_they_were_scored_are_counted_and_logged(apache_kafka: KafkaSettings) -> None:
    kafka = Kafka(apache_kafka)
    async with Producer(kafka) as producer:
        scene = Scene(producer)
        await scene.seconds(0, 8)
        await scene.window(0)
        async with running(apache_kafka) as infer:
            await infer.scored(1)
            assert infer.count("streamer_lost_records_total", stage="infer", topic="windows") == 0
        assert await committed(kafka) == 1
        for start in range(1, 6):
            await scene.window(start)
        home = scene.refs[next(iter(scene.refs))].origin.partition
        await delete_before(kafka, kafka.partition("windows", home), 4)
        with capture_logs() as logs:
            async with running(apache_kafka) as infer:
                await infer.until(lambda: infer.written == 2, "the two that are left")
                assert infer.count("streamer_lost_records_total", stage="infer", topic="windows") == 3
    assert [line["windows"] for line in logs if "gone before they were scored" in line["event"]] == [3]


async def test_a_worker_that_stood_still_drops_what_it_holds_and_joins_again_first(apache_kafka: KafkaSettings) -> None:
    """Frozen for longer than the session timeout while a window waits: heartbeats stand still too, as under SIGSTOP."""
    kafka, engine = Kafka(apache_kafka), CountingEngine()
    async with Producer(kafka) as producer, running(apache_kafka, engine=engine) as infer:
        scene = Scene(producer)
        engine.gate.clear()
        await scene.seconds(0, 3)
        windows = [await scene.window(0), await scene.window(1)]
        await infer.until(lambda: infer.read("windows") == 2, "both windows read")
        with capture_logs() as logs:
            engine.gate.set()
            time.sleep(7)
            await scored_alike(kafka, windows)
        events = [line["event"] for line in logs]
        assert "stood still" in events[0]
        assert any("partitions restored" in event for event in events)
        assert infer.read("windows") == 4  # read anew
        assert infer.written == 2
