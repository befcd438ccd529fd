"""Rules that change while a session goes on: what was judged by the old ones stays as it was told."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from streamer.events import Alert, Scores, SessionMark, Severity
from streamer.rules import Rules
from streamer.stages.decide import Decider
from tests.builders_decide import HOUSE, SETTINGS, at, having, mark, rules, scores

SCREAM = {"id": "other", "class": "scream", "threshold": 0.5, "cooldown": 0}
Part = tuple[Rules, list[Scores | SessionMark]]


def told(*parts: Part) -> list[Alert]:
    """Each part's records under its rules, with a restart before each."""
    alerts, offset, state = list[Alert](), 0, b""
    for which, records in parts:
        decider = Decider(which, SETTINGS)
        if state:
            decider.restore(state)
        for record in records:
            alerts += decider.push(record, arrival=at(1_000 + offset), offset=offset)
            offset += 1
        state = decider.state(HOUSE)
    return alerts


def said(alerts: Iterable[Alert]) -> list[tuple[str, str]]:
    return [(alert.rule, alert.state.value) for alert in alerts]


def test_a_window_that_lacks_what_a_rule_needs_counts_as_0_for_that_rule_alone() -> None:
    both = {"id": "both", "class": "siren", "threshold": 0.4, "cooldown": 0, "needs": ["audio", "frames"]}
    alone = [having(10, 0.9, "frames"), having(11, 0.9, "audio", "transcripts"), having(12, 0.0, "frames", "audio")]
    assert said(told((rules(both), [*alone, having(13, 0.0, "audio"), mark(20)]))) == [("siren", "raised"), ("siren", "resolved")]
    raised = told((rules(both), [having(10, 0.45, "transcripts", "audio", "frames")]))
    assert [(a.rule, a.label, a.score, a.explanation) for a in raised] == [("both", "siren", 0.45, "siren 0.45")] and raised[
        0
    ].contributions


def test_a_revision_that_brings_what_was_needed_raises_and_one_without_it_takes_back() -> None:
    which = rules(needs=["audio", "frames"])
    found = told((which, [having(10, 0.9, "frames"), having(10, 0.9, "frames", "audio", revision=1)]), (which, [having(11, 0, "audio")]))
    assert said(found) == [("siren", "raised")]
    less = [having(10, 0.9, "frames", revision=1), having(11, 0.0, "audio")]
    found = told((which, [having(10, 0.9, "frames", "audio")]), (which, less))
    assert said(found) == [("siren", "raised"), ("siren", "retracted")] and (found[-1].score, found[-1].explanation) == (0.0, "")


def test_in_what_order_needs_are_named_makes_no_other_rule() -> None:
    one, other = rules(needs=["audio", "frames", "audio"]), rules(needs=["frames", "audio"])
    assert one.digest == other.digest and one.rules[0].watched == other.rules[0].watched


def test_an_open_episode_goes_on_when_its_rule_needs_more_from_now_on() -> None:
    old = (rules(), [having(10, 0.9, "frames"), having(11, 0.9, "frames")])
    new = (rules(needs=["frames", "audio"]), [having(12, 0.9, "frames", "audio"), having(13, 0.9, "frames"), having(14, 0.9, "frames")])
    found = told(old, new)
    assert said(found) == [("siren", "raised"), ("siren", "resolved")] and found[-1].end == at(14)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8])
def test_what_an_old_rule_raised_is_not_retracted_by_a_new_one(threshold: float) -> None:
    old = (rules(), [scores(10, 0.6), scores(11), scores(12)])
    new = (rules(threshold=threshold, off_threshold=0.4), [scores(13), scores(14), scores(10, 0.55, revision=1), mark(20)])
    assert said(told(old, new))[:2] == [("siren", "raised"), ("siren", "resolved")]
    assert "retracted" not in {state for _, state in said(told(old, new))}


def test_a_new_rule_does_not_judge_what_is_past() -> None:
    old = (rules(), [scores(10, 0.4, scream=0.9), scores(11)])
    new = (rules(SCREAM, threshold=0.4, off_threshold=0.2), [scores(12), scores(13, 0.4, scream=0.9)])
    assert [(a.rule, a.start) for a in told(old, new)] == [("siren", at(13)), ("other", at(13))]


def test_an_open_episode_goes_on_under_the_new_thresholds() -> None:
    old = (rules(), [scores(10, 0.6), scores(11, 0.6)])
    goes_on = told(old, (rules(threshold=0.9, off_threshold=0.6), [scores(12, 0.6), scores(13, 0.5), scores(14, 0.5)]))
    assert said(goes_on) == [("siren", "raised"), ("siren", "resolved")] and goes_on[1].end == at(14)
    ends = told(old, (rules(threshold=0.9, off_threshold=0.7), [scores(12, 0.6), scores(13, 0.6)]))
    assert said(ends) == [("siren", "raised"), ("siren", "resolved")] and ends[1].end == at(13)


def test_an_old_window_does_not_upgrade_an_alert_by_a_new_rule() -> None:
    old = (rules(), [scores(10, 0.95), scores(11, 0.6)])
    new = rules(upgrade={"threshold": 0.9, "severity": "critical"})
    assert {a.severity for a in told(old, (new, [scores(12, 0.6), mark(20)]))} == {Severity.WARNING}
    assert told(old, (new, [scores(12, 0.92)]))[-1].severity is Severity.CRITICAL


def test_a_rule_that_is_not_changed_goes_on_as_if_nothing_had_happened() -> None:
    records: list[Scores | SessionMark] = [scores(10, 0.9), scores(11), scores(10, 0.0, revision=1), scores(12, 0.9), mark(20)]
    parts = [(rules(), records[:2]), (rules(SCREAM), records[2:4]), (rules(title="Siren!"), records[4:])]
    assert [(a.id, a.revision, a.state, a.start, a.end) for a in told(*parts)] == [
        (a.id, a.revision, a.state, a.start, a.end) for a in told((rules(), records))
    ]


def test_alerts_of_a_rule_that_is_gone_are_resolved() -> None:
    assert said(told((rules(SCREAM), [scores(10, scream=0.9)]), (rules(), [scores(11)]))) == [("other", "raised"), ("other", "resolved")]


def test_a_rule_that_comes_back_repeats_no_id_and_revision_and_knows_its_cooldown() -> None:
    with_it, without = rules({**SCREAM, "cooldown": "60s"}), rules()
    parts = [
        (with_it, [scores(10, scream=0.9)]),
        (without, [scores(11)]),
        (with_it, [scores(12), scores(13, scream=0.9), scores(10, scream=0.95, revision=1)]),
        (with_it, [scores(n, scream=0.9) for n in range(14, 100, 5)]),
        (with_it, [scores(100, scream=0.9), mark(120)]),
    ]
    alerts = told(*parts)
    assert len({(a.id, a.revision) for a in alerts}) == len(alerts)
    assert [a.start for a in alerts if a.state.value == "raised"] == [at(10), at(74)]


def test_a_rule_that_watches_another_class_starts_anew() -> None:
    old = (rules(), [scores(10, 0.9), scores(11, 0.9)])
    alerts = told(old, (rules(**{"class": "scream"}), [scores(12, 0.9), scores(13, scream=0.9)]))
    assert [(a.label, a.state.value) for a in alerts] == [("siren", "raised"), ("siren", "resolved"), ("scream", "raised")]
