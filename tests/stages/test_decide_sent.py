"""Laws of what decide sends (stages/decide.py) as properties: revisions that come late, marks, restarts, a horizon in reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.events import SECOND, Alert, AlertState, Micros, Pace, Scores, SessionMark, Silence
from streamer.rules import RANK, Rules
from streamer.stages.decide import Decider, DecideSettings
from tests.builders_decide import HOP, HOUSE, at, mark, rules, scores

VALUES = st.sampled_from([0.0, 0.0, 0.4, 0.6, 0.75, 0.9])
UPGRADE = {"class": "call_for_help", "threshold": 0.5, "severity": "critical"}
Record = Scores | SessionMark
STEP = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """Records in the order in which they come, and what judges them."""

    records: list[Record]
    rules: Rules
    settings: DecideSettings


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Windows in order, each with revisions that come later; at times a mark; an end."""
    pace, horizon = draw(st.sampled_from(Pace)), draw(st.sampled_from([2, 4, 180]))
    told = list[tuple[float, int, Record]]()
    for second in draw(st.lists(st.integers(0, 14), unique=True, min_size=1, max_size=12)):
        for revision, delay in enumerate([0, *draw(st.lists(st.integers(0, horizon + 2), max_size=2))]):
            said, help_ = draw(st.sampled_from([None, None, "help"])), draw(st.sampled_from([0.0, 0.7]))
            one = scores(second, draw(VALUES), revision=revision, pace=pace, call_for_help=help_, quote=said)
            told.append((second + delay, revision, one))
        if draw(st.integers(0, 9)) == 0:
            told.append((second + 0.5, 0, mark(second + 1, pace=pace)))
    told.sort(key=lambda entry: entry[:2])
    which = rules(
        {"id": "long", "class": "siren", "threshold": 0.6, "duration": 2, "cooldown": draw(st.sampled_from([0, 5]))},
        cooldown=draw(st.sampled_from([0, 3, 6])),
        upgrade=draw(st.sampled_from([None, UPGRADE])),
    )
    wide = Micros(horizon * HOP)
    end = mark(1_000, Silence.END, pace=pace)
    return Story(
        records=[*(record for *_, record in told), end], rules=which, settings=DecideSettings(hop=HOP, horizon=wide, recorded=wide)
    )


def tell(story: Story, decider: Decider, first: int = 0) -> list[tuple[int, Alert]]:
    """What each record from `first` on causes, by its number."""
    fed = list(enumerate(story.records))[first:]
    return [(n, alert) for n, record in fed for alert in decider.push(record, arrival=at(2_000 + n), offset=n)]


def fresh(story: Story) -> Decider:
    return Decider(story.rules, story.settings)


def by_alert(told: Sequence[tuple[int, Alert]]) -> list[list[tuple[int, Alert]]]:
    found: dict[str, list[tuple[int, Alert]]] = {}
    for number, alert in told:
        found.setdefault(alert.id, []).append((number, alert))
    return list(found.values())


def occasion(story: Story, number: int) -> bool:
    record, before = story.records[number], [r.start for r in story.records[:number] if isinstance(r, Scores)]
    silent = max((r.at for r in story.records[:number] if isinstance(r, SessionMark)), default=0)
    return isinstance(record, SessionMark) or not before or record.start > max(before) or max(before) <= silent


@settings(max_examples=200, deadline=None)
@given(stories(), st.data())
def test_a_restart_anywhere_gives_the_same_alerts_also_where_windows_are_frozen(story: Story, data: st.DataObject) -> None:
    """Laws 2, 3 and 6."""
    cut = data.draw(st.integers(1, len(story.records)))
    first, second = fresh(story), fresh(story)
    before = [(n, a) for n, r in enumerate(story.records[:cut]) for a in first.push(r, arrival=at(2_000 + n), offset=n)]
    assert second.restore(first.state(HOUSE)) == HOUSE
    assert before + tell(story, second, data.draw(st.integers(0, cut))) == tell(story, fresh(story))


@settings(max_examples=200, deadline=None)
@given(stories())
def test_each_alert_is_told_in_revisions_without_a_gap_and_is_closed_in_the_end(story: Story) -> None:
    """Law 4, and the while of an alert: raised first, raised again after a retraction."""
    for alerts in by_alert(tell(story, fresh(story))):
        assert [a.revision for _, a in alerts] == list(range(len(alerts)))
        assert alerts[0][1].state is AlertState.RAISED and alerts[-1][1].state in (AlertState.RESOLVED, AlertState.RETRACTED)
        for (_, one), (_, following) in pairwise(alerts):
            assert (one.state is AlertState.RETRACTED) <= (following.state is AlertState.RAISED)
            assert (following.state is AlertState.RAISED) <= (one.state in (AlertState.RETRACTED, AlertState.RESOLVED))


@settings(max_examples=200, deadline=None)
@given(stories())
def test_a_new_alert_never_lies_within_the_cooldown_of_one_no_less_severe_and_no_severity_falls(story: Story) -> None:
    """Law 5."""
    cooldown = {rule.id: rule.cooldown for rule in story.rules.rules}
    told = tell(story, fresh(story))
    for place, (_, new) in enumerate(told):
        earlier = [a for _, a in told[:place] if a.rule == new.rule]
        if new.revision == 0 and cooldown[new.rule]:
            near = [a for a in earlier if new.end <= a.end + cooldown[new.rule] and new.start >= a.start - cooldown[new.rule]]
            assert all(RANK[a.severity] < RANK[new.severity] for a in near)
        assert all(RANK[a.severity] <= RANK[new.severity] for a in earlier if a.id == new.id)


@settings(max_examples=200, deadline=None)
@given(stories())
def test_what_left_the_horizon_is_never_retracted(story: Story) -> None:
    """Law 6."""
    for number, alert in tell(story, fresh(story)):
        if alert.state is AlertState.RETRACTED:
            known = [r.start for r in story.records[:number] if isinstance(r, Scores)]
            assert alert.end - 2 * SECOND not in {start for start in known if start < max(known) - story.settings.horizon}


@settings(max_examples=300, deadline=None)
@given(stories())
def test_the_revisions_of_an_alert_are_bounded(story: Story) -> None:
    """Law 7."""
    for alerts in by_alert(tell(story, fresh(story))):
        states = [a.state for _, a in alerts]
        assert states.count(AlertState.UPGRADED) <= 1
        for place, ((_, one), (number, following)) in enumerate(pairwise(alerts), 1):
            first_words = bool(following.evidence.quotes) and not any(a.evidence.quotes for _, a in alerts[:place])
            last = number == len(story.records) - 1
            if following.state is AlertState.UPDATED:
                assert following.score >= one.score + STEP or first_words
            if following.state is AlertState.RESOLVED:
                assert occasion(story, number)
            if one.state is following.state is AlertState.RESOLVED:
                moved = (one.start, one.end) != (following.start, following.end)
                assert moved or abs(one.score - following.score) >= STEP - 1e-9 or first_words or last
            if one.state is AlertState.RESOLVED and following.state is AlertState.RAISED:
                assert occasion(story, number) and following.end > one.end


@settings(max_examples=100, deadline=None)
@given(stories())
def test_words_of_what_stands_in_the_end_were_told(story: Story) -> None:
    """A late word confirms, upgrades or retracts: it reaches the operator."""
    if story.settings.horizon < 180 * HOP:
        return
    newest = {r.start: r for r in sorted((r for r in story.records if isinstance(r, Scores)), key=lambda r: r.revision)}
    quoted = [r.start for r in newest.values() if r.evidence.quotes and r.classes["siren"].probability >= 0.6]
    for alerts in by_alert(tell(story, fresh(story))):
        last = alerts[-1][1]
        if last.state is AlertState.RESOLVED and any(last.start <= start < last.end - SECOND for start in quoted):
            assert last.evidence.quotes or any(alert.evidence.quotes for _, alert in alerts)
