"""What is missed stands first; the same findings give the same bytes; JSON holds all of it."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from math import inf
from pathlib import Path

import pytest

from models.classes import LABELS
from models.evaluation.aims import judge
from models.evaluation.findings import ClassTrack, Figure, Findings, MethodTrack, Point, Rate, StreamTrack, read, text
from models.evaluation.plots import draw, strength
from models.evaluation.report import JSON, MARKDOWN, render, write
from models.evaluation.tables import markdown
from tests.models.evaluation.findings_builders import compared, condition, findings, singles

CONDITIONS = [condition("clean"), condition("frames+audio", left=("frames", "audio")), condition("snr_m5"), condition("shift_0_5")]


def streams(per_hour: float, *, hours: float = 6.5) -> StreamTrack:
    rate = Rate(count=per_hour * hours, hours=hours, per_hour=per_hour, low=per_hour / 2, high=per_hour * 2)
    classes = tuple(
        ClassTrack(
            label=name,
            events=9,
            alarms=rate,
            recall=Figure(mean=0.75, spread=0.01, low=0.5, high=0.875),
            calibrated=rate,
            p50_s=1.5,
            p95_s=3.0,
            missed=2.25,
            curve=(Point(recall=0.5, per_hour=0.0), Point(recall=1.0, per_hour=per_hour)),
        )
        for name in LABELS
    )
    return StreamTrack(
        wanted=0.8, event_hours=2.0, negative_hours=hours, methods=(MethodTrack(method="gated", seeds=(1, 3), classes=classes),)
    )


@pytest.fixture(scope="module")
def good() -> Findings:
    comparison = compared({"gated": inf, "log_odds": 1.0, "product": 0.5, **singles(0.5, 1.0, 0.0)}, CONDITIONS, resamples=20)
    return findings(comparison, streams(0.25))


@pytest.fixture(scope="module")
def bad() -> Findings:
    comparison = compared({"gated": 0.5, "log_odds": 2.0, "product": 0.5, **singles(0.5, inf, 0.0)}, CONDITIONS, resamples=20)
    return findings(comparison, streams(4.0))


def part(report: str, start: str, end: str) -> str:
    return report.split(start)[1].split(end)[0]


def test_report_json_round_trips(good: Findings) -> None:
    once = text(good)
    assert text(read(once)) == once
    kept = read(once)
    assert kept.comparison.cell("log_odds", "clean").map.mean == round(good.comparison.cell("log_odds", "clean").map.mean, 4)
    assert kept.origin == good.origin and kept.stream == good.stream


def test_report_json_is_plain_ordered_and_says_what_it_is_made_from(good: Findings) -> None:
    data = json.loads(text(good), parse_constant=pytest.fail)
    assert list(data) == ["origin", "comparison", "stream", "note"]
    assert "composed from real recordings" in data["note"]
    assert list(data["origin"]["digests"]) == ["clips", "recordings"]
    assert data["origin"]["date"] == "2026-11-26"
    assert data["comparison"]["cells"][0]["seeds"] == [1, 3]
    assert data["comparison"]["cells"][0]["auroc"]["low"] is None


def test_what_is_no_report_is_refused_with_the_place(good: Findings) -> None:
    data = json.loads(text(good))
    data["comparison"]["resamples"] = "many"
    with pytest.raises(ValueError, match=r"comparison\.resamples"):
        read(json.dumps(data))
    del data["comparison"]
    with pytest.raises(ValueError, match="missing required field `comparison`"):
        read(json.dumps(data))


def test_missed_aims_stand_first_and_are_named(bad: Findings) -> None:
    report = markdown(bad, plots={})
    first = part(report, "## What is missed", "### Aims that are met")
    for name in ("Dominance gap", "Joint classes", "False alarms"):
        assert f"**{name}: missed.**" in first
    assert "log_odds is " in first and "clean: only:audio has 100.0" in first
    assert report.index("## What is missed") < report.index("## Mean AP by condition")


def test_an_aim_that_is_met_is_not_said_to_be_missed(good: Findings) -> None:
    report = markdown(good, plots={})
    assert "No aim is missed." in part(report, "## What is missed", "### Where")
    assert "No method is ahead of it" in part(report, "### Where", "### Aims")
    assert all(aim.met for aim in judge(good))


def test_an_aim_without_the_data_to_judge_it_is_missed(good: Findings) -> None:
    nothing = dataclasses.replace(good, stream=StreamTrack(wanted=0.8, event_hours=0, negative_hours=0, methods=()))
    short = dataclasses.replace(good, stream=streams(0.25, hours=5.9))
    unknown = dataclasses.replace(good, stream=streams(float("nan")))
    for one, words in ((nothing, "not measured"), (short, "over 5.9 h"), (unknown, "no event of glass_break, gunshot")):
        aim = next(each for each in judge(one) if each.name == "False alarms")
        assert not aim.met and words in aim.found


def test_an_aim_that_only_the_figure_meets_is_doubted(good: Findings) -> None:
    aim = next(each for each in judge(dataclasses.replace(good, stream=streams(0.75))) if each.name == "False alarms")
    assert aim.met and not aim.sure
    assert "Its interval reaches beyond the aim" in markdown(dataclasses.replace(good, stream=streams(0.75)), plots={})


def test_every_method_condition_and_class_is_in_the_tables(good: Findings) -> None:
    report = markdown(good, plots={})
    head = next(line for line in report.splitlines() if line.startswith("| condition"))
    assert [name for name in good.comparison.methods if f"| {name} " in head] == list(good.comparison.methods)
    for name in (*good.comparison.conditions, *LABELS):
        assert f"\n| {name} |" in report
    for line in ("`compare --seeds 3,1` on 2 cores", "| test | 40 | 480 | 40 | sounds, pictures |", "- clips: `aaaa"):
        assert line in report
    assert not re.search(r"\bnan\b", report)


def test_files_are_the_same_bytes_again_and_small(good: Findings, tmp_path: Path) -> None:
    first, again = write(good, tmp_path / "a"), write(good, tmp_path / "b")
    assert [path.name for path in first] == [
        JSON, MARKDOWN, "conditions.svg", "strength.svg", "gap.svg", "reliability.svg", "alarms.svg",
    ]  # fmt: skip
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
        assert one.suffix != ".svg" or one.stat().st_size < 200_000
    before = (tmp_path / "a" / MARKDOWN).read_text()
    assert all(f"]({path.name})" in before for path in first[2:])
    (tmp_path / "a" / MARKDOWN).unlink()
    render(tmp_path / "a")
    assert (tmp_path / "a" / MARKDOWN).read_text() == before


def test_without_matplotlib_the_error_says_what_to_install(good: Findings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'streamer\[training\]'"):
        draw(good, tmp_path)


@pytest.mark.parametrize(
    "name, found",
    [("snr_m5", ("snr", -5.0)), ("wer_10", ("wer", 10.0)), ("shift_0_5", ("shift", 0.5)), ("shift_2", ("shift", 2.0)), ("clean", None)],
)
def test_a_condition_s_name_tells_its_strength(name: str, found: tuple[str, float] | None) -> None:
    assert strength(name) == found
