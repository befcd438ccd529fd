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
from tests.sinks.receiver import SECRET

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


@pytest.mark.parametrize("line", ["url: rtsp://viewer:hunter2: x@192.0.2.1/live", "url: 'rtsp://viewer:hunter2@192.0.2.1/live"])
def test_a_typing_mistake_in_a_url_is_named_by_line_and_column_and_not_printed(line: str, tmp_path: Path) -> None:
    path = written(tmp_path, f"sessions:\n- id: a\n  sources:\n  - name: c\n    {line}\n")
    wrong = streamer("config", "check", "-c", path)
    assert wrong.returncode == 2
    assert "line 5, column" in wrong.stderr or "line 6, column" in wrong.stderr
    assert "hunter2" not in wrong.stdout + wrong.stderr


HOOK = "deliver: {sinks: [{type: webhook, name: desk, url: 'URL', secret_env: DESK_SECRET}]}\n"


def test_of_a_webhooks_url_only_scheme_and_host_are_shown(tmp_path: Path) -> None:
    shown = streamer("config", "show", "-c", written(tmp_path, HOOK.replace("URL", "https://desk.example/T0K3N?token=T0K3N")))
    assert shown.returncode == 0
    assert "T0K3N" not in shown.stdout
    assert "https://desk.example/..." in shown.stdout


@pytest.mark.parametrize(
    ("url", "secret", "problem"),
    [
        ("https://169.254.169.254/", SECRET, "no place to send alerts to"),
        ("https://2852039166/", SECRET, "no place to send alerts to"),
        ("https://10.0.0.7/", SECRET, "allow_private"),
        ("http://desk.example/", SECRET, "plain http"),
        ("https://viewer:T0K3N@desk.example/", SECRET, "login"),
        ("https://desk.example/", "T0K3N!", "DESK_SECRET"),
    ],
)
def test_check_refuses_a_webhook_that_deliver_would_refuse(url: str, secret: str, problem: str, tmp_path: Path) -> None:
    done = streamer("config", "check", "-c", written(tmp_path, HOOK.replace("URL", url)), DESK_SECRET=secret)
    assert done.returncode == 2
    assert problem in done.stderr and "desk" in done.stderr
    assert "T0K3N" not in done.stdout + done.stderr


def test_check_accepts_a_webhook_that_deliver_would_accept(tmp_path: Path) -> None:
    path = written(tmp_path, HOOK.replace("URL", "https://desk.example/x"))
    assert streamer("config", "check", "-c", path, DESK_SECRET=SECRET).returncode == 0


@pytest.mark.parametrize("name", ["x[/y].yaml", "[red]x.yaml", ":bomb:.yaml"])
def test_what_looks_like_markup_in_a_path_is_printed_as_it_stands(name: str, tmp_path: Path) -> None:
    wrong = streamer("config", "check", "-c", written(tmp_path, f"rules: '{name}'\n"))
    assert wrong.returncode == 2
    assert name in wrong.stderr and "Traceback" not in wrong.stderr
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("version: 1\n")
    good = streamer("config", "check", "-c", str(tmp_path / name))
    assert good.returncode == 0
    assert name in "".join(good.stdout.split())


def test_an_unknown_log_level_is_refused_with_the_levels_there_are() -> None:
    done = streamer("--log-level", "loud", "stages")
    assert done.returncode == 2
    assert all(level in done.stderr for level in ("loud", "debug", "error")) and "Traceback" not in done.stderr


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


def test_a_workers_name_that_is_none_is_refused(tmp_path: Path) -> None:
    done = streamer("role", "align", "-c", written(tmp_path, "kafka: {bootstrap: '127.0.0.1:1'}\n"), STREAMER_INSTANCE="align 0")
    assert done.returncode == 2
    assert "'align 0' is not a name" in done.stderr


def test_stages_shows_the_whole_topology() -> None:
    shown = streamer("stages", COLUMNS="200").stdout
    assert all(stage.name in shown for stage in PIPELINE)
