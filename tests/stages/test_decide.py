"""Named cases of decide; the laws are in test_decide_laws.py."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from streamer import ids
from streamer.events import Alert, AlertState, Micros, Pace, Scores, SessionMark, Severity, Silence
from streamer.rules import Rules
from streamer.stages.decide import Decider
from streamer.stages.memory import MAX_EXPLANATION
from tests.builders_decide import HOUSE, SETTINGS, at, mark, rules, scores

UPGRADE = {"class": "call_for_help", "threshold": 0.5, "severity": "critical"}


def run(records: Iterable[Scores | SessionMark], which: Rules, decider: Decider | None = None, first: int = 0) -> list[Alert]:
    decider = decider or Decider(which, SETTINGS)
    return [a for n, r in enumerate(records, first) for a in decider.push(r, arrival=at(1_000 + n), offset=n)]


def line(values: Iterable[float], first: int = 10) -> list[Scores]:
    return [scores(first + n, value) for n, value in enumerate(values)]


def states(alerts: Iterable[Alert]) -> list[str]:
    return [a.state.value for a in alerts]


def test_a_blip_shorter_than_the_duration_makes_no_alert() -> None:
    assert run(line([0, 0.9, 0.9, 0, 0]), rules(duration="3s")) == []


def test_an_episode_is_raised_when_it_has_lasted_and_resolved_after_two_quiet_windows() -> None:
    alerts = run(line([0, 0.9, 0.9, 0.9, 0, 0]), rules(duration="3s"))
    assert states(alerts) == ["raised", "resolved"]
    assert (alerts[0].start, alerts[0].end, alerts[0].at) == (at(11), at(15), at(1_003))
    assert alerts[0].id == alerts[1].id == ids.alert_id("siren", HOUSE, at(11))
    assert [a.revision for a in alerts] == [0, 1]


def test_a_broken_run_starts_its_duration_anew() -> None:
    assert run(line([0.9, 0.9, 0, 0.9, 0.9, 0, 0.9]), rules(duration="3s")) == []


def test_between_the_thresholds_an_episode_stays_open_but_does_not_open() -> None:
    assert run(line([0.4, 0.4, 0.4]), rules()) == []
    assert states(run(line([0.6, 0.4, 0.4, 0.4, 0.4]), rules())) == ["raised"]


def test_one_quiet_window_resolves_nothing() -> None:
    assert states(run(line([0.9, 0, 0.9, 0, 0.9]), rules())) == ["raised"]


def test_what_a_revision_changes_behind_a_sessions_silence_is_said_though_no_record_may_ever_follow() -> None:
    alerts = run([scores(10, 0.4), scores(11, 0.9), mark(13), scores(10, 0.9, revision=1)], rules())
    assert [(a.state.value, a.start) for a in alerts] == [("raised", at(11)), ("resolved", at(11)), ("resolved", at(10))]


def test_windows_without_a_score_count_as_quiet_once_a_later_one_has_its_score() -> None:
    assert states(run([scores(10, 0.9), scores(13, 0.0)], rules())) == ["raised", "resolved"]


def test_idle_resolves_an_open_episode_and_what_goes_on_reopens_it() -> None:
    alerts = run([scores(10, 0.9), mark(10.5), scores(11, 0.8), scores(12, 0.8), mark(20)], rules())
    assert states(alerts) == ["raised", "resolved", "raised", "resolved"]
    assert len({a.id for a in alerts}) == 1 and alerts[-1].end == at(14)


def test_a_revision_below_the_threshold_retracts_what_was_sent_and_shows_what_stands_now() -> None:
    alerts = run([scores(10, 0.9), scores(10, 0.1, revision=1)], rules())
    assert states(alerts) == ["raised", "retracted"]
    assert alerts[1].score == 0.1 and alerts[1].revision == 1


def test_a_retracted_alert_comes_back_under_its_id() -> None:
    alerts = run([scores(10, 0.9), scores(10, 0.1, revision=1), scores(10, 0.9, revision=2)], rules())
    assert states(alerts) == ["raised", "retracted", "raised"] and {a.revision for a in alerts if a.id == alerts[0].id} == {0, 1, 2}


def test_a_late_word_upgrades() -> None:
    records = [scores(10, 0.9), scores(11, 0.1), scores(10, 0.9, revision=1, call_for_help=0.7, quote="help")]
    alerts = run(records, rules(upgrade=UPGRADE))
    assert states(alerts) == ["raised", "upgraded"]
    assert [a.severity for a in alerts] == [Severity.WARNING, Severity.CRITICAL]
    assert alerts[1].evidence.quotes[0].text == "help"


def test_a_severity_never_falls() -> None:
    records: list[Scores | SessionMark] = [scores(10, 0.9, call_for_help=0.7), scores(10, 0.9, revision=1), mark(20)]
    assert {a.severity for a in run(records, rules(upgrade=UPGRADE))} == {Severity.CRITICAL}


def test_a_second_threshold_of_its_own_class_upgrades() -> None:
    alerts = run(line([0.55, 0.95]), rules(upgrade={"threshold": 0.9, "severity": "critical"}))
    assert states(alerts) == ["raised", "upgraded"]


def test_an_alert_that_late_words_raise_is_raised_at_once_and_resolved_once() -> None:
    """A batch of revisions of windows that are over already, one record each."""
    help_ = rules(**{"id": "help", "class": "call_for_help"})
    for newest in (12, 14, 20):
        quiet = [scores(n) for n in range(8, newest + 1)]
        words = [scores(n, revision=1, call_for_help=0.9, quote="help") for n in (10, 11, 12, 13) if n < newest]
        alerts = run([*quiet, *words, scores(newest + 1), scores(newest + 2)], help_)
        assert states(alerts) == ["raised", "resolved"]
        assert alerts[0].at == at(1_000 + len(quiet)) and alerts[1].end == at(min(13, newest - 1) + 2)


def test_a_resolved_alert_that_goes_on_is_raised_again() -> None:
    alerts = run([*line([0.9, 0, 0]), scores(12, 0.9, revision=1), *line([0.9, 0, 0], 13)], rules())
    assert states(alerts) == ["raised", "resolved", "raised", "resolved"]
    assert len({a.id for a in alerts}) == 1 and (alerts[-1].start, alerts[-1].end) == (at(10), at(15))


def test_a_window_that_is_quiet_does_not_reopen_what_idle_resolved() -> None:
    assert states(run([scores(10, 0.9), mark(10.5), scores(11), scores(12), scores(13)], rules())) == ["raised", "resolved"]


def test_words_for_a_resolved_alert_are_told_once_on_the_next_window() -> None:
    words = [scores(10, 0.9, revision=n, quote=text) for n, text in enumerate(["help", "help me", "help"], 1)]
    alerts = run([*line([0.9, 0, 0]), *words, scores(13), *(scores(10, 0.9, revision=n, quote="me") for n in (4, 5)), scores(14)], rules())
    assert states(alerts) == ["raised", "resolved", "resolved"]
    assert alerts[2].evidence.quotes[0].text == "help" and alerts[2].at == at(1_006)


def test_words_for_a_resolved_alert_are_told_by_the_next_mark_where_no_window_follows() -> None:
    alerts = run([*line([0.9, 0, 0]), mark(12), scores(10, 0.9, revision=1, quote="help"), mark(12)], rules())
    assert states(alerts) == ["raised", "resolved", "resolved"] and alerts[2].evidence.quotes


@pytest.mark.parametrize("pace", Pace)
def test_the_peak_of_a_resolved_alert_is_told_in_steps_and_exactly_at_the_end(pace: Pace) -> None:
    peaks = [scores(10, 0.8 + 0.02 * n, revision=n, pace=pace) for n in (1, 2, 3, 4, 5, 6)]
    windows = [scores(20 + n, pace=pace) for n in range(7)]
    mixed = [record for pair in zip(peaks, windows, strict=False) for record in pair]
    first = [scores(10 + n, value, pace=pace) for n, value in enumerate([0.8, 0, 0])]
    alerts = run([*first, *mixed, mark(30, pace=pace), mark(30, Silence.END, pace=pace)], rules())
    assert [(a.state.value, round(a.score, 2)) for a in alerts] == [
        ("raised", 0.8),
        ("resolved", 0.8),
        ("resolved", 0.9),
        ("resolved", 0.92),
    ]


def test_late_words_that_change_no_score_are_told_once() -> None:
    records = [scores(10, 0.9), scores(10, 0.9, revision=1, quote="help"), scores(11, 0.9, quote="me")]
    assert states(run(records, rules())) == ["raised", "updated"]


def test_a_rising_peak_is_told_in_steps() -> None:
    alerts = run(line([0.5, 0.51, 0.59, 0.61, 0.69, 0.72]), rules())
    assert [(a.state.value, a.score) for a in alerts] == [("raised", 0.5), ("updated", 0.61), ("updated", 0.72)]


@pytest.mark.parametrize(("second", "expected"), [(20, 1), (41, 1), (50, 2)])
def test_a_cooldown_hides_what_comes_soon_after(second: int, expected: int) -> None:
    records = [scores(10, 0.9), scores(15, 0.0), scores(second, 0.9), scores(second + 5, 0.0)]
    assert len({a.id for a in run(records, rules(cooldown="32s"))}) == expected


def test_what_outlasts_the_cooldown_is_told_then() -> None:
    alerts = run([scores(10, 0.9), scores(15, 0.0), *line([0.9] * 20, 20)], rules(cooldown="20s"))
    assert states(alerts) == ["raised", "resolved", "raised"]
    assert alerts[2].start == at(20) and alerts[2].end > at(12 + 20)


def test_a_cooldown_never_hides_a_higher_severity() -> None:
    records = [scores(10, 0.9), scores(15, 0.0), scores(20, 0.9, call_for_help=0.9)]
    alerts = run(records, rules(cooldown="60s", upgrade=UPGRADE))
    assert [a.severity.value for a in alerts] == ["warning", "warning", "critical"] and alerts[2].state is AlertState.RAISED


def test_a_retraction_releases_no_cooldown() -> None:
    records = [scores(10, 0.9), scores(10, 0.0, revision=1), scores(20, 0.9)]
    assert states(run(records, rules(cooldown="60s"))) == ["raised", "retracted"]


def test_an_episode_that_grows_backwards_keeps_its_id() -> None:
    alerts = run([scores(10, 0.0), scores(11, 0.9), scores(10, 0.95, revision=1), mark(20)], rules())
    assert {a.id for a in alerts} == {ids.alert_id("siren", HOUSE, at(11))}
    assert states(alerts) == ["raised", "resolved"] and alerts[-1].start == at(10)


def test_an_episode_that_moved_inherits_the_id() -> None:
    records: list[Scores | SessionMark] = [*line([0.9, 0.9, 0.9]), scores(10, 0.0, revision=1), mark(20)]
    alerts = run(records, rules())
    assert {a.id for a in alerts} == {ids.alert_id("siren", HOUSE, at(10))} and alerts[-1].start == at(11)


def test_two_alerts_that_turn_out_to_be_one_leave_one() -> None:
    records = [*line([0.9, 0, 0, 0, 0.9, 0.0, 0.0]), *(scores(10 + n, 0.9, revision=1) for n in (1, 2, 3)), mark(20)]
    final = {a.id: a for a in run(records, rules())}
    left = [a for a in final.values() if a.state is not AlertState.RETRACTED]
    assert len(final) == 2 and [(a.start, a.end) for a in left] == [(at(10), at(16))]


def test_an_older_or_equal_revision_changes_nothing() -> None:
    records = [scores(10, 0.1, revision=2), scores(10, 0.9, revision=1), scores(10, 0.9, revision=2)]
    assert run(records, rules()) == []


def test_beyond_the_horizon_nothing_is_retracted() -> None:
    alerts = run([scores(10, 0.9), scores(13, 0.0), scores(400, 0.0), scores(10, 0.0, revision=1)], rules())
    assert states(alerts) == ["raised", "resolved"]


def test_an_episode_longer_than_the_horizon_stays_one_alert_with_its_peak() -> None:
    alerts = run([scores(10, 0.95), *line([0.9] * 500, 11), mark(600)], rules())
    assert states(alerts) == ["raised", "resolved"]
    last = alerts[-1]
    assert (last.start, last.end, last.score, last.window) == (at(10), at(512), 0.95, scores(10).window)
    assert last.evidence.sounds and last.sources


def test_a_recorded_session_freezes_what_align_cannot_revise_and_all_at_its_end() -> None:
    recorded = [scores(10, 0.9, pace=Pace.RECORDED), scores(100_000, 0.0, pace=Pace.RECORDED)]
    decider = Decider(rules(), SETTINGS)
    run(recorded, rules(), decider)
    assert states(run([scores(10, 0.0, revision=1, pace=Pace.RECORDED)], rules(), decider, 2)) == ["retracted"]
    run([mark(100_010, Silence.END, pace=Pace.RECORDED)], rules(), decider, 3)
    assert run([scores(10, 0.9, revision=2, pace=Pace.RECORDED)], rules(), decider, 4) == []
    assert decider.beyond == 1
    run([scores(10, 0.9, pace=Pace.RECORDED), scores(200_000, pace=Pace.RECORDED)], rules(), late := Decider(rules(), SETTINGS))
    assert run([scores(10, 0.0, revision=1, pace=Pace.RECORDED)], rules(), late, 2) == [] and late.beyond == 1


def test_words_that_come_thousands_of_windows_late_still_count_in_a_recorded_session() -> None:
    help_ = rules({"id": "help", "class": "call_for_help", "threshold": 0.5})
    decider = Decider(help_, SETTINGS)
    run((scores(n, 0.6, pace=Pace.RECORDED) for n in range(6_000)), help_, decider)
    words = scores(3, 0.6, revision=1, pace=Pace.RECORDED, call_for_help=0.9, quote="help")
    alerts = run([words], help_, decider, 6_000)
    assert [(a.rule, a.state.value, a.start) for a in alerts] == [("siren", "updated", at(0)), ("help", "raised", at(3))]
    assert (decider.beyond, decider.forced) == (0, 0)


@pytest.mark.parametrize("pace", Pace)
@pytest.mark.parametrize("quiet", [0, 3_000])
def test_an_alert_of_a_long_episode_keeps_its_evidence_its_words_and_what_they_add(pace: Pace, quiet: int) -> None:
    """More windows than details are held; live, with a horizon that holds more of them too."""
    wide = type(SETTINGS)(hop=SETTINGS.hop, horizon=Micros(4_000 * SETTINGS.hop))
    loud = [scores(10, 0.95, pace=pace, quote="fire"), *(scores(n, 0.9, pace=pace) for n in range(11, 600))]
    records = [*loud, *(scores(600 + n, pace=pace) for n in range(quiet)), mark(600 + quiet, Silence.END, pace=pace)]
    for alert in run(records, rules(), Decider(rules(), wide)):
        assert (alert.window, alert.contributions) == (scores(10).window, {"audio": 0.95})
        assert alert.sources == scores(10).sources and alert.evidence.sounds[0].start == at(10)
        assert [quote.text for quote in alert.evidence.quotes] == ["fire"]


def test_the_peak_of_an_episode_that_was_not_told_yet_keeps_its_evidence() -> None:
    """The cooldown hides it for longer than details are held."""
    records = [scores(0, 0.9), scores(3), scores(10, 0.95, quote="fire"), *line([0.9] * 600, 11)]
    for settings in (SETTINGS, type(SETTINGS)(hop=SETTINGS.hop, horizon=Micros(4_000 * SETTINGS.hop))):
        alerts = run(records, rules(cooldown="500s"), Decider(rules(cooldown="500s"), settings))
        assert states(alerts) == ["raised", "resolved", "raised"]
        assert (alerts[2].window, alerts[2].score, alerts[2].sources) == (scores(10).window, 0.95, scores(10).sources)


def test_a_peak_without_evidence_replaces_no_evidence() -> None:
    """The peak falls, and what is the peak then lost its evidence long ago."""
    wide = type(SETTINGS)(hop=SETTINGS.hop, horizon=Micros(4_000 * SETTINGS.hop))
    records = [
        *line([0.8, *[0.6] * 500]),
        scores(400, 0.95, revision=1),
        scores(400, 0.6, revision=2),
        scores(511),
        scores(512),
        scores(513),
    ]
    last = run(records, rules(), Decider(rules(), wide))[-1]
    assert (last.state, last.score, last.window) == (AlertState.RESOLVED, 0.8, scores(10).window)
    assert last.contributions and last.sources and last.evidence.sounds and last.explanation == "siren 0.8"


def test_an_alert_says_whether_its_score_is_calibrated_and_what_it_rests_on() -> None:
    (alert,) = run([scores(10, 0.9, quote="fire")], rules(title="Siren!"))
    assert not alert.calibrated and alert.model == "test-1" and alert.sources[0].topic == "audio"
    assert alert.contributions == {"audio": 0.9} and alert.evidence.quotes[0].text == "fire"


def test_an_alert_is_explained_as_the_window_was_that_it_shows_in_its_own_class_and_no_longer_than_may_be() -> None:
    raised, updated = run([scores(10, 0.6, scream=0.9), scores(11, 0.9, scream=0.9)], rules())
    assert (raised.explanation, updated.explanation) == ("siren 0.6", "siren 0.9")
    one = scores(10, 0.9)
    wordy = replace(one, classes={"siren": replace(one.classes["siren"], explanation="x" * 9_999)})
    assert len(run([wordy], rules())[0].explanation) == MAX_EXPLANATION


def test_scores_that_may_not_alert_raise_nothing_and_replace_nothing() -> None:
    mute = [replace(one, may_alert=False) for one in (scores(10, 0.9), scores(11, 0.0, revision=1))]
    assert run([mute[0], mark(12)], rules()) == []
    assert states(run([scores(11, 0.9), *mute, scores(12, 0.9)], rules())) == ["raised"]


def test_of_two_alerts_that_a_late_score_joins_the_one_that_is_frozen_stays() -> None:
    """Its first window was taken back, so it no longer holds the start that it was announced with; the other one does."""
    near = replace(SETTINGS, horizon=Micros(4 * SETTINGS.hop))
    first = [scores(14, 0.6), scores(15, 0.6), scores(14, 0.0, revision=1), *line([0, 0], first=16)]
    second = [scores(18, 0.0), scores(19, 0.6), scores(20, 0.0)]  # the window of 15 is beyond the horizon now
    bridge = scores(17, 0.4, revision=1)
    alerts = run([*first, *second, bridge, mark(1_000, Silence.END)], rules(), Decider(rules(), near))
    latest = {alert.id: alert for alert in alerts}
    older, younger = (latest[ids.alert_id("siren", HOUSE, at(start))] for start in (14, 19))
    assert (older.state, older.start, older.end) == (AlertState.RESOLVED, at(15), at(21))
    assert younger.state is AlertState.RETRACTED


def test_what_is_read_again_is_not_applied_again() -> None:
    """A restart reads from the oldest of a partition's sessions on: the others have had what comes."""
    decider = Decider(rules(), SETTINGS)
    records = [scores(10, 0.9), mark(12), scores(13, 0.9), scores(13, 0.8, revision=1)]
    run(records, rules(), decider)
    before = decider.state(HOUSE)
    for count in range(1, len(records) + 1):
        assert run(records[:count], rules(), decider) == []
        assert decider.state(HOUSE) == before
