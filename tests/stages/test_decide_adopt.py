"""What other rules sent and no state knows (stages/adopt.py): it goes on, or is taken back, and never stays open for ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.events import Alert, AlertState, Scores, SessionMark, Silence
from streamer.rules import Rules
from streamer.stages.decide import Decider
from streamer.stages.memory import MAX_EXPLANATION
from tests import builders_decide as builders
from tests.builders_decide import HOUSE, SETTINGS, at, having, mark, rules, scores

Told = list[Scores | SessionMark]
SCREAM = {"id": "long", "class": "scream", "threshold": 0.5, "cooldown": 0}
QUIET = [scores(second) for second in range(11, 20)]


def push(decider: Decider, records: Sequence[Scores | SessionMark], first: int = 0) -> list[Alert]:
    return [a for n, record in enumerate(records, first) for a in decider.push(record, arrival=at(1_000 + n), offset=n)]


def killed(old: Rules, before: Told, behind: Told) -> tuple[bytes, list[Alert], list[Alert]]:
    """A worker that dies before it saves: its last state, what it had sent by then, and what it sent after it."""
    decider = Decider(old, SETTINGS)
    sent = push(decider, before)
    state = decider.state(HOUSE) if before else b""
    return state, sent, push(decider, behind, len(before))


def successor(new: Rules, state: bytes, behind: Sequence[Alert]) -> Decider:
    decider = Decider(new, SETTINGS)
    if state:
        decider.restore(state)
    decider.adopt(behind)
    return decider


def said(alerts: Sequence[Alert]) -> list[tuple[str, int, str]]:
    return [(a.rule, a.revision, a.state.value) for a in alerts]


def test_what_new_rules_do_not_find_is_retracted() -> None:
    state, _, behind = killed(rules(), [scores(8), scores(9)], [scores(10, 0.9)])
    decider = successor(rules(threshold=0.95), state, behind)
    found = push(decider, [scores(10, 0.9), *QUIET, mark(30)], 2)
    assert said(behind) == [("siren", 0, "raised")] and said(found) == [("siren", 1, "retracted")]
    assert found[0].id == behind[0].id and found[0].at == at(1_002 + 1)


def test_behind_a_silence_it_is_not_taken_back_before_its_windows_were_read() -> None:
    """A late word for a window before the silence is an occasion; the alert is of windows after it."""
    state, _, behind = killed(rules(threshold=0.45), [scores(10, 0.4), scores(11), mark(13)], [scores(20, 0.9), scores(21, 0.9)])
    decider = successor(rules(), state, behind)
    word = scores(10, 0.41, revision=1)
    found = push(decider, [word, scores(20, 0.9), scores(21, 0.9), scores(22), scores(23)], 3)
    assert said(behind) == [("siren", 0, "raised")] and said(found) == [("siren", 1, "resolved")]


def test_what_its_rule_needs_is_taken_to_be_what_ours_needs() -> None:
    """A state by rules that knew the class, and not this rule: windows that lack what it needs are no part of its alert."""
    plain = {"id": "plain", "class": "siren", "threshold": 0.5, "cooldown": 0}
    both = {"id": "both", "class": "siren", "cooldown": 0, "needs": ["audio", "frames"]}
    early, late = (
        [having(10, 0.95, "audio"), having(11, 0.95, "audio")],
        [having(12, 0.6, "audio", "frames"), having(13, 0.6, "audio", "frames")],
    )
    first = Decider(rules(**plain), SETTINGS)
    push(first, early)
    second = Decider(rules(**both, threshold=0.4), SETTINGS)
    second.restore(first.state(HOUSE))
    behind = [alert for alert in push(second, late, 2) if alert.rule == "both"]
    found = push(successor(rules(**both, threshold=0.45), first.state(HOUSE), behind), [*late, mark(20)], 2)
    assert [(a.rule, a.start, a.score) for a in behind] == [("both", at(12), 0.6)]
    assert {(a.start, a.score) for a in found if a.rule == "both"} == {(at(12), 0.6)} and {a.id for a in found if a.rule == "both"} == {
        behind[0].id
    }


def test_what_it_says_for_itself_is_no_longer_than_may_be() -> None:
    decider = Decider(rules(), SETTINGS)
    decider.adopt([builders.alert(explanation="x" * 50_000)])
    assert len(decider.state(HOUSE)) < 5 * MAX_EXPLANATION


def test_it_is_retracted_at_the_mark_where_nothing_follows() -> None:
    state, _, behind = killed(rules(), [scores(9)], [scores(10, 0.9)])
    assert said(push(successor(rules(threshold=0.95), state, behind), [scores(10, 0.9), mark(12)], 1)) == [("siren", 1, "retracted")]


def test_what_new_rules_find_elsewhere_goes_on_under_its_id() -> None:
    """Law 4 of decide: the new episode begins later, and overlaps."""
    state, _, behind = killed(rules(), [scores(9)], [scores(10, 0.6), scores(11, 0.8)])
    found = push(successor(rules(threshold=0.7, off_threshold=0.7), state, behind), [scores(10, 0.6), scores(11, 0.8), *QUIET[1:]], 1)
    assert {a.id for a in found} == {behind[0].id} and said(found) == [("siren", behind[-1].revision + 1, "resolved")]
    assert found[0].start == at(11)


def test_what_may_yet_become_long_enough_is_waited_for() -> None:
    state, _, behind = killed(rules(), [scores(9)], [scores(10, 0.9)])
    loud: Told = [scores(second, 0.9) for second in range(10, 14)]
    found = push(successor(rules(duration="4s"), state, behind), [*loud, *QUIET[3:]], 1)
    assert said(found) == [("siren", 1, "resolved")]


@pytest.mark.parametrize("new", [rules(id="else", threshold=0.95), rules(**{"class": "scream"})])
def test_of_a_rule_that_is_gone_it_is_resolved(new: Rules) -> None:
    state, _, behind = killed(rules(), [scores(9)], [scores(10, 0.9)])
    assert said(push(successor(new, state, behind), [scores(10, 0.9), *QUIET], 1)) == [("siren", 1, "resolved")]


def test_of_a_session_that_no_state_knows() -> None:
    _, _, behind = killed(rules(), [], [scores(10, 0.9)])
    assert said(push(successor(rules(threshold=0.95), b"", behind), [scores(10, 0.9), *QUIET])) == [("siren", 1, "retracted")]


def test_a_session_that_never_speaks_again_resolves_it() -> None:
    _, _, behind = killed(rules(), [], [scores(10, 0.9)])
    decider = successor(rules(id="else"), b"", behind)
    assert decider.silent_since(at(2_000)) == [HOUSE]
    assert said(decider.close(HOUSE)) == [("siren", 1, "resolved")]


def test_of_a_rule_that_was_gone_before_it_is_resolved() -> None:
    """A replaced worker with the old rules, noticed after the rules had changed."""
    state, _, behind = killed(rules(), [scores(9)], [scores(10, 0.9)])
    decider = successor(rules(id="else", threshold=0.95), state, [])
    push(decider, [scores(10, 0.9), scores(11)], 1)
    decider.adopt(behind)
    assert said(push(decider, QUIET[1:], 3)) == [("siren", 1, "resolved")]


def test_of_another_class_it_is_resolved_and_no_episode_of_the_new_class_goes_on_under_it() -> None:
    state, _, behind = killed(rules(), [scores(9)], [scores(10, 0.9)])
    decider = successor(rules(**{"class": "scream"}), state, [])
    found = push(decider, [scores(10, 0.9), scores(11)], 1)
    decider.adopt(behind)
    found += push(decider, [scores(12, scream=0.9), *QUIET[2:]], 3)
    assert [(a.label, a.state.value) for a in found if a.id == behind[0].id] == [("siren", "resolved")]
    assert [(a.label, a.state.value) for a in found if a.id != behind[0].id] == [("scream", "raised"), ("scream", "resolved")]


def test_the_latest_revision_counts_wherever_it_stands() -> None:
    """A replaced worker repeats the first one after the last."""
    state, _, behind = killed(rules(), [scores(9)], [scores(10, 0.6), scores(11, 0.9)])
    decider = successor(rules(threshold=0.95), state, [*behind, behind[0]])
    found = push(decider, [scores(10, 0.6), scores(11, 0.9), *QUIET[1:]], 1)
    assert said(behind) == [("siren", 0, "raised"), ("siren", 1, "updated")] and said(found) == [("siren", 2, "retracted")]


def test_at_the_edge_it_is_ended_and_not_retracted() -> None:
    """A late revision of the newest window: new rules do not judge it (law 6 of decide)."""
    state, _, behind = killed(rules(), [scores(10)], [scores(10, 0.9, revision=1)])
    found = push(successor(rules(threshold=0.6), state, behind), [scores(10, 0.9, revision=1), *QUIET], 1)
    assert said(behind) == [("siren", 0, "raised")] and said(found) == [("siren", 1, "resolved")]


def test_what_the_state_knows_changes_nothing() -> None:
    old = Decider(rules(), SETTINGS)
    sent = push(old, [scores(10, 0.9)])
    decider = Decider(rules(threshold=0.95), SETTINGS)
    decider.restore(old.state(HOUSE))
    assert all(map(decider.knows, sent)) and decider.adopt(sent) == set() and decider.state(HOUSE) == old.state(HOUSE)


def test_rules_that_come_back_raise_what_others_retracted() -> None:
    """Old rules, new ones, and the old ones again, none of which saved anything."""
    before, loud = [scores(9)], scores(10, 0.9)
    state, _, first = killed(rules(), before, [loud])
    second = push(successor(rules(threshold=0.95), state, first), [loud, *QUIET], 1)
    third = push(successor(rules(), state, second), [loud, *QUIET], 1)
    assert said([*first, *second]) == [("siren", 0, "raised"), ("siren", 1, "retracted")]
    assert said(third) == [("siren", 2, "raised"), ("siren", 3, "resolved")]


def test_a_replaced_worker_that_still_writes_is_noticed_later() -> None:
    """It went on by the old rules while these judged the same windows; revisions that it used up are not used again."""
    state, _, behind = killed(rules(), [scores(9)], [scores(10, 0.6), scores(11, 0.9)])
    decider = successor(rules(threshold=0.55), state, [])
    own = push(decider, [scores(10, 0.6), scores(11, 0.9)], 1)
    assert said(own) == said(behind) == [("siren", 0, "raised"), ("siren", 1, "updated")]
    more = [replace(behind[-1], revision=4, state=AlertState.UPDATED)]
    assert decider.adopt([*behind, *more]) == {HOUSE}
    assert said(push(decider, QUIET[1:], 3)) == [("siren", 5, "resolved")]


VALUES = st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, 0.95])
SETS = st.builds(
    lambda threshold, long, duration: rules(SCREAM | {"threshold": long}, threshold=threshold, off_threshold=0.3, duration=duration),
    st.sampled_from([0.5, 0.7, 0.9]),
    st.sampled_from([0.5, 0.9]),
    st.sampled_from([0, 2, 3]),
)


@st.composite
def deployments(draw: st.DrawFn) -> tuple[Told, int, int]:
    """Windows, one or two revisions each and not quite in order; up to where the old rules saved, and sent."""
    seconds = draw(st.lists(st.integers(0, 12), min_size=1, max_size=18))
    seen, told = dict[int, int](), Told()
    for second in seconds:
        told.append(scores(second, draw(VALUES), scream=draw(VALUES), revision=seen.setdefault(second, 0)))
        seen[second] += 1
    saved = draw(st.integers(0, len(told)))
    return [*told, mark(200, Silence.END)], saved, draw(st.integers(saved, len(told)))


@settings(max_examples=300)
@given(deployments(), SETS, SETS)
def test_nothing_stays_open_and_what_stands_is_what_the_new_rules_find(found: tuple[Told, int, int], old: Rules, new: Rules) -> None:
    """Where new rules judge: what old ones said of windows before that stands as they said it (law 6 of decide)."""
    told, saved, sent = found
    state, known, behind = killed(old, told[:saved], told[saved:sent])
    after = push(successor(new, state, behind), told[saved:], saved)
    alone = push(successor(new, state, []), told[saved:], saved)
    if old != new:
        assert not {(a.id, a.revision) for a in behind} & {(a.id, a.revision) for a in after}
    last = {a.id: a for a in [*known, *behind, *after]}
    assert {a.state for a in last.values()} <= {AlertState.RESOLVED, AlertState.RETRACTED}
    edge = max((one.start for one in told[:saved] if isinstance(one, Scores)), default=-1)
    assert standing([*known, *behind, *after], edge) == standing([*known, *alone], edge)


@settings(max_examples=200)
@given(deployments(), SETS, SETS, st.data())
def test_the_same_where_it_is_noticed_later(found: tuple[Told, int, int], old: Rules, new: Rules, data: st.DataObject) -> None:
    """At a checkpoint: a replaced worker wrote while these rules judged already."""
    told, saved, sent = found
    state, known, behind = killed(old, told[:saved], told[saved:sent])
    noticed = data.draw(st.integers(saved, len(told) - 1))
    decider = successor(new, state, [])
    after = push(decider, told[saved:noticed], saved)
    decider.adopt(behind)
    after += push(decider, told[noticed:], noticed)
    first = dict[tuple[str, int], Alert]()
    for alert in [*known, *behind, *after]:
        first.setdefault((alert.id, alert.revision), alert)
    last = {a.id: a for a in sorted(first.values(), key=lambda a: a.revision)}
    assert {a.state for a in last.values()} <= {AlertState.RESOLVED, AlertState.RETRACTED}


def standing(alerts: Sequence[Alert], edge: int) -> set[tuple[str, int, int]]:
    last = {a.id: a for a in alerts}
    return {(a.rule, a.start, a.end) for a in last.values() if a.state is not AlertState.RETRACTED and a.start > edge}
