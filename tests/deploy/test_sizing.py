"""The sizing page quotes what the code has."""

from __future__ import annotations

import re
from pathlib import Path

from streamer.config import AlignSettings, InferSettings, KafkaSettings, SourceSettings, parse_duration
from streamer.topology import HOUR, TOPICS, WEEK

PAGE = (Path(__file__).parents[2] / "deploy" / "SIZING.md").read_text("utf-8")


def row(name: str) -> list[str]:
    """The cells of the line that begins with `name`."""
    found = [line for line in PAGE.splitlines() if line.startswith(f"| {name} |")]
    assert len(found) == 1, name
    return [cell.strip() for cell in found[0].strip("|").split("|")]


def micros(text: str) -> list[int]:
    """ "2 s, 1 s" -> microseconds."""
    return [parse_duration(part.replace(" ", "")) for part in text.split(",")]


def test_quoted_defaults_are_the_defaults() -> None:
    align, kafka = AlignSettings(), KafkaSettings()
    assert int(row("`kafka.partitions`")[1]) == kafka.partitions
    assert micros(row("`align.horizon`")[1]) == [align.horizon]
    assert micros(row("`align.length`, `align.hop`")[1]) == [align.length, align.hop]
    assert micros(row("`kafka.session_timeout`")[1]) == [kafka.session_timeout]
    assert int(row("`infer.cache_mb`")[1]) == InferSettings().cache_mb


def test_quoted_retentions_are_those_of_the_topics() -> None:
    assert micros(row("retention of `frames`, `audio`")[1]) == [HOUR]
    assert row("retention of all other topics")[1] == "7 d"
    media = {topic.retention for topic in TOPICS if topic.name in ("frames", "audio")}
    assert media == {HOUR}
    assert {topic.retention for topic in TOPICS} - media == {WEEK}


def test_the_session_of_the_page_is_a_default_source() -> None:
    source = SourceSettings(name="cam", url="rtsp://127.0.0.1/cam")
    found = re.search(r"(\d+) pictures\na second \((\d+) px wide, quality (\d+)\)", PAGE)
    assert found is not None
    assert [float(value) for value in found.groups()] == [source.fps, source.width, source.quality]


def test_rates_follow_from_the_constants() -> None:
    picture, chunk, head = (float(row(f"`{name}`")[1].split()[0]) for name in ("picture", "chunk", "head"))
    rate = 2 * (picture + head) + chunk + head
    assert row("into the broker")[2] == f"{rate:.0f} KB/s"
    assert row("out of the broker")[2] == f"{2 * rate + chunk + head:.0f} KB/s"
    assert row("disk, media")[2] == f"{rate * 3600 / 1e6:.2f} GB"
