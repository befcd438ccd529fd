"""`streamer demo` as a user starts it: exit code, what it prints, what it leaves in its folder."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import psutil
import pytest
from jsonschema import Draft202012Validator

from streamer.demo import clear, free_block, stem
from streamer.errors import ConfigError
from streamer.schemas import schema
from tests.integration.pipeline import DEMO, shorter

with_weights = pytest.mark.usefixtures("weights_home")

UPGRADE = """
version: 1
rules:
  - {id: person, class: person, threshold: 0.6, severity: info, upgrade: {class: intrusion, threshold: 0.2, severity: critical}}
"""


def command(scene: Path, out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "streamer", "demo", "--scene", str(scene), "--out", str(out), *more]


def demo(scene: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(scene, out, *more), capture_output=True, text=True, timeout=500, check=False)


def changed(folder: Path, seconds: float, change: Callable[[dict], object]) -> Path:
    """The beginning of the scene that ships, with a change."""
    scene = shorter(DEMO / "scene.yaml", folder, seconds)
    raw = json.loads(scene.read_text())
    change(raw)
    scene.write_text(json.dumps(raw))
    return scene


def earlier(out: Path, rule: str, id_: str, name: str | None = None) -> list[Path]:
    """The files of an alert that an earlier run left."""
    out.mkdir(exist_ok=True)
    paths = [out / f"{name or stem(rule, id_)}.{ending}" for ending in ("json", "jpg")]
    for path in paths:
        path.write_text(json.dumps({"rule": rule, "id": id_}))
    return paths


def test_an_alerts_files_are_named_for_its_whole_rule_and_stay_in_the_folder() -> None:
    assert stem("glass.break", "a123456789") == "glass.break-a12345678"
    assert stem("glass.break", "a1") != stem("glass", "a1")
    assert "/" not in stem("../../etc/x", "a/../b") and not stem("../x", "a").startswith(".")


def test_the_folder_shows_one_run_and_what_others_put_there_stays(tmp_path: Path) -> None:
    old = earlier(tmp_path, "glass.break", "a1") + earlier(tmp_path, "siren", "b123456789")
    foreign = earlier(tmp_path, "siren", "b2", name="my-notes")
    for name in ("list.json", "broken.json", "siren-b3.jpg", "notes.txt"):
        (tmp_path / name).write_text("[1]" if name == "list.json" else "{")
        foreign.append(tmp_path / name)
    clear(tmp_path)
    assert [path for path in old if path.exists()] == []
    assert sorted(tmp_path.iterdir()) == sorted(foreign)


def test_an_output_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match="cannot use the folder"):
        clear(tmp_path / "out")


def test_two_demos_get_different_ports_though_neither_listens_yet() -> None:
    ours = {free_block(6), free_block(6)}
    code = "from streamer.demo import free_block; print(free_block(6))"
    theirs = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert len(ours) == 2 and theirs not in ours


@pytest.mark.slow
@with_weights
def test_the_scene_that_ships_raises_what_its_script_says_and_nothing_else(tmp_path: Path) -> None:
    earlier(tmp_path, "person", "p123456789")
    done = demo(DEMO / "scene.yaml", tmp_path, "--fast")
    said = " ".join(done.stdout.split())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "composed from real recordings" in said
    assert "uncalibrated" not in said
    assert "/metrics" in said
    alerts = {path: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert {alert["rule"] for alert in alerts.values()} == {"person", "glass-break", "call-for-help", "siren"}
    for path, alert in alerts.items():
        Draft202012Validator(schema("alert")).validate(alert)
        picture = cv2.imread(str(path.with_suffix(".jpg")))
        assert picture is not None
        assert picture.shape[0] > 400


@dataclass(frozen=True)
class Played:
    """A demo that is over, and its folder."""

    done: subprocess.CompletedProcess[str]
    out: Path


@pytest.fixture(scope="module")
def surprise(weights_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """A scene whose script expects a gunshot; what it has is a person, graver once glass breaks: sight and sound together."""
    folder = tmp_path_factory.mktemp("surprise")

    def person_then_glass(raw: dict) -> None:
        raw["clips"] = [{"file": "pedestrians.mp4", "at": 1, "length": 10}]
        raw["sounds"] = [{"file": "glass.flac", "at": 6.0, "gain_db": 0}]
        raw["expect"] = [{"rule": "gunshot", "onset": 5.0, "within": 3}]

    scene = changed(folder / "scene", 12, person_then_glass)
    (scene.parent / "rules.yaml").write_text(UPGRADE)
    return Played(demo(scene, folder / "out", "--fast"), folder / "out")


@pytest.mark.slow
def test_what_is_missed_and_what_should_not_have_fired_is_named_and_the_exit_code_is_1(surprise: Played) -> None:
    assert surprise.done.returncode == 1, surprise.done.stdout + surprise.done.stderr
    assert "missed gunshot; 1 not in the script (person)" in surprise.done.stdout


@pytest.mark.slow
def test_an_upgrade_is_shown_as_one(surprise: Played) -> None:
    states = re.findall(r"^ *\d+\.\d s  [\d:]{8} (\w+) +(\w+) +demo person", surprise.done.stdout, re.M)
    assert states[0] == ("INFO", "raised"), surprise.done.stdout
    assert states.count(("CRITICAL", "upgraded")) == 1
    (file,) = surprise.out.glob("*.json")
    assert json.loads(file.read_text())["severity"] == "critical"


@pytest.mark.slow
@with_weights
def test_a_demo_that_gives_up_shows_what_came_and_ends_with_code_1(tmp_path: Path) -> None:
    scene = changed(tmp_path / "scene", 5, lambda raw: raw.update(expect=[{"rule": "siren", "onset": 1, "within": 2}]))
    done = demo(scene, tmp_path / "out", "--overtime", "0")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "The scene's script and what fired" in done.stdout
    assert "gave up before the session had ended; missed siren" in done.stdout
    assert "Traceback" not in done.stderr and "Exception Group" not in done.stderr


@pytest.mark.slow
@with_weights
def test_ctrl_c_ends_the_demo_with_code_130_and_every_child_with_it(tmp_path: Path) -> None:
    playing = subprocess.Popen(
        command(DEMO / "scene.yaml", tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert playing.stdout
        assert any("metrics on" in line for line in playing.stdout)
        family = psutil.Process(playing.pid).children(recursive=True)
        assert len(family) >= 6  # the broker, and every role but the source
        playing.send_signal(signal.SIGINT)
        rest, errors = playing.communicate(timeout=60)
    finally:
        playing.kill()
        playing.wait()
    assert playing.returncode == 130
    assert "stopped" in rest
    assert "Traceback" not in errors
    assert psutil.wait_procs(family, timeout=20)[1] == []
