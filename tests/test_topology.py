"""The one page that names stages and topics agrees with the README, with what is deployed, and with the code."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from streamer.config import AlignSettings, Config
from streamer.events import Modality
from streamer.topology import HOUR, PIPELINE, ROLES, STAGE, TOPIC, TOPICS, WEEK, Stage

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
OUTSIDE = {("ingest", "reads"): "cameras, files", ("deliver", "writes"): "sinks"}  # what is no topic, in the README's words
FOR_EVERY_STAGE = {"deadletter", "checkpoints"}
WAITING = {"feedback"}  # its writer (serve) and its reader (decide) come later; the topic is there because partitions are fixed for life


def table(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading of the README, without its head."""
    rows = [line for line in README.split(f"\n## {heading}\n", 1)[1].split("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def cells(stage: Stage) -> list[str]:
    reads = ", ".join(stage.reads) or OUTSIDE[stage.name, "reads"]
    writes = ", ".join(stage.writes) or OUTSIDE[stage.name, "writes"]
    return [stage.name, reads, writes, stage.state, stage.runs_as]


def test_the_table_of_the_readme_is_the_pipeline() -> None:
    assert table("The stages") == [cells(stage) for stage in PIPELINE]


def test_the_picture_in_the_readme_names_every_stage_and_every_topic_between_two() -> None:
    picture = README.split("```")[1]
    between = {topic for stage in PIPELINE for topic in stage.reads}
    assert {name for name in ROLES if not re.search(rf"\b{name}\b", picture.replace("encode │ infer", "infer"))} == set()
    assert set(re.findall(r"\[(\w+)\]", picture)) == between


def test_the_readme_says_a_paragraph_about_every_stage() -> None:
    assert [name for name in ROLES if f"**{name}**" not in README] == []


def test_every_topic_is_read_and_written_by_somebody_and_none_is_unknown() -> None:
    read = {topic for stage in PIPELINE for topic in stage.reads}
    written = {topic for stage in PIPELINE for topic in stage.writes}
    assert read | written | FOR_EVERY_STAGE | WAITING == set(TOPIC)
    assert read - written == set()
    assert written - read == {"late"}  # for people


def test_a_stage_reads_only_what_stages_before_it_write() -> None:
    written = set[str]()
    for stage in PIPELINE:
        assert set(stage.reads) <= written, stage.name
        written |= set(stage.writes)


@pytest.mark.parametrize("name", ROLES)
def test_every_stage_has_an_agent_of_its_name_that_can_be_run(name: str) -> None:
    assert callable(importlib.import_module(f"streamer.agents.{name}").run)


def test_what_is_aligned_has_a_topic_of_its_name() -> None:
    assert {modality.value for modality in Modality} == set(STAGE["align"].reads) <= set(TOPIC)


def test_names_differ_and_only_the_owner_s_topic_is_compacted() -> None:
    assert len(STAGE) == len(PIPELINE) and len(TOPIC) == len(TOPICS)
    assert [(topic.name, topic.key) for topic in TOPICS if topic.compacted] == [("checkpoints", "owner")]
    assert {topic.key for topic in TOPICS if not topic.compacted} == {"session"}


def test_media_are_kept_for_an_hour_and_the_rest_for_a_week_and_all_beyond_the_horizon() -> None:
    assert {topic.name: topic.retention for topic in TOPICS} == dict.fromkeys(TOPIC, WEEK) | {"frames": HOUR, "audio": HOUR}
    assert min(topic.retention for topic in TOPICS) > AlignSettings().horizon


def test_a_dead_letter_can_hold_the_largest_record() -> None:
    assert TOPIC["deadletter"].limit > max(topic.limit for topic in TOPICS if topic.name != "deadletter")
    assert all(topic.max_message_bytes > topic.limit for topic in TOPICS)


def test_compose_and_prometheus_know_every_role_at_its_port() -> None:
    services: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    [job] = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    port = Config().health.port
    assert [name for name, service in services.items() if service.get("command", [""])[0] == "role"] == list(ROLES)
    assert job["static_configs"][0]["targets"] == [f"{name}:{port + number}" for number, name in enumerate(ROLES)]
