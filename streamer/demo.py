"""`streamer demo`: plays a composed scene through the whole pipeline and holds the alerts against the scene's script.

Nothing here is special: the roles are those of `streamer run`, each a process of its own. This file starts them and
watches `alerts` and `scores` as any client may.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx
from rich.console import Console
from rich.text import Text

from streamer.config import Config, parse
from streamer.errors import ConfigError, Transient
from streamer.events import SECOND, Alert, Micros, Record, SessionMark, Silence
from streamer.kafka.client import Kafka
from streamer.kafka.log import LogReader
from streamer.kafka.topics import create_topics
from streamer.roles import FAILED, OK, Logging
from streamer.sinks.log import printable
from streamer.snapshot import snapshot
from streamer.sources.scene import load_scene
from streamer.stages.media import decode_image, encode_jpeg
from streamer.stages.wire import read_alert, read_scores
from streamer.story import Story, compare, problems, said, summary
from streamer.supervise import Supervisor, beside, broker
from streamer.topology import ROLES

SESSION = "demo"
PARTITIONS = 4
READY = 120.0  # seconds that the roles may take to load their weights
SETTLE = 4.0  # seconds without a new alert, after the session's end, until the summary
MAX_PIXELS = 34_000_000

console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


async def play(scene: Path, *, out: Path, fast: bool, home: Path, bootstrap: str, logging: Logging, overtime: float) -> int:
    """Run the demo. Returns the exit code: 0 only if the alerts are those of the script.

    It gives up `overtime` seconds beyond the scene's length, and then still shows what came.
    """
    began = time.monotonic()
    script = load_scene(scene)
    clear(out)
    pace = "as fast as it goes" if fast else "at real pace"
    console.print(Text.assemble(("streamer demo", "bold"), f": {printable(script.title)}, {script.duration:.0f} s, {pace}"))
    console.print("The scene is composed from real recordings: its parts were never recorded together.", style="dim")
    async with broker(demo_config(scene, fast=fast, home=home, bootstrap=bootstrap)) as config:
        story, start = await perform(config, out, logging=logging, limit=script.duration + overtime)
    verdicts, wrong = compare(script.expect, story, start)
    console.print(summary(verdicts, wrong, story, start, fast=fast))
    console.print(Text.assemble(f"{time.monotonic() - began:.0f} s in all; alerts and snapshots are in ", (str(out), "bold")))
    if found := problems(verdicts, wrong, story):
        console.print(Text.assemble(("not as the script says: ", "bold red"), "; ".join(found)))
        return FAILED
    console.print("Everything that must fire fired, and nothing else.", style="bold green")
    return OK


def demo_config(scene: Path, *, fast: bool, home: Path, bootstrap: str) -> Config:
    """One session with the scene as its only source, the rules beside the scene if it has some, and free ports."""
    source = {"name": "street", "url": f"scene:{scene.resolve()}", "pace": "recorded" if fast else "live"}
    rules = scene.resolve().parent / "rules.yaml"
    prefix = "" if bootstrap == "embedded" else f"demo-{time.time_ns()}."
    return parse(
        {
            "kafka": {"bootstrap": bootstrap, "partitions": PARTITIONS, "prefix": prefix},
            "sessions": [{"id": SESSION, "sources": [source]}],
            "rules": str(rules) if rules.exists() else None,
            "deliver": {"sinks": []},
            "health": {"port": free_block(len(ROLES))},
            "home": str(home),
        },
        origin="the demo's configuration",
    )


def free_block(count: int) -> int:
    """The first of `count` ports in a row on 127.0.0.1 that nobody listens on, ours until this process ends. Raises ConfigError.

    The roles bind theirs only seconds later, so a block is taken by name first: an abstract socket address, which exists
    once per machine and goes with its process.
    """
    for base in range(9_460, 12_000, count):
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0streamer-ports-{base}")
            with ExitStack() as held:
                for port in range(base, base + count):
                    held.enter_context(closing(socket.create_server(("127.0.0.1", port))))
        except OSError:
            name.close()
            continue
        name.detach()  # stays open: it is what makes the block ours
        return base
    raise ConfigError(f"no {count} free ports in a row between 9460 and 12000")


@asynccontextmanager
async def running(config: Config, roles: Sequence[str], *, logging: Logging) -> AsyncIterator[Supervisor]:
    """Roles as children for the length of the block. A role that refuses its configuration ends the block with ConfigError."""
    supervisor = Supervisor(config, roles=roles, logging=logging)
    async with beside(supervisor.run()):
        yield supervisor


async def until_ready(config: Config, roles: Sequence[str]) -> None:
    """Wait until every role answers /readyz with 200. Raises Transient after `READY` seconds, with the last reason."""
    deadline = time.monotonic() + READY
    async with httpx.AsyncClient() as client:
        for role in roles:
            why = "no answer"
            while True:
                with suppress(httpx.HTTPError):
                    answer = await client.get(f"http://{config.health.host}:{config.health.port + ROLES.index(role)}/readyz")
                    if answer.status_code == httpx.codes.OK:
                        break
                    why = answer.text.strip()
                if time.monotonic() > deadline:
                    raise Transient(f"{role} was not ready after {READY:.0f} s: {why}")
                await asyncio.sleep(0.1)


async def perform(
    config: Config, out: Path, *, logging: Logging, limit: float, without: frozenset[str] = frozenset()
) -> tuple[Story, Micros]:
    """Start the roles, then the scene; show what comes out until the session has ended, or for `limit` seconds.

    `without`: roles that do not run. Returns what came, and the scene's start.
    """
    kafka = Kafka(config.kafka)
    await create_topics(kafka)
    rest = [role for role in ROLES if role != "ingest" and role not in without]
    story = Story()
    async with running(config, rest, logging=logging):
        console.print("starting the roles and loading the weights ...")
        await until_ready(config, rest)
        ports = ", ".join(f"{role} {config.health.port + ROLES.index(role)}" for role in ROLES)
        console.print(f"metrics on http://{config.health.host}:PORT/metrics: {ports}")
        start = Micros((time.time_ns() // 1_000_000_000 + 2) * SECOND)
        async with running(starting(config, start), ["ingest"], logging=logging):
            with suppress(TimeoutError):  # `story.ended` tells
                await asyncio.wait_for(follow(kafka, story, out, start), limit)
    return story, start


def starting(config: Config, start: Micros) -> Config:
    """The same configuration with the scene's first moment fixed."""
    text = datetime.fromtimestamp(start / SECOND, UTC).isoformat()
    (session,) = config.sessions
    sources = tuple(source.model_copy(update={"start": text}) for source in session.sources)
    return config.model_copy(update={"sessions": (session.model_copy(update={"sources": sources}),)})


async def follow(kafka: Kafka, story: Story, out: Path, start: Micros) -> None:
    """Read `alerts` and `scores` until the session has ended and no alert has come for a while."""
    consumer = kafka.consumer(auto_offset_reset="earliest", fetch_max_wait_ms=100)
    await consumer.start()
    try:
        async with LogReader(kafka) as reader:
            consumer.assign([kafka.partition(topic, n) for topic in ("alerts", "scores") for n in range(kafka.settings.partitions)])
            while not (story.ended and time.monotonic() - story.seen > SETTLE):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    for raw in batch:
                        await _take(kafka.record(raw), story, reader, out, start)
    finally:
        await consumer.stop()


async def _take(record: Record, story: Story, reader: LogReader, out: Path, start: Micros) -> None:
    if record.topic == "scores":
        mark = read_scores(record)
        if isinstance(mark, SessionMark) and mark.why is Silence.END:
            story.ended, story.seen = True, max(story.seen, time.monotonic())
        return
    alert = read_alert(record)
    story.add(alert)
    console.print(said(alert, start))
    await save(alert, record, reader, out)


async def save(alert: Alert, record: Record, reader: LogReader, out: Path) -> None:
    """Write the alert as it stands on the topic, and its best frame with boxes, where it has one that can still be read."""
    name = stem(alert.rule, alert.id)
    (out / f"{name}.json").write_bytes(record.value or b"")
    if alert.evidence.frame is None:
        return
    origin = alert.evidence.frame.ref.origin
    async for frame in reader.read(origin.topic, origin.offset, partition=origin.partition):
        picture = snapshot(alert, decode_image(frame.value or b"", MAX_PIXELS))
        (out / f"{name}.jpg").write_bytes(encode_jpeg(picture, 90))
        return


def stem(rule: str, id_: str) -> str:
    """The name of an alert's files, without their ending: nothing in it can lead out of the folder."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", f"{rule[:64]}-{id_[:9]}").lstrip(".")


def clear(out: Path) -> None:
    """Make the folder, and take out what an earlier demo left there: each alert under its own name, and its picture. Raises ConfigError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for path in out.glob("*.json"):
            if _ours(path):
                path.unlink()
                (out / f"{path.stem}.jpg").unlink(missing_ok=True)
    except OSError as exc:
        raise ConfigError(f"cannot use the folder {out}: {exc.strerror}") from exc


def _ours(path: Path) -> bool:
    try:
        alert = json.loads(path.read_bytes())
        return bool(path.stem == stem(alert["rule"], alert["id"]))
    except (ValueError, TypeError, KeyError):
        return False
