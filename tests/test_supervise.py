"""`streamer run` as a user starts it: real child processes on the embedded broker, ended politely, by force, and by their own faults."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from streamer.config import Config, KafkaSettings, load, parse
from streamer.demo import free_block
from streamer.errors import ConfigError
from streamer.supervise import Supervisor, shared
from streamer.topology import ROLES
from tests.integration.pipeline import DEMO, until
from tests.sources.media import recording

LOADED, GONE = 90.0, 20.0  # seconds
NO_BROKER = KafkaSettings(bootstrap="127.0.0.1:1")


def configuration(folder: Path, **change: object) -> Path:
    """Every role; one session that plays a second of sound, and weights that need no download."""
    sound = recording(folder / "tone.wav", seconds=1)
    source = {"name": "mic", "url": str(sound), "video": False}
    raw = {
        "kafka": {"partitions": 2},
        "sessions": [{"id": "yard", "sources": [source]}],
        "infer": {"profile": "tiny"},
        "health": {"port": free_block(len(ROLES))},
    }
    path = folder / "streamer.yaml"
    path.write_text(yaml.safe_dump(raw | change))
    return path


@contextmanager
def running(path: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`streamer run` with this configuration; whatever is left of it is killed at the end."""
    command = [sys.executable, "-m", "streamer", "run", "-c", str(path)]
    with (path.parent / "run.log").open("w") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, text=True, start_new_session=True, env=os.environ | environment)
    try:
        yield child
    finally:
        family = [*children(child), child]
        for process in family:
            with suppress(psutil.Error, ProcessLookupError):
                process.kill()
        child.wait()


def children(child: subprocess.Popen[str]) -> list[psutil.Process]:
    with suppress(psutil.Error):
        return psutil.Process(child.pid).children(recursive=True)
    return []


def role_of(process: psutil.Process) -> str:
    """Its role, or its program; "" for one that has ended meanwhile."""
    with suppress(psutil.Error, IndexError):
        words = process.cmdline()
        return words[words.index("role") + 1] if "role" in words else Path(words[0]).name
    return ""


async def ready(path: Path, role: str) -> bool:
    port = yaml.safe_load(path.read_text())["health"]["port"] + ROLES.index(role)
    with suppress(httpx.HTTPError):
        async with httpx.AsyncClient() as client:
            return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == httpx.codes.OK
    return False


async def all_ready(path: Path) -> None:
    """Every role but ingest, which ends when its file does."""
    for role in ROLES[1:]:
        await until(lambda role=role: ready(path, role), f"{role} ready, see {path.parent / 'run.log'}")


async def ended(run: subprocess.Popen[str], *, seconds: float = GONE) -> int:
    return await asyncio.to_thread(run.wait, seconds)


def alive(processes: list[psutil.Process]) -> list[int]:
    """Those that still run. A zombie that nobody has reaped yet does not."""
    found = []
    for process in processes:
        with suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def supervisor(*roles: str, port: int | None = None, patience: float = 3.0, kafka: KafkaSettings = NO_BROKER) -> Supervisor:
    """Roles to be run from here. deliver has no sink and only waits, whether there is a broker or not."""
    health = {"port": free_block(len(ROLES)) if port is None else port}
    return Supervisor(Config(kafka=kafka, deliver={"sinks": []}, health=health), roles=roles, patience=patience)


async def started(watched: Supervisor) -> None:
    """Every child answers /livez, so that a signal finds its handler."""

    async def alive() -> bool:
        with suppress(httpx.HTTPError):
            async with httpx.AsyncClient() as client:
                for role in watched.roles:
                    await client.get(f"http://127.0.0.1:{watched.config.health.port + ROLES.index(role)}/livez")
                return True
        return False

    await until(alive, "all roles up", seconds=60)


async def test_a_role_that_does_not_end_holds_up_the_next_for_its_share_of_the_patience_and_is_then_killed(tansu: KafkaSettings) -> None:
    watched = supervisor("decide", "deliver", kafka=tansu, patience=12)
    running = asyncio.create_task(watched.run())
    await started(watched)
    decide, deliver = (watched.children[role].process for role in watched.roles)
    assert decide and deliver
    decide.send_signal(signal.SIGSTOP)
    watched.stop.set()
    asked = time.monotonic()
    await deliver.wait()
    assert time.monotonic() - asked >= watched.patience / 3
    assert decide.returncode is None
    await running
    assert time.monotonic() - asked < 1.5 * watched.patience  # twice, if each role had it all
    assert (decide.returncode, deliver.returncode) == (-signal.SIGKILL, 0)


async def test_a_role_whose_port_is_taken_ends_the_run_with_the_number_and_is_not_started_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        watched = supervisor("deliver", port=taken.getsockname()[1] - ROLES.index("deliver"))
        with pytest.raises(ConfigError, match="deliver refused"):
            await watched.run()
    assert watched.children["deliver"].starts == 1


async def test_a_stop_that_comes_while_a_role_is_being_started_does_not_wait_for_it() -> None:
    watched = supervisor("deliver", patience=30)
    running = asyncio.create_task(watched.run())
    while "deliver" not in watched.children:
        await asyncio.sleep(0)
    assert watched.children["deliver"].process is None
    watched.stop.set()
    async with asyncio.timeout(15):
        await running


def test_the_configuration_for_children_has_no_name_and_can_be_read_more_than_once() -> None:
    config = parse({"sessions": [{"id": "yard", "sources": [{"name": "cam", "url": "rtsp://viewer:hunter2@192.0.2.1/live"}]}]})
    with shared(config) as file:
        assert [load(Path(f"/proc/self/fd/{file}")) for _ in range(2)] == [config, config]
        assert os.fstat(file).st_nlink == 0


@pytest.mark.slow
@pytest.mark.usefixtures("weights_home")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_asked_to_stop_every_role_ends_and_the_exit_code_is_0(tmp_path: Path, number: signal.Signals) -> None:
    path = configuration(tmp_path)
    with running(path) as run:
        await all_ready(path)
        family = children(run)
        assert {"tansu", *ROLES[1:]} <= set(map(role_of, family))
        run.send_signal(number)
        assert await ended(run) == 0
        assert alive(family) == []
    said = (tmp_path / "run.log").read_text()
    assert "killing it" not in said
    told = [line for line in said.splitlines() if " stopped " in line or "asking a role to end" in line]
    asked = [line.split("role=")[1].split()[0] for line in told if "asking" in line]
    stopped = [line.split("stage=")[1].split()[0] for line in told if " stopped " in line]
    assert [role for role in asked if role != "ingest"] == list(ROLES[1:])  # law 3; ingest may have been over before
    assert {role for role in stopped if role != "ingest"} == set(ROLES[1:])
    in_turn = [before for before, after in pairwise(told) if " stopped " in before and "asking" in after]
    assert len(in_turn) >= 3  # a slow one lets the next begin, but not all at once


@pytest.mark.slow
@pytest.mark.usefixtures("weights_home")
async def test_killed_by_force_it_leaves_no_child_behind_and_no_login_on_the_disk(tmp_path: Path) -> None:
    camera = {"name": "cam", "url": "rtsp://viewer:hunter2@127.0.0.1:1/live"}
    path = configuration(tmp_path, sessions=[{"id": "yard", "sources": [camera]}])
    left = tmp_path / "tmp"
    left.mkdir()
    with running(path, TMPDIR=str(left)) as run:
        await all_ready(path)
        family = children(run)
        assert "ingest" in map(role_of, family)
        run.kill()
        await ended(run)

        async def gone() -> bool:
            return not alive(family)

        await until(gone, "all children gone", seconds=GONE)
    assert [file for file in left.rglob("*") if file.is_file() and b"hunter2" in file.read_bytes()] == []
    assert "hunter2" not in (tmp_path / "run.log").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("weights_home")
async def test_a_role_that_dies_is_started_again_and_a_source_that_is_over_is_not(tmp_path: Path) -> None:
    path = configuration(tmp_path)
    with running(path) as run:
        await all_ready(path)

        async def file_over() -> bool:
            return "ingest" not in map(role_of, children(run))

        await until(file_over, "the file to end", seconds=30)
        (align,) = [process for process in children(run) if role_of(process) == "align"]
        os.kill(align.pid, signal.SIGKILL)

        async def again() -> bool:
            return align.pid not in [process.pid for process in children(run)] and await ready(path, "align")

        await until(again, "align ready again")
        assert await file_over()


@pytest.mark.slow
async def test_a_role_that_refuses_its_configuration_ends_the_run_with_code_2(tmp_path: Path) -> None:
    path = configuration(tmp_path, sessions=[{"id": "yard", "sources": [{"name": "mic", "url": str(tmp_path / "nothing.wav")}]}])
    with running(path) as run:
        assert await ended(run, seconds=LOADED) == 2
        assert "ingest refused its configuration" in (tmp_path / "run.log").read_text()


@pytest.mark.slow
async def test_an_embedded_broker_past_its_memory_ends_the_run_and_says_what_to_do(tmp_path: Path) -> None:
    camera = {"name": "cam", "url": f"scene:{DEMO / 'scene.yaml'}", "audio": False, "loop": True, "fps": 60, "width": 7_680, "quality": 100}
    broker = {"partitions": 2, "embedded_memory_mb": 64}
    path = configuration(tmp_path, kafka=broker, sessions=[{"id": "yard", "sources": [camera]}])
    with running(path) as run:
        assert await ended(run, seconds=LOADED) == 2
    said = " ".join((tmp_path / "run.log").read_text().split())
    assert "embedded_memory_mb=64" in said
    assert "make kafka" in said
