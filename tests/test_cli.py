"""The command line: what it prints, which exit code it gives, and that secrets stay where they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from streamer.config import load
from streamer.topology import PIPELINE, ROLES

EXAMPLE = Path(__file__).parents[1] / "deploy" / "streamer.example.yaml"


def streamer(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STREAMER_")} | environment
    command = [sys.executable, "-m", "streamer", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=False)


def written(folder: Path, text: str) -> str:
    path = folder / "streamer.yaml"
    path.write_text(text)
    return str(path)


def test_help_names_every_command() -> None:
    shown = streamer("--help").stdout
    assert all(command in shown for command in ("demo", "run", "role", "config", "topics", "weights", "deadletter"))


def test_the_example_configuration_is_valid() -> None:
    assert streamer("config", "check", "-c", str(EXAMPLE)).returncode == 0


def test_a_wrong_field_is_named_and_ends_with_code_2(tmp_path: Path) -> None:
    done = streamer("config", "check", "-c", written(tmp_path, "align: {length: 2s, hop: 3s}\nkafka: {partitions: 0}\ncolour: red\n"))
    assert done.returncode == 2
    assert all(name in done.stderr for name in ("align", "hop=3000000", "kafka.partitions", "colour"))


def test_a_secret_is_never_printed(tmp_path: Path) -> None:
    path = written(tmp_path, "sessions: [{id: a, sources: [{name: c, url: 'rtsp://viewer:hunter2@192.0.2.1/live', fps: -1}]}]\n")
    wrong = streamer("config", "check", "-c", path)
    assert wrong.returncode == 2
    assert "hunter2" not in wrong.stdout + wrong.stderr
    path = written(tmp_path, "sessions: [{id: a, sources: [{name: c, url: 'rtsp://viewer:hunter2@192.0.2.1/live'}]}]\n")
    shown = streamer("config", "show", "-c", path)
    assert shown.returncode == 0
    assert "192.0.2.1" in shown.stdout
    assert "hunter2" not in shown.stdout


def test_a_missing_secret_is_named_before_anything_starts(tmp_path: Path) -> None:
    path = written(tmp_path, "deliver: {sinks: [{type: webhook, name: desk, url: 'https://desk.example', secret_env: DESK_SECRET}]}\n")
    done = streamer("run", "-c", path)
    assert done.returncode == 2
    assert "DESK_SECRET" in done.stderr


def test_show_prints_what_check_accepts(tmp_path: Path) -> None:
    shown = streamer("config", "show", "-c", str(EXAMPLE)).stdout
    again = tmp_path / "again.yaml"
    again.write_text(shown)
    assert load(again) == load(EXAMPLE)
    assert yaml.safe_load(shown)["align"]["length"] == "2000000us"


def test_an_unknown_role_is_refused_with_the_names_there_are() -> None:
    done = streamer("role", "watch", "-c", str(EXAMPLE))
    assert done.returncode == 2
    assert "align" in done.stderr


@pytest.mark.parametrize("role", ROLES)
def test_a_role_without_a_broker_address_refuses_to_start(role: str, tmp_path: Path) -> None:
    camera = "sessions: [{id: a, sources: [{name: c, url: 'rtsp://192.0.2.1/live'}]}]"
    done = streamer("role", role, "-c", written(tmp_path, f"kafka: {{bootstrap: embedded}}\nhealth: {{port: 0}}\n{camera}\n"))
    assert done.returncode == 2
    assert "embedded" in done.stderr


def test_stages_shows_the_whole_topology() -> None:
    shown = streamer("stages", COLUMNS="200").stdout
    assert all(stage.name in shown for stage in PIPELINE)
