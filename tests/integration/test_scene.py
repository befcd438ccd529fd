"""The demo's scene on Apache Kafka, each role a process of its own: undisturbed, and with a role killed -9 in its middle."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from streamer.config import KafkaSettings
from streamer.kafka.client import Kafka
from streamer.kafka.topics import create_topics
from streamer.sources.scene import load_scene
from streamer.story import Story, compare
from tests.conftest import fresh_settings
from tests.integration.pipeline import DEMO, Outcome, Pipeline, run_scene, until, windows_out

SCENE = DEMO / "scene.yaml"
MIDDLE = 31  # windows out when a role is killed: the glass is breaking

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(600), pytest.mark.usefixtures("weights_home")]


@pytest.fixture(scope="module")
def undisturbed(kafka_address: str, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What the scene leaves behind when nobody interferes."""

    async def play() -> Outcome:
        settings = fresh_settings(kafka_address, idempotent=True)
        await create_topics(Kafka(settings))
        return await run_scene(settings, SCENE, tmp_path_factory.mktemp("undisturbed"))

    return asyncio.run(play())


def killing(role: str) -> Callable[[Pipeline, Kafka], Awaitable[None]]:
    """Kill one role in the middle of the scene, and start it again."""

    async def disturb(pipeline: Pipeline, door: Kafka) -> None:
        async def middle() -> bool:
            return await windows_out(door) >= MIDDLE

        await until(middle, "the middle of the scene")
        pipeline.kill(role)
        pipeline.start(role)

    return disturb


def once_each(outcome: Outcome) -> dict[str, int]:
    """What the receiver must have: every (id, revision) that stands in `alerts`, once."""
    return {f"{alert.id}.{n}": 1 for alert in outcome.alerts.values() for n in range(alert.revision + 1)}


def test_what_must_fire_fires_and_nothing_else_and_the_receiver_hears_each_revision_once(undisturbed: Outcome) -> None:
    story = Story()
    for alert in undisturbed.alerts.values():
        story.add(alert)
    verdicts, wrong = compare(load_scene(SCENE).expect, story, undisturbed.start)
    assert [(v.expected.rule, v.alert is not None) for v in verdicts] == [(v.expected.rule, True) for v in verdicts]
    assert wrong == []
    assert undisturbed.received == once_each(undisturbed)


@pytest.mark.parametrize("role", ["align", "infer"])
async def test_a_role_killed_in_the_middle_changes_nothing_in_the_end(
    role: str, undisturbed: Outcome, fresh_kafka: Callable[[], Awaitable[KafkaSettings]], tmp_path: Path
) -> None:
    killed = await run_scene(await fresh_kafka(), SCENE, tmp_path, disturb=killing(role))
    assert killed.windows == undisturbed.windows
    assert killed.final == undisturbed.final
    assert killed.received == once_each(killed)
