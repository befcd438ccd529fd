"""The demo's arithmetic: what counts as fired, missed, wrong, and taken back."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from streamer.events import SECOND, Alert, AlertState, Micros, QuoteEvidence, Severity
from streamer.sources.scene import Expected
from streamer.story import Story, compare, problems, said, summary
from tests.builders import T0, an_alert, some_evidence

SCRIPT = (Expected(rule="glass", onset=30, within=3), Expected(rule="siren", onset=46, within=5))


def story(*alerts: Alert) -> Story:
    told = Story()
    for alert in alerts:
        told.add(alert)
    return told


def test_an_alert_of_the_rule_near_its_onset_fired() -> None:
    glass = an_alert(29, rule="glass")
    verdicts, wrong = compare(SCRIPT, story(glass), T0)
    assert [v.alert for v in verdicts] == [glass, None]
    assert wrong == []


def test_the_right_rule_at_the_wrong_time_is_missed_and_wrong() -> None:
    early = an_alert(10, rule="glass")
    verdicts, wrong = compare(SCRIPT, story(early), T0)
    assert verdicts[0].alert is None
    assert wrong == [early]


def test_a_second_alert_for_one_line_of_the_script_is_wrong() -> None:
    first, second = an_alert(30, rule="glass", id="a1"), an_alert(32, rule="glass", id="a2")
    verdicts, wrong = compare(SCRIPT, story(first, second), T0)
    assert verdicts[0].alert == first
    assert wrong == [second]


def test_what_was_taken_back_did_not_fire() -> None:
    raised = an_alert(30, rule="glass", id="a1", revision=0)
    taken_back = an_alert(30, rule="glass", id="a1", revision=1, state=AlertState.RETRACTED)
    verdicts, wrong = compare(SCRIPT, story(raised, taken_back), T0)
    assert verdicts[0].alert is None
    assert wrong == []


def test_delay_counts_from_the_true_onset_to_the_first_revision() -> None:
    raised = an_alert(30, rule="glass", id="a1", revision=0, at=Micros(T0 + 33 * SECOND))
    resolved = an_alert(30, rule="glass", id="a1", revision=1, at=Micros(T0 + 40 * SECOND), state=AlertState.RESOLVED)
    told = story(raised, resolved)
    verdicts, wrong = compare(SCRIPT, told, T0)
    table = summary(verdicts, wrong, told, T0, fast=False)
    assert [str(cell) for cell in table.columns[4].cells] == ["3.0 s", ""]


def shown(*alerts: Alert) -> str:
    told = story(*alerts)
    verdicts, wrong = compare(SCRIPT, told, T0)
    out = io.StringIO()
    Console(file=out, width=300, color_system=None).print(summary(verdicts, wrong, told, T0, fast=False))
    return out.getvalue()


def saying(text: str, start: float = 30, **change: object) -> Alert:
    evidence = some_evidence(start)
    quote = QuoteEvidence(text=text, similarity=0.9, start=evidence.quotes[0].start, end=evidence.quotes[0].end)
    return an_alert(start, evidence=dataclasses.replace(evidence, quotes=(quote,)), **change)


@pytest.mark.parametrize("text", ["[music] help", "[/music]", "[bold]x[/]", ":bomb: [red", "\\[x]"])
def test_words_in_brackets_are_words_and_not_markup(text: str) -> None:
    assert text in shown(saying(text, rule="glass"))
    assert text in shown(saying(text, 10, rule="glass"))
    assert text in said(saying(text), T0).plain


def test_a_line_says_when_how_grave_what_happened_and_why() -> None:
    parts = said(an_alert(30.5, rule="glass", severity=Severity.WARNING), T0).plain.split()
    assert parts[:2] == ["30.5", "s"]
    assert parts[2].count(":") == 2
    assert parts[3:5] == ["WARNING", "raised"]
    rest = " ".join(parts[5:])
    alert = an_alert()
    assert all(part in rest for part in (alert.session, "glass", "0.90", "uncalibrated", "[", "heard", "“"))


def test_an_upgrade_is_shown_as_an_upgrade_of_the_same_alert() -> None:
    raised = an_alert(30, rule="glass", id="a1", severity=Severity.WARNING)
    upgraded = an_alert(30, rule="glass", id="a1", revision=1, severity=Severity.CRITICAL, state=AlertState.UPGRADED)
    assert "CRITICAL upgraded" in said(upgraded, T0).plain
    assert story(raised, upgraded).final == [upgraded]


def test_a_run_that_ended_as_the_script_says_has_no_problem() -> None:
    told = story(an_alert(30, rule="glass"), an_alert(46, rule="siren", id="a2"))
    told.ended = True
    assert problems(*compare(SCRIPT, told, T0), told) == []


def test_every_problem_is_named() -> None:
    told = story(an_alert(30, rule="glass"), an_alert(10, rule="person", id="a2"))
    assert problems(*compare(SCRIPT, told, T0), told) == [
        "gave up before the session had ended",
        "missed siren",
        "1 not in the script (person)",
    ]
