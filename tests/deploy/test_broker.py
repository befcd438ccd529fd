"""deploy/kafka/broker.py as a person runs it: one broker per data folder, known to `stop`; jars where STREAMER_HOME says."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamer.kafka.embedded import free_port
from tests.kafka.apache import BROKER


def run(data: Path, port: int) -> subprocess.CompletedProcess[str]:
    """`broker.py run`; it is killed if it becomes a broker."""
    where = ["--port", str(port), "--controller-port", str(free_port()), "--data", str(data)]
    command = [sys.executable, BROKER, "run", "--end-with-parent", *where]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def living(tmp_path: Path) -> Iterator[int]:
    """A process that stands in the data folder's `broker.pid` and looks as its broker does; its id."""
    with subprocess.Popen([sys.executable, "-c", "input()", tmp_path / "server.properties"], stdin=subprocess.PIPE) as process:
        (tmp_path / "broker.pid").write_text(str(process.pid))
        yield process.pid
        process.kill()


def test_a_second_broker_of_a_data_folder_is_refused_and_the_first_stays_known(tmp_path: Path, living: int) -> None:
    done = run(tmp_path, free_port())
    assert (done.returncode, f"as process {living}" in done.stderr) == (1, True)
    assert (tmp_path / "broker.pid").read_text() == str(living)


@pytest.mark.kafka
def test_a_port_where_a_broker_answers_is_refused(tmp_path: Path, kafka_address: str) -> None:
    done = run(tmp_path, int(kafka_address.rpartition(":")[2]))
    assert (done.returncode, "already belongs to another broker" in done.stderr) == (1, True)
    assert not (tmp_path / "broker.pid").exists()


def test_a_relative_home_counts_from_where_one_stands_not_from_the_script(tmp_path: Path) -> None:
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text('#!/bin/sh\nprintf "%s\\n" "$@" >"$SEEN"\nexit 1\n')
    maven.chmod(0o755)
    environ = os.environ | {"STREAMER_HOME": "here", "SEEN": str(tmp_path / "seen"), "PATH": f"{maven.parent}:{os.environ['PATH']}"}
    subprocess.run([sys.executable, BROKER, "fetch"], cwd=tmp_path, env=environ, capture_output=True, check=False)
    assert f"-DoutputDirectory={tmp_path}/here/kafka/jars" in (tmp_path / "seen").read_text().splitlines()
