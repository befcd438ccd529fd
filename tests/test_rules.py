"""The rules file: defaults, refusals, digest, schema."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from jsonschema import Draft202012Validator

from models.classes import LABELS
from models.profiles import bundled_head
from models.verdict import calibration_of
from streamer.errors import ConfigError
from streamer.events import Severity
from streamer.rules import OFF_SHARE, SecurityClass, load_rules, parse_rules

SCHEMA = json.loads((files("streamer") / "schemas" / "rules.json").read_text(encoding="utf-8"))
GOOD: dict[str, Any] = {"id": "a", "class": "siren", "threshold": 0.5}
UPGRADE = {"class": "call_for_help", "threshold": 0.5, "severity": "critical"}


def valid(rules: Any) -> bool:
    return bool(Draft202012Validator(SCHEMA).is_valid(rules))


def test_the_schema_is_one_and_its_classes_are_the_models() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert tuple(SCHEMA["$defs"]["class"]["enum"]) == LABELS == get_args(SecurityClass)
    assert SCHEMA["$defs"]["severity"]["enum"] == [severity.value for severity in Severity]


def test_the_rules_that_ship_cover_every_class_but_glass_twice_and_fit_the_schema() -> None:
    text = (files("streamer") / "defaults" / "rules.yaml").read_text(encoding="utf-8")
    assert valid(yaml.safe_load(text))
    assert sorted(rule.label for rule in load_rules().rules) == sorted(set(LABELS) - {"breakage"})


def test_what_the_rules_that_ship_say_of_themselves_was_measured_of_them_and_of_the_head_that_ships() -> None:
    record = json.loads(max((Path(__file__).parent / "bench" / "results").glob("rules-*.json")).read_text("utf-8"))
    own = {one.name: one.threshold for one in calibration_of(bundled_head()).classes}
    measured = {row["rule"]: (row["threshold"], row["head's"]) for row in record["rows"]}
    assert measured == {rule.id: (rule.threshold, own[rule.label]) for rule in load_rules().rules}
    over = {row["rule"] for row in record["rows"] if row["calibration, false an hour"] > 1}
    assert over == {"gunshot", "footsteps"}
    text = (files("streamer") / "defaults" / "rules.yaml").read_text(encoding="utf-8")
    beside = {name: " ".join(said.replace("#", " ").split()) for said, name in re.findall(r"((?:^  #.*\n)+)^  - id: (.+)$", text, re.M)}
    for row in record["rows"]:
        for split in ("calibration", "test"):
            rate = row[f"{split}, false an hour"]
            wanted = rf"{row[split]}, {f'{rate:.1f}' if rate else 0}"
            assert re.search(rf"(?<![\d.]){wanted}(?!\.?\d)", beside[row["rule"]]), (row["rule"], wanted)


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"off_threshold": 0.5},
        {"duration": "2s", "cooldown": 3},
        {"duration": "1.5min", "title": "x", "severity": "info"},
        {"duration": "2000000us"},
        {"upgrade": UPGRADE},
        {"upgrade": {"threshold": 0.9, "severity": "critical"}},
        {"needs": ["frames", "audio"]},
        {"needs": None},
    ],
)
def test_a_rule_that_is_right_is_right_for_loader_and_schema(rule: dict[str, Any]) -> None:
    raw = {"rules": [GOOD | rule]}
    assert valid(raw) and parse_rules(raw).rules[0].id == "a"


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({"id": "no spaces"}, "rules.0.id"),
        ({"class": "dragon"}, "rules.0.class"),
        ({"threshold": 0}, "rules.0.threshold"),
        ({"threshold": 1.01}, "rules.0.threshold"),
        ({"threshold": "high"}, "rules.0.threshold"),
        ({"duration": "two seconds"}, "rules.0.duration"),
        ({"cooldown": -1}, "rules.0.cooldown"),
        ({"severity": "urgent"}, "rules.0.severity"),
        ({"title": ""}, "rules.0.title"),
        ({"colour": "red"}, "rules.0.colour"),
        ({"upgrade": {"threshold": 0.9}}, "rules.0.upgrade.severity"),
        ({"upgrade": UPGRADE | {"class": "dragon"}}, "rules.0.upgrade.class"),
        ({"needs": []}, "rules.0.needs"),
        ({"needs": ["smell"]}, "rules.0.needs.0"),
    ],
)
def test_a_wrong_field_is_named_and_the_schema_refuses_it_too(rule: dict[str, Any], field: str) -> None:
    raw = {"rules": [GOOD | rule]}
    assert not valid(raw)
    with pytest.raises(ConfigError, match=field.replace(".", r"\.")):
        parse_rules(raw)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"off_threshold": 0.6}, "off_threshold=0.6 is above threshold=0.5"),
        ({"severity": "critical", "upgrade": UPGRADE}, "must be above severity=critical"),
        ({"upgrade": {"threshold": 0.4, "severity": "critical"}}, "upgrade.threshold=0.4 must be above threshold=0.5"),
        ({"upgrade": {"class": "siren", "threshold": 0.4, "severity": "critical"}}, "upgrade.threshold=0.4"),
    ],
)
def test_what_only_the_loader_can_see_is_said_with_the_numbers(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_rules({"rules": [GOOD | rule]})


@pytest.mark.parametrize("raw", [None, [], {}, {"rules": []}, {"rules": {}}, {"version": 2, "rules": [GOOD]}])
def test_a_file_of_another_shape_is_refused(raw: Any) -> None:
    assert not valid(raw)
    with pytest.raises(ConfigError):
        parse_rules(raw)


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="rule ids must differ, twice: a"):
        parse_rules({"rules": [GOOD, GOOD]})


def test_the_version_is_of_the_content_not_of_the_layout() -> None:
    plain = parse_rules({"rules": [GOOD]})
    assert plain.digest == parse_rules({"rules": [GOOD | {"duration": "0s", "cooldown": "1min"}], "version": 1}).digest
    assert plain.digest != parse_rules({"rules": [GOOD | {"threshold": 0.51}]}).digest


def test_without_an_off_threshold_a_share_of_the_threshold_counts() -> None:
    assert parse_rules({"rules": [GOOD]}).rules[0].stays == OFF_SHARE * 0.5


@pytest.mark.parametrize(("content", "message"), [("a: [", "is not YAML"), ("rules: 3", "rules"), (None, "cannot read")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "my-rules.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message) as raised:
        load_rules(path)
    assert "my-rules.yaml" in str(raised.value)
