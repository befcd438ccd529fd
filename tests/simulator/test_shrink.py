"""The shrinker, on aligners that are broken on purpose: what is left is short, and can be read."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from streamer.agents.align import Aligning
from streamer.config import Config
from streamer.kafka import checkpoints
from tests.simulator.broker import Door
from tests.simulator.schedule import Schedule, generate
from tests.simulator.shrink import shrink, story, verdict
from tests.simulator.steps import Append
from tests.simulator.world import METRICS, AlignerOf


class SavesTooFar(Aligning):
    """Its checkpoint says that all it has read is done."""

    async def checkpoint(self, partition: int, positions: dict[str, int]) -> bytes:  # type: ignore[override]
        saved = checkpoints.decode(await super().checkpoint(partition, positions))
        inputs = {topic: checkpoints.Place(offset=positions[topic], clock=place.clock) for topic, place in saved.inputs.items()}
        return checkpoints.encode(checkpoints.Checkpoint(inputs=inputs, outputs=saved.outputs))


class KeepsToItself(Aligning):
    """It does not look at what others wrote where it writes."""

    async def _acknowledge(self, lane: object, output: object, at: object) -> None:
        lane.aligner.written(output, at.offset)  # type: ignore[attr-defined]
        lane.end = max(lane.end, at.offset + 1)  # type: ignore[attr-defined]


def broken(kind: type[Aligning]) -> AlignerOf:
    def build(config: Config, door: Door) -> Aligning:
        return kind(config=config, producer=door, metrics=METRICS["align"])  # type: ignore[arg-type]

    return build


def first_failing(build: AlignerOf) -> Schedule:
    return next(schedule for seed in range(500) if verdict(schedule := generate(seed), build)[0])


@pytest.mark.parametrize(("kind", "most"), [(SavesTooFar, 6), (KeepsToItself, 12)])
def test_what_is_left_of_a_failing_schedule_is_a_short_story(kind: type[Aligning], most: int) -> None:
    build = broken(kind)
    with capture_logs():
        least = shrink(first_failing(build), build)
        told = story(least, build)
        assert verdict(least, build)[0] and not verdict(least)[0], told
    assert len(least.steps) <= most, told
    writers = [f"of `{step.message.key.decode()}` writes" for step in least.steps if isinstance(step, Append) and step.kind == "event"]
    assert all(one in told for one in writers)
    assert "lacks" in next(line for line in told.splitlines() if line.startswith("  =>")), told
    assert told.splitlines()[-1].startswith("  =>"), told
