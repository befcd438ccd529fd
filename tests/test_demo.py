"""`streamer demo` as a user starts it: exit code, what it prints, what it leaves in its folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from jsonschema import Draft202012Validator

from streamer.schemas import schema
from tests.integration.pipeline import DEMO, shorter

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("weights_home")]


def demo(scene: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamer", "demo", "--fast", "--scene", str(scene), "--out", str(out)]
    return subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)


def test_the_scene_that_ships_raises_what_its_script_says_and_nothing_else(tmp_path: Path) -> None:
    done = demo(DEMO / "scene.yaml", tmp_path)
    said = " ".join(done.stdout.split())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "composed from real recordings" in said
    assert "uncalibrated" in said
    assert "/metrics" in said
    alerts = {path: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert {alert["rule"] for alert in alerts.values()} == {"person", "glass-break", "call-for-help", "siren"}
    for path, alert in alerts.items():
        Draft202012Validator(schema("alert")).validate(alert)
        picture = cv2.imread(str(path.with_suffix(".jpg")))
        assert picture is not None
        assert picture.shape[0] > 400


def test_an_alert_that_does_not_come_is_named_and_the_exit_code_is_1(tmp_path: Path) -> None:
    scene = shorter(DEMO / "scene.yaml", tmp_path / "scene", 16)
    raw = json.loads(scene.read_text())
    raw["expect"].append({"rule": "gunshot", "onset": 5.0, "within": 3})
    scene.write_text(json.dumps(raw))
    done = demo(scene, tmp_path / "out")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "missed gunshot" in " ".join(done.stdout.split())
