"""Laws of decide (stages/decide.py, stages/episodes.py) as properties. Each test cites its law."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.events import Alert, AlertState, Micros, Scores, SessionMark, Silence
from streamer.stages.decide import Decider
from streamer.stages.episodes import Levels, Point, fold
from tests.builders_decide import HOP, HOUSE, SETTINGS, at, mark, rules, scores

LEVELS = Levels(threshold=0.5, stays=0.3, hop=HOP)
VALUES = st.sampled_from([0.0, 0.1, 0.3, 0.4, 0.5, 0.6, 0.9])
RULES = rules({"id": "long", "class": "scream", "threshold": 0.5, "duration": 2, "cooldown": 0}, duration="1s")


@st.composite
def histories(draw: st.DrawFn) -> list[list[Scores]]:
    """Windows with one to three revisions each; some windows have none."""
    found = []
    for second in range(draw(st.integers(1, 9))):
        values = draw(st.lists(st.tuples(VALUES, VALUES), max_size=3))
        found.append([scores(second, a, scream=b, revision=n) for n, (a, b) in enumerate(values)])
    return found


@st.composite
def two_orders(draw: st.DrawFn) -> tuple[list[Scores], list[Scores]]:
    """The same revisions in two arbitrary orders; one may lack what a later revision replaced."""
    history = draw(histories())
    every = [one for window in history for one in window]
    latest = {window[-1].start for window in history if window}
    kept = [one for one in every if one.start in latest and (one is history_last(history, one) or draw(st.booleans()))]
    return draw(st.permutations(every)), draw(st.permutations(kept))


def history_last(history: list[list[Scores]], one: Scores) -> Scores:
    return next(window[-1] for window in history if one in window)


def final(records: list[Scores]) -> set[tuple[object, ...]]:
    """What stands in the end, without the names it was given on the way."""
    last = {a.id: a for a in everything(records)}
    return {(a.rule, a.start, a.end, a.score, a.window, a.state) for a in last.values() if a.state is not AlertState.RETRACTED}


def everything(records: list[Scores], decider: Decider | None = None) -> list[Alert]:
    decider = decider or Decider(RULES, SETTINGS)
    fed: list[Scores | SessionMark] = [*records, mark(100, Silence.END)]
    return [a for n, record in enumerate(fed) for a in decider.push(record, arrival=at(200 + n), offset=n)]


@settings(max_examples=300, deadline=None)
@given(two_orders())
def test_the_order_of_windows_and_revisions_changes_nothing_in_the_end(orders: tuple[list[Scores], list[Scores]]) -> None:
    """Law 1."""
    assert final(orders[0]) == final(orders[1])


@settings(max_examples=150, deadline=None)
@given(histories().flatmap(lambda h: st.permutations([one for window in h for one in window])))
def test_what_stands_in_the_end_is_what_the_latest_revisions_show(records: list[Scores]) -> None:
    """Law 1, against the plain fold over the latest revisions."""
    newest: dict[int, Scores] = {}
    for one in records:
        if one.start not in newest or newest[one.start].revision < one.revision:
            newest[one.start] = one
    expected = set()
    for rule in RULES.rules:
        levels = Levels(threshold=rule.threshold, stays=rule.stays, hop=HOP)
        points = [Point(s.start, s.end, s.classes[rule.label].probability) for _, s in sorted(newest.items())]
        episodes = fold(points, levels)
        expected |= {(rule.id, e.start, e.end, e.peak) for e in episodes if e.longest * HOP >= rule.duration}
    assert {entry[:4] for entry in final(records)} == expected


@settings(max_examples=150, deadline=None)
@given(two_orders(), st.data())
def test_a_restart_anywhere_gives_the_same_alerts(orders: tuple[list[Scores], list[Scores]], data: st.DataObject) -> None:
    """Law 2 and 3: state and log may disagree by any number of records; what is read twice changes nothing."""
    records: list[Scores | SessionMark] = [*orders[0], mark(100, Silence.END)]
    whole = everything(orders[0])
    cut = data.draw(st.integers(0, len(records)))
    again = data.draw(st.integers(0, cut))
    first, second = Decider(RULES, SETTINGS), Decider(RULES, SETTINGS)
    before = [a for n, r in enumerate(records[:cut]) for a in first.push(r, arrival=at(200 + n), offset=n)]
    if cut:
        assert second.restore(first.state(HOUSE)) == HOUSE
    after = [a for n, r in enumerate(records) if n >= again for a in second.push(r, arrival=at(200 + n), offset=n)]
    assert before + after == whole


@settings(max_examples=150, deadline=None)
@given(two_orders())
def test_each_alert_is_told_in_revisions_without_a_gap(orders: tuple[list[Scores], list[Scores]]) -> None:
    """Law 4: ids are never drawn twice, a retraction follows something that stood."""
    told: dict[str, list[Alert]] = {}
    for a in everything(orders[0]):
        told.setdefault(a.id, []).append(a)
    for alerts in told.values():
        assert [a.revision for a in alerts] == list(range(len(alerts)))
        assert alerts[0].state is AlertState.RAISED
        for one, following in pairwise(alerts):
            assert (one.state is AlertState.RETRACTED) <= (following.state is AlertState.RAISED)


@settings(max_examples=100, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=40), st.integers(0, 30))
def test_freezing_changes_no_alert_of_an_ordered_stream(values: list[float], horizon: int) -> None:
    """Law 6 and law 5 of episodes: a short horizon gives what a long one gives."""
    short = Decider(RULES, type(SETTINGS)(hop=HOP, horizon=Micros(horizon * HOP)))
    assert everything([scores(n, v) for n, v in enumerate(values)], short) == everything([scores(n, v) for n, v in enumerate(values)])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.none(), VALUES), max_size=20), st.integers(0, 20))
def test_folding_in_two_steps_is_folding_at_once(values: list[float | None], cut: int) -> None:
    """Law 5 of episodes."""
    points = [Point(at(n), at(n + 2), v) for n, v in enumerate(values) if v is not None]
    head, tail = points[:cut], points[cut:]
    first = fold(head, LEVELS)
    carry = first.pop() if first else None
    assert first + fold(tail, LEVELS, carry=carry) == fold(points, LEVELS)


@settings(max_examples=200, deadline=None)
@given(st.lists(VALUES, max_size=20))
def test_a_higher_off_threshold_never_makes_an_episode_longer(values: list[float]) -> None:
    """Law 2 of episodes: hysteresis only joins."""
    points = [Point(at(n), at(n + 2), v) for n, v in enumerate(values)]
    strict = fold(points, Levels(threshold=0.5, stays=0.5, hop=HOP))
    loose = fold(points, LEVELS)
    assert len(loose) <= len(strict)
    for episode in strict:
        assert any(other.start <= episode.start and episode.last <= other.last for other in loose)
