"""`make bench NAME=latency`: what the pipeline adds between the record that lets a window go and its score.

The real roles as processes on a real Apache Kafka with the bundled weights; each session plays the demo's scene (pictures,
sound, speech) at real pace, all from the same instant, so that all windows close at once. Added latency is the score's
append time minus the window's trigger, both the broker's clock. `--minutes 5` plays one session that long for its memory.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from streamer.config import Config, DeliverSettings, HealthSettings, KafkaSettings
from streamer.demo import free_block
from streamer.events import Event, Modality, Pace, Scores, SessionMark, Silence
from streamer.kafka.client import Kafka
from streamer.kafka.topics import create_topics
from streamer.sources.scene import copies
from streamer.stages.envelope import read_head
from streamer.stages.wire import read_scores
from streamer.topology import ROLES
from tests.bench.report import report, table
from tests.integration.pipeline import DEMO, Pipeline, everything, until
from tests.kafka.apache import apache_kafka

PARTITIONS = 4
LEAD = 3  # seconds between the start of ingest and the scene's first moment


@dataclass(frozen=True)
class Added:
    """One score: milliseconds added, and whether it was the window's first revision."""

    ms: float
    first: bool


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


async def measure(address: str, sessions: int, minutes: int) -> dict[str, Any]:
    """Play once; one row of the table."""
    kafka = KafkaSettings(bootstrap=address, prefix=f"latency-{sessions}-{time.time_ns()}.", partitions=PARTITIONS)
    door = Kafka(kafka)
    await create_topics(door)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = scene_of(minutes, folder)
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
            start = datetime.fromtimestamp(int(time.time()) + LEAD, UTC).isoformat()
            pipeline.config = config.model_copy(update={"sessions": copies(scene, sessions, pace=Pace.LIVE, start=start)})
            pipeline.start("ingest")
            busy = await asyncio.to_thread(processor, pipeline, 30.0)
            memory: dict[str, int] = {}

            async def over() -> bool:
                memory.update(resident(pipeline))
                return await ended(door) == sessions

            await until(over, "the end of every session in scores", seconds=60 * minutes + 240)
            encoded = await encoder_calls(config.health.port + ROLES.index("infer"))
        finally:
            pipeline.stop()
    frames = await distinct_frames(door)
    added = await latencies(door)
    return row(sessions, added, encoded, frames) | {"busy": busy, "memory": memory, "frames": frames, "encoded": encoded}


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


async def encoder_calls(port: int) -> float:
    """Frames through infer's encoder, as its metrics count them."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    name = f'streamer_encoded_events_total{{modality="{Modality.FRAMES.value}"}}'
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def resident(pipeline: Pipeline) -> dict[str, int]:
    """MiB of each role that still runs."""
    return {role: psutil.Process(child.pid).memory_info().rss >> 20 for role, child in pipeline.children.items() if child.poll() is None}


def processor(pipeline: Pipeline, seconds: float) -> dict[str, float]:
    """Share of one core that each role takes, over so many seconds of the scene."""
    watched = {role: psutil.Process(child.pid) for role, child in pipeline.children.items()}
    before = {role: sum(process.cpu_times()[:2]) for role, process in watched.items()}
    began = time.monotonic()
    psutil.wait_procs(list(watched.values()), timeout=seconds)
    spent = time.monotonic() - began
    return {
        role: round((sum(process.cpu_times()[:2]) - before[role]) / spent, 2) for role, process in watched.items() if process.is_running()
    }


async def main(loads: Sequence[int], minutes: int) -> None:
    """Measure each load, print the table, report the first load's median."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name, apache_kafka(Path(name)) as address:
        for sessions in loads:
            print(f"{sessions} sessions for {minutes} min ...", flush=True)
            rows.append(await measure(address, sessions, minutes))
    shown = [{key: value for key, value in one.items() if key not in ("busy", "memory", "frames", "encoded")} for one in rows]
    print(table(shown))
    for one in rows:
        print(f"{one['sessions']} sessions: share of a core {one['busy']}; resident MiB {one['memory']}")
    name = "latency" if minutes == 1 else f"latency-{minutes}min"
    report(name, rows[0]["p50 ms"], "ms", None, None, loads=rows, minutes=minutes)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sessions", type=int, nargs="+", help="loads to measure (default 1 4 8; with --minutes, 1)")
    options.add_argument("--minutes", type=int, default=1, help="how often the one-minute scene is repeated")
    given = options.parse_args()
    asyncio.run(main(given.sessions or ([1, 4, 8] if given.minutes == 1 else [1]), given.minutes))
