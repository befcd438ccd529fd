"""Prometheus, Alertmanager and Grafana: valid files, and no name in them that the code does not have."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.metrics import MetricWrapperBase

from streamer.config import load
from streamer.errors import Reason
from streamer.metrics import Metrics
from streamer.topology import ROLES
from tests.house.sizes import project_files

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


def declared() -> dict[str, str]:
    """Every family: the name of its field, and of the family."""
    return {field: family._name for field, family in vars(Metrics("align")).items() if isinstance(family, MetricWrapperBase)}


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


def test_every_metric_is_on_the_dashboard_or_watched_by_a_rule() -> None:
    asked = {name for expression in rule_expressions() + dashboard_expressions() for name in NAME.findall(expression)}
    families = {name: {name, *(name + suffix for suffix in ("_total", "_bucket"))} for name in declared().values()}
    assert [name for name, samples in families.items() if not samples & asked] == []


def test_every_metric_is_set_somewhere() -> None:
    used = {name for path in project_files("streamer/*.py") for name in re.findall(r"metrics\.([a-z_]+)", path.read_text())}
    assert declared().keys() - used - {"build"} == set()  # which says what runs by itself


@pytest.mark.parametrize("role", ROLES)
def test_what_alerts_count_is_there_before_it_happens_for_the_first_time(role: str) -> None:
    registry = Metrics(role).registry
    assert registry.get_sample_value("streamer_retries_total", {"stage": role}) == 0
    assert {registry.get_sample_value("streamer_deadletters_total", {"stage": role, "reason": reason}) for reason in Reason} == {0}


def test_every_alert_is_seen_to_fire_and_not_to_fire_and_says_what_to_do() -> None:
    alerts = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
    tests = yaml.safe_load((DEPLOY / "prometheus" / "rules_test.yml").read_text())["tests"]
    seen = {(check["alertname"], bool(check["exp_alerts"])) for test in tests for check in test["alert_rule_test"]}
    assert seen == {(name, fires) for name in alerts for fires in (True, False)}
    assert all(rule["labels"]["severity"] in ("critical", "warning") and rule["annotations"]["action"] for rule in alerts.values())


def test_the_readme_lists_every_alert_in_the_order_of_the_rules() -> None:
    alerts = [rule["alert"] for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
    assert re.findall(r"^\| (Streamer\w+) \|", (DEPLOY.parent / "README.md").read_text(), re.M) == alerts


def test_alertmanager_names_only_alerts_that_exist() -> None:
    alerts = {rule["alert"] for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
    named = set(re.findall(r"Streamer\w+", (DEPLOY / "alertmanager" / "alertmanager.yml").read_text()))
    assert named and named <= alerts


def test_every_role_is_scraped_where_it_listens() -> None:
    port = load(DEPLOY / "docker" / "streamer.yaml").health.port
    [job] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"][0]["targets"] == [f"{role}:{port + number}" for number, role in enumerate(ROLES)]


def test_the_dashboard_shows_every_stage_and_asks_the_provisioned_source() -> None:
    sources = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"]
    used = {target["datasource"]["uid"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])}
    assert used == {source["uid"] for source in sources}


def test_the_dashboard_has_the_shape_that_grafana_reads() -> None:
    panels = DASHBOARD["panels"]
    assert DASHBOARD["schemaVersion"] >= 36 and DASHBOARD["uid"] and DASHBOARD["title"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        refs = [target["refId"] for target in panel.get("targets", [])]
        assert panel["type"] == "row" or (refs and panel["description"] and panel["fieldConfig"]["defaults"]["unit"]), panel["title"]
        assert len(set(refs)) == len(refs), panel["title"]


def test_no_panel_lies_on_another_or_off_the_grid() -> None:
    taken = Counter[tuple[int, int]]()
    for place in (panel["gridPos"] for panel in DASHBOARD["panels"]):
        taken.update((x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"]))
    assert max(taken.values()) == 1
    assert max(x for x, _ in taken) == 23


def test_every_query_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(dashboard_expressions())]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    run_tool("promtool", "check", "rules", str(path))
