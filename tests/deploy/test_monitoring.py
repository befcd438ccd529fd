"""Prometheus, Alertmanager and Grafana: valid files, and no name in them that the code does not have."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.metrics import MetricWrapperBase

from streamer.config import load
from streamer.metrics import Metrics
from streamer.topology import ROLES

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
RULES = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "streamer.json").read_text())
RECORDED = {rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule}
NAME = re.compile(r"\bstreamer[_:][a-z0-9_:]*")


def run_tool(*command: str, text: str | None = None) -> None:
    """Run a checker; what it says is the failure."""
    done = subprocess.run(command, cwd=DEPLOY / "prometheus", input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert text is None or not done.stdout + done.stderr


def exposed(role: str) -> str:
    """What a role's /metrics shows when every metric has been used."""
    metrics = Metrics(role)
    for family in vars(metrics).values():
        if isinstance(family, MetricWrapperBase) and family._labelnames:
            family.labels(*["x" for _ in family._labelnames])
    return generate_latest(metrics.registry).decode()


def sample_names() -> set[str]:
    """Every name that a query may use."""
    return {line.split("{")[0].split(" ")[0] for line in exposed("align").splitlines() if not line.startswith("#")} | RECORDED


def rule_expressions() -> list[str]:
    return [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]


def dashboard_expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


@pytest.mark.parametrize("role", ROLES)
def test_the_metrics_of_every_role_pass_the_linter(role: str) -> None:
    run_tool("promtool", "check", "metrics", text=exposed(role))


@pytest.mark.parametrize(
    "command",
    [
        ("promtool", "check", "config", "prometheus.yml"),
        ("promtool", "check", "rules", "rules.yml"),
        ("promtool", "test", "rules", "rules_test.yml"),
        ("amtool", "check-config", "../alertmanager/alertmanager.yml"),
    ],
    ids=" ".join,
)
def test_the_tools_accept_our_files(command: tuple[str, ...]) -> None:
    run_tool(*command)


@pytest.mark.parametrize("expressions", [rule_expressions(), dashboard_expressions()], ids=["rules", "dashboard"])
def test_every_name_that_is_asked_for_exists(expressions: list[str]) -> None:
    asked = {name for expression in expressions for name in NAME.findall(expression)}
    assert asked
    assert asked - sample_names() == set()


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    alerts = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
    tests = (DEPLOY / "prometheus" / "rules_test.yml").read_text()
    assert [rule["alert"] for rule in alerts if rule["alert"] not in tests] == []
    assert all(rule["labels"]["severity"] in ("critical", "warning") and rule["annotations"]["action"] for rule in alerts)


def test_every_role_is_scraped_where_it_listens() -> None:
    port = load(DEPLOY / "docker" / "streamer.yaml").health.port
    [job] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [f"{role}:{port + number}" for number, role in enumerate(ROLES)]


def test_the_dashboard_shows_every_stage_and_asks_the_provisioned_source() -> None:
    sources = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"]
    used = {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])}
    assert used == {source["uid"] for source in sources}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
