"""`streamer run` as a user starts it: real child processes on the embedded broker, ended politely, by force, and by their own faults."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest
import yaml

from streamer.demo import free_block
from streamer.topology import ROLES
from tests.integration.pipeline import DEMO, until
from tests.sources.media import recording

LOADED, GONE = 90.0, 20.0  # seconds


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
def running(path: Path) -> Iterator[subprocess.Popen[str]]:
    """`streamer run` with this configuration; whatever is left of it is killed at the end."""
    command = [sys.executable, "-m", "streamer", "run", "-c", str(path)]
    with (path.parent / "run.log").open("w") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, text=True, start_new_session=True)
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
    assert "killing it" not in (tmp_path / "run.log").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("weights_home")
async def test_killed_by_force_it_leaves_no_child_behind(tmp_path: Path) -> None:
    path = configuration(tmp_path)
    with running(path) as run:
        await all_ready(path)
        family = children(run)
        run.kill()
        await ended(run)

        async def gone() -> bool:
            return not alive(family)

        await until(gone, "all children gone", seconds=GONE)


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
