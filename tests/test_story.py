"""The demo's arithmetic: what counts as fired, missed, wrong, and taken back."""

from __future__ import annotations

from streamer.events import SECOND, Alert, AlertState, Micros
from streamer.sources.scene import Expected
from streamer.story import Story, compare, summary
from tests.builders import T0, an_alert

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
    assert list(table.columns[4].cells) == ["3.0 s", ""]
