"""`make bench NAME=latency`: what the pipeline adds between the record that lets a window go and its score.

The real roles as processes on a real Apache Kafka with the bundled weights; each session plays the demo's scene (pictures,
sound, speech) at real pace, all from the same instant, so that all windows close at once. Added latency is the score's
append time minus the window's trigger, both the broker's clock. `--minutes 5` plays one session that long for its memory.
Scores are not looked at before the scene is over: reading them takes the processor that is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from streamer.config import Config, DeliverSettings, HealthSettings, KafkaSettings, SessionSettings
from streamer.demo import free_block
from streamer.events import Event, Modality, Pace, Scores, SessionMark, Silence
from streamer.kafka.client import Kafka
from streamer.kafka.topics import create_topics
from streamer.sources.scene import copies, load_scene
from streamer.stages.envelope import read_head
from streamer.stages.wire import read_scores
from streamer.topology import ROLES
from tests.bench.report import report, table
from tests.integration.pipeline import DEMO, Pipeline, everything, until
from tests.kafka.apache import apache_kafka

PARTITIONS = 4
ENCODED = f'streamer_encoded_events_total{{modality="{Modality.FRAMES.value}"}}'
DETAILS = ("busy", "memory", "frames", "encoded", "infer", "lag")  # not in the table
LEAD = 3  # seconds between the start of ingest and the scene's first moment


@dataclass(frozen=True)
class Added:
    """One score: milliseconds added, and whether it was the window's first revision."""

    ms: float
    first: bool


Compose = Callable[[int, Path], Path]
"""Minutes and a folder -> a scene's file in it."""
Turn = Callable[[Path, float], Path]
"""A scene's file and seconds -> one in which all happens that much later."""


@dataclass(frozen=True, kw_only=True)
class Play:
    """What is played: session n begins n / sessions of `spread` seconds after the first. The processor is watched for `watch` seconds,
    from `skip` seconds after ingest is started. `turn`: each session's happenings lie elsewhere in its scene."""

    sessions: int
    minutes: int = 1
    compose: Compose
    turn: Turn | None = None
    spread: float = 0.0
    skip: float = 0.0
    watch: float = 30.0

    def begun(self, scene: Path, start: float) -> tuple[SessionSettings, ...]:
        """The sessions, the first from `start` (epoch seconds) on."""
        found = []
        for number in range(self.sessions):
            share = number / self.sessions
            mine = self.turn(scene, share * load_scene(scene).duration) if self.turn else scene
            begins = datetime.fromtimestamp(start + share * self.spread, UTC).isoformat()
            found.append(copies(mine, number + 1, pace=Pace.LIVE, start=begins)[number])
        return tuple(found)


def scene_of(minutes: int, folder: Path) -> Path:
    """The demo's scene, repeated `minutes` times without a break."""
    place = folder / "scene"
    shutil.copytree(DEMO, place, dirs_exist_ok=True)
    scene = yaml.safe_load((place / "scene.yaml").read_text("utf-8"))
    length = scene["duration"]
    for kind in ("clips", "sounds"):
        scene[kind] = [one | {"at": one["at"] + again * length} for again in range(minutes) for one in scene[kind]]
    scene["duration"] = length * minutes
    (place / "scene.yaml").write_text(yaml.safe_dump(scene))
    return place / "scene.yaml"


async def measure(address: str, play: Play) -> dict[str, Any]:
    """Play once; one row of the table."""
    sessions = play.sessions
    kafka = KafkaSettings(bootstrap=address, prefix=f"latency-{sessions}-{time.time_ns()}.", partitions=PARTITIONS)
    door = Kafka(kafka)
    await create_topics(door)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = play.compose(play.minutes, folder)
        rules = DEMO / "rules.yaml"
        config = Config(
            kafka=kafka,
            rules=rules if rules.exists() else None,
            deliver=DeliverSettings(sinks=()),
            health=HealthSettings(port=free_block(len(ROLES))),
        )
        pipeline = Pipeline(config, folder)
        others = [role for role in ROLES if role != "ingest"]
        try:
            pipeline.start(*others)
            await pipeline.ready(*others)
            start = int(time.time()) + LEAD
            pipeline.config = config.model_copy(update={"sessions": play.begun(scene, start)})
            pipeline.start("ingest")
            seen = await watched(pipeline, play, start + play.spread + load_scene(scene).duration)

            async def over() -> bool:
                for role, child in pipeline.children.items():
                    assert child.poll() in (None, 0), (folder / f"{role}.log").read_text()[-3000:]
                return await ended(door) == sessions

            await until(over, "the end of every session in scores", seconds=60 * play.minutes + 240)
            told = await numbers(config.health.port + ROLES.index("infer"))
        finally:
            pipeline.stop()
    frames = await distinct_frames(door)
    added = await latencies(door)
    return row(sessions, added, told[ENCODED], frames) | {"frames": frames, "encoded": told[ENCODED], "infer": told} | seen


async def watched(pipeline: Pipeline, play: Play, end: float) -> dict[str, Any]:
    """What the roles take while the scene plays: `end` is when it is over. The lag is that of its last second."""
    await asyncio.sleep(play.skip)
    busy = await asyncio.to_thread(processor, pipeline, play.watch)
    await asyncio.sleep(max(0.0, end - time.time() - 1))
    port, lag = pipeline.config.health.port, {}
    for role in ("transcribe", "align", "infer", "decide"):
        told = await numbers(port + ROLES.index(role))
        lag[role] = sum(value for name, value in told.items() if name.startswith("streamer_lag_records"))
    return {"busy": busy, "memory": resident(pipeline), "lag": lag}


def row(sessions: int, added: Sequence[Added], encoded: float, frames: int) -> dict[str, Any]:
    """What the table shows."""
    first, later = sorted(one.ms for one in added if one.first), sorted(one.ms for one in added if not one.first)
    return {
        "sessions": sessions,
        "windows": len(first),
        "p50 ms": statistics.median(first),
        "p99 ms": first[min(len(first) - 1, round(0.99 * len(first)))],
        "max ms": first[-1],
        "revisions": len(later),
        "rev p50 ms": statistics.median(later) if later else 0.0,
        "calls per frame": encoded / frames,
    }


async def latencies(door: Kafka) -> list[Added]:
    """From the records themselves: append time of the score minus its trigger."""
    async with everything(door, "scores") as records:
        pairs = [(record, read_scores(record)) for record in records]
    return [Added((record.arrival - one.trigger) / 1_000, one.revision == 0) for record, one in pairs if isinstance(one, Scores)]


async def ended(door: Kafka) -> int:
    """How many sessions' end marks stand in `scores`."""
    async with everything(door, "scores") as records:
        told = [read_scores(record) for record in records]
    return len({one.session for one in told if isinstance(one, SessionMark) and one.why is Silence.END})


async def distinct_frames(door: Kafka) -> int:
    """Frames in the log, each identity once."""
    async with everything(door, "frames") as records:
        heads = [read_head(record, PARTITIONS) for record in records]
    return len({(head.track, head.id) for head in heads if isinstance(head, Event)})


async def numbers(port: int) -> dict[str, float]:
    """A role's metrics by name and labels."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def resident(pipeline: Pipeline) -> dict[str, int]:
    """MiB of each role that still runs."""
    return {role: psutil.Process(child.pid).memory_info().rss >> 20 for role, child in pipeline.children.items() if child.poll() is None}


def processor(pipeline: Pipeline, seconds: float) -> dict[str, float]:
    """Share of one core that each role takes, over so many seconds of the scene; and the broker, and the whole machine."""
    roles = {role: psutil.Process(child.pid) for role, child in pipeline.children.items()}
    mine = {process.pid for process in roles.values()}
    brokers = [process for process in psutil.Process().children(recursive=True) if process.pid not in mine]
    before, began = _cores(roles, brokers), time.monotonic()
    psutil.wait_procs(list(roles.values()), timeout=seconds)
    spent, after = time.monotonic() - began, _cores(roles, brokers)
    return {name: round((after[name] - before[name]) / spent, 2) for name in after}


def _cores(roles: Mapping[str, psutil.Process], brokers: Sequence[psutil.Process]) -> dict[str, float]:
    """Seconds of processor time so far. Idle time is not the machine's."""
    alive = {role: sum(process.cpu_times()[:2]) for role, process in roles.items() if process.is_running()}
    machine = psutil.cpu_times()
    taken = sum(machine[:-2]) - machine.idle - getattr(machine, "iowait", 0.0)  # without guests, which stand in user already
    return alive | {"broker": sum(sum(process.cpu_times()[:2]) for process in brokers), "machine": taken}


async def main(loads: Sequence[int], minutes: int) -> None:
    """Measure each load, print the table, report the first load's median."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name, apache_kafka(Path(name)) as address:
        for sessions in loads:
            print(f"{sessions} sessions for {minutes} min ...", flush=True)
            rows.append(await measure(address, Play(sessions=sessions, minutes=minutes, compose=scene_of)))
    shown = [{key: value for key, value in one.items() if key not in DETAILS} for one in rows]
    print(table(shown))
    for one in rows:
        print(f"{one['sessions']} sessions: share of a core {one['busy']}; resident MiB {one['memory']}")
    name = "latency" if minutes == 1 else f"latency-{minutes}min"
    kept = [{key: value for key, value in one.items() if key != "infer"} for one in rows]
    report(name, rows[0]["p50 ms"], "ms", None, None, loads=kept, minutes=minutes)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sessions", type=int, nargs="+", help="loads to measure (default 1 4 8; with --minutes, 1)")
    options.add_argument("--minutes", type=int, default=1, help="how often the one-minute scene is repeated")
    given = options.parse_args()
    asyncio.run(main(given.sessions or ([1, 4, 8] if given.minutes == 1 else [1]), given.minutes))
