"""docker-compose.yml: valid against the specification's schema, one service per role, published on loopback only."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.cli import secrets_of
from streamer.config import load, parse
from streamer.errors import ConfigError
from streamer.topology import ROLES, TOPICS

ROOT = Path(__file__).parent.parent.parent
TOOLS = ROOT / ".venv-tools" / "bin"
AROUND = {"kafka", "topics", "prometheus", "alertmanager", "grafana"}
SECRETIVE = {
    "kafka": {"bootstrap": "kafka:9092", "username": "streamer", "password_env": "BROKER"},
    "sessions": [{"id": "a", "sources": [{"name": "cam", "url": "rtsp://192.0.2.1/a", "username": "viewer", "password_env": "CAMERA"}]}],
    "deliver": {"sinks": [{"type": "webhook", "name": "desk", "url": "https://desk.example/alerts", "secret_env": "DESK"}]},
}
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def run_tool(*command: str | Path) -> None:
    """Run a checker; what it says is the failure."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_valid_against_the_compose_specification() -> None:
    run_tool(TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml")


def test_the_dockerfile_is_clean() -> None:
    run_tool(TOOLS / "hadolint", "deploy/docker/Dockerfile")


def test_there_is_one_service_for_each_role_and_no_other() -> None:
    assert set(SERVICES) == set(ROLES) | AROUND


@pytest.mark.parametrize("role", ROLES)
def test_a_role_runs_its_name_and_the_image_asks_its_own_port_for_health(role: str) -> None:
    config = load(ROOT / "deploy" / "docker" / "streamer.yaml")
    service = SERVICES[role]
    assert service["command"] == ["role", role, "--config", "/etc/streamer/streamer.yaml"]
    assert service["environment"] == {"HEALTH_PORT": str(config.health.port + ROLES.index(role))}


@pytest.mark.parametrize("role", ROLES)
def test_a_role_that_refuses_its_configuration_is_not_started_for_ever(role: str) -> None:
    assert re.fullmatch(r"on-failure:[1-9]\d*", SERVICES[role]["restart"])


def test_secrets_go_only_to_the_roles_that_open_something_with_a_login() -> None:
    given = {name: service["env_file"] for name, service in SERVICES.items() if "env_file" in service or "secrets" in service}
    assert given == {role: [{"path": f"deploy/docker/{role}.env", "required": False}] for role in ("ingest", "deliver")}
    files = [file["path"] for entry in given.values() for file in entry]
    assert subprocess.run(["git", "check-ignore", *files], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split() == files
    image = (ROOT / ".dockerignore").read_text().splitlines()
    assert image[0] == "*" and not any(line.startswith("!deploy/docker") for line in image)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_needs_only_its_own_secrets(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse(SECRETIVE)
    needed = {"ingest": {"BROKER", "CAMERA"}, "deliver": {"BROKER", "DESK"}}.get(role, {"BROKER"})
    for name in ("BROKER", "CAMERA", "DESK"):
        monkeypatch.delenv(name, raising=False)
    for name in needed:
        monkeypatch.setenv(name, "x")
    assert secrets_of(config, role=role) == dict.fromkeys(needed, "x")
    with pytest.raises(ConfigError, match="are not set"):
        secrets_of(config)


def test_every_published_port_is_on_loopback() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 4
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_service_drops_its_privileges() -> None:
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert name == "kafka" or service["read_only"] is True, name  # its image writes its settings at start
        assert name == "kafka" or not service["user"].startswith("0"), name


def test_every_lasting_service_has_a_health_check() -> None:
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} == set(ROLES)  # theirs is the image's
    assert [name for name, service in SERVICES.items() if service.get("healthcheck") == {"disable": True}] == ["topics"]


def test_its_kafka_takes_the_largest_message_and_makes_no_topics_by_itself() -> None:
    settings = SERVICES["kafka"]["environment"]
    assert int(settings["KAFKA_MESSAGE_MAX_BYTES"]) > max(topic.max_message_bytes for topic in TOPICS)
    assert settings["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_the_broker_of_the_tests_is_the_broker_of_the_compose_file() -> None:
    pinned = re.search(r"kafka_2\.13</artifactId>\s*<version>([\d.]+)<", (ROOT / "deploy" / "kafka" / "pom.xml").read_text())
    assert pinned
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{pinned[1]}"


def test_every_mounted_file_of_ours_exists() -> None:
    mounts = [mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", []) if mount.startswith("./")]
    assert [mount for mount in mounts if not (ROOT / mount).exists()] == []
