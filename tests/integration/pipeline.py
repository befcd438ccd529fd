"""The real roles as real processes on a given broker, and what came out of them, seen from outside."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import yaml

from streamer.config import Config, KafkaSettings, SessionSettings, SourceSettings, WebhookSinkSettings
from streamer.demo import free_block, starting
from streamer.events import SECOND, Alert, AlertState, Micros, SessionMark, Silence, Window
from streamer.kafka.client import Kafka
from streamer.kafka.embedded import die_with
from streamer.kafka.log import LogReader
from streamer.stages.wire import read_alert, read_scores, read_window
from streamer.topology import ROLES
from tests.sinks.receiver import SECRET, Receiver

DEMO = Path(__file__).parents[2] / "deploy" / "demo"
PATIENCE = 120.0
QUIET = 4.0  # seconds without anything new at the receiver, after the session's end


async def until(met: Callable[[], Awaitable[bool]], what: str, *, seconds: float = PATIENCE) -> None:
    """Ask again and again until it is so; fail with `what` after the deadline."""
    deadline = time.monotonic() + seconds
    while not await met():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(0.1)


@dataclass
class Pipeline:
    """Roles as children. `start` may be called again for a role that was killed."""

    config: Config
    folder: Path
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, *roles: str) -> None:
        """Start each role; its output goes to ROLE.log in the folder."""
        path = self.folder / "streamer.yaml"
        path.write_text(yaml.safe_dump(self.config.model_dump(mode="json")))
        for role in roles:
            with (self.folder / f"{role}.log").open("ab") as log:
                self.children[role] = subprocess.Popen(
                    [sys.executable, "-m", "streamer", "role", role, "--config", str(path)],
                    stdout=log,
                    stderr=log,
                    env=os.environ | {"STREAMER_TEST_SECRET": SECRET},
                    preexec_fn=die_with(os.getpid()),
                )

    def kill(self, role: str) -> None:
        """kill -9, and nothing else."""
        self.children[role].kill()
        self.children[role].wait()

    async def ready(self, *roles: str) -> None:
        """Wait until each role answers /readyz with 200."""
        async with httpx.AsyncClient() as client:
            for role in roles:
                await until(lambda role=role: self._is_ready(client, role), f"{role} ready, see {self.folder / role}.log")

    async def _is_ready(self, client: httpx.AsyncClient, role: str) -> bool:
        assert self.children[role].poll() is None, (self.folder / f"{role}.log").read_text()[-3000:]
        try:
            port = self.config.health.port + ROLES.index(role)
            return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self) -> dict[str, int]:
        """SIGTERM for all; the exit codes of those that still ran."""
        running = {role: child for role, child in self.children.items() if child.poll() is None}
        for child in running.values():
            child.send_signal(signal.SIGTERM)
        return {role: child.wait(timeout=60) for role, child in running.items()}


def scene_config(kafka: KafkaSettings, scene: Path, receiver: Receiver, *, pace: str = "live") -> Config:
    """The demo's session on this broker, with the receiver as its only sink."""
    source = SourceSettings(name="street", url=f"scene:{scene}", pace=pace)
    rules = DEMO / "rules.yaml"
    return Config(
        kafka=kafka,
        infer={"shed": False},  # what a slow machine leaves out differs from run to run
        sessions=(SessionSettings(id="demo", sources=(source,)),),
        rules=rules if rules.exists() else None,
        deliver={"sinks": [WebhookSinkSettings(name="desk", url=receiver.url, secret_env="STREAMER_TEST_SECRET")]},
        health={"port": free_block(len(ROLES))},
    )


@dataclass(frozen=True)
class Outcome:
    """What one run left in the topics and at the receiver. Times are microseconds since the scene's start."""

    alerts: dict[str, Alert]
    received: dict[str, int]
    windows: dict[int, frozenset[tuple[str, str, int, int]]]
    start: Micros

    @property
    def final(self) -> list[tuple[str, int, int]]:
        """Final, unretracted alerts as (rule, start, end)."""
        kept = [a for a in self.alerts.values() if a.state is not AlertState.RETRACTED]
        return sorted((a.rule, a.start - self.start, a.end - self.start) for a in kept)


async def run_scene(
    kafka: KafkaSettings,
    scene: Path,
    folder: Path,
    *,
    pace: str = "live",
    disturb: Callable[[Pipeline, Kafka], Awaitable[None]] | None = None,
) -> Outcome:
    """Play the scene once through six processes and wait until its session is over. `disturb` runs while it plays."""
    async with Receiver() as receiver:
        pipeline = Pipeline(scene_config(kafka, scene, receiver, pace=pace), folder)
        others = [role for role in ROLES if role != "ingest"]
        door = Kafka(kafka)
        try:
            pipeline.start(*others)
            await pipeline.ready(*others)
            start = Micros((time.time_ns() // 1_000_000_000 + 2) * SECOND)
            pipeline.config = starting(pipeline.config, start)
            pipeline.start("ingest")
            if disturb:
                await disturb(pipeline, door)
            await until(lambda: session_over(door), "the session's end in scores", seconds=240)
            await until_quiet(receiver)
        finally:
            codes = pipeline.stop()
        assert set(codes.values()) <= {0}, codes
        return await outcome(door, receiver, start)


async def until_quiet(receiver: Receiver) -> None:
    """Wait until the receiver has heard nothing new for a while."""
    heard, since = -1, time.monotonic()

    async def quiet() -> bool:
        nonlocal heard, since
        if len(receiver.requests) != heard:
            heard, since = len(receiver.requests), time.monotonic()
        return time.monotonic() - since > QUIET

    await until(quiet, "quiet at the receiver")


@asynccontextmanager
async def everything(door: Kafka, topic: str) -> AsyncIterator[list]:
    """All records of a topic, as they are now."""
    async with LogReader(door) as reader:
        found = []
        for partition in range(door.settings.partitions):
            found += [record async for record in reader.read(topic, 0, partition=partition)]
        yield found


async def session_over(door: Kafka) -> bool:
    """The end mark stands in `scores`."""
    async with everything(door, "scores") as records:
        told = [read_scores(record) for record in records]
    return any(isinstance(one, SessionMark) and one.why is Silence.END for one in told)


async def windows_out(door: Kafka) -> int:
    """How many window revisions stand in `windows`."""
    async with everything(door, "windows") as records:
        return len(records)


async def outcome(door: Kafka, receiver: Receiver, start: Micros) -> Outcome:
    """Latest revision of each alert, final manifest of each window, and what the receiver took."""
    alerts: dict[str, Alert] = {}
    async with everything(door, "alerts") as records:
        for record in records:
            alert = read_alert(record)
            if alert.id not in alerts or alert.revision > alerts[alert.id].revision:
                alerts[alert.id] = alert
    latest: dict[int, Window] = {}
    async with everything(door, "windows") as records:
        for record in records:
            window = read_window(record)
            if isinstance(window, Window) and (window.start not in latest or window.revision > latest[window.start].revision):
                latest[window.start] = window
    manifests = {
        s - start: frozenset((r.modality.value, r.source, r.start - start, r.end - start) for r in w.manifest) for s, w in latest.items()
    }
    return Outcome(alerts=alerts, received=dict(receiver.accepted), windows=manifests, start=start)


def shorter(scene: Path, folder: Path, seconds: float, skip: Sequence[str] = ()) -> Path:
    """The first `seconds` of a scene, as a scene of its own beside links to its media."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = yaml.safe_load(scene.read_text())
    raw["duration"] = seconds
    for part in ("clips", "sounds"):
        raw[part] = [one for one in raw.get(part, []) if one["at"] < seconds and one["file"] not in skip]
    raw["expect"] = [one for one in raw.get("expect", []) if one["onset"] < seconds]
    for file in scene.parent.iterdir():
        if file.suffix in {".jpg", ".mp4", ".flac"}:
            (folder / file.name).symlink_to(file)
    path = folder / "scene.yaml"
    path.write_text(json.dumps(raw))
    return path
