"""The state of a session: bounded, compact, and the same after a restart. Laws of stages/memory.py and stages/frozen.py."""

from __future__ import annotations

import random
import string
import zlib
from dataclasses import replace
from time import thread_time

import msgspec
import pytest

from streamer.events import Alert, Modality, Origin, Pace, QuoteEvidence, Scores, Silence, SoundEvidence
from streamer.rules import load_rules
from streamer.stages.decide import Decider
from streamer.stages.frozen import LIMIT, freeze, thaw
from streamer.topology import TOPIC
from tests.builders_decide import HOUSE, SETTINGS, at, mark, rules, scores

RANDOM = random.Random(1)
EVERY = load_rules()


def noise(length: int) -> str:
    return "".join(RANDOM.choices(string.ascii_letters + string.digits + string.punctuation, k=length))


def rich(second: int, *, quotes: int = 32, loud: bool = True, pace: Pace = Pace.LIVE) -> Scores:
    """A window with all the evidence that a score can carry, none of it compressible."""
    values = {rule.label: RANDOM.uniform(0.85, 0.99) if loud else RANDOM.random() * 0.1 for rule in EVERY.rules}
    one = scores(second, pace=pace, **values)
    said = tuple(
        QuoteEvidence(text=noise(500), similarity=RANDOM.random(), start=at(second) + n, end=at(second + 1)) for n in range(quotes)
    )
    heard = tuple(SoundEvidence(label=noise(40), probability=RANDOM.random(), start=at(second), end=at(second + 2)) for _ in range(40))
    origins = tuple(Origin(topic=modality.value, partition=3, offset=RANDOM.randrange(2**50)) for modality in Modality for _ in range(20))
    return replace(one, evidence=replace(one.evidence, quotes=said, sounds=heard), sources=origins)


def push_all(decider: Decider, records: list[Scores]) -> list[Alert]:
    told = list[Alert]()
    for record in records:
        offset = decider.offset(HOUSE) + 1
        told += decider.push(record, arrival=at(1_000 + offset), offset=offset)
        assert len(decider.state(HOUSE)) <= LIMIT
    return told


@pytest.mark.parametrize("pace", Pace)
def test_a_state_full_of_evidence_fits_its_topic_and_the_newest_evidence_is_kept(pace: Pace) -> None:
    decider = Decider(EVERY, SETTINGS)
    told = push_all(decider, [rich(n, pace=pace, loud=n % 10 < 4) for n in range(60)])
    assert TOPIC["checkpoints"].limit >= LIMIT > len(decider.state(HOUSE)) > LIMIT // 4
    assert all(alert.sources and alert.evidence.sounds for alert in told if alert.state.value == "raised")


def test_a_state_full_of_windows_fits_its_topic_and_what_is_frozen_early_is_counted() -> None:
    """Nine classes in doubt at every moment: more numbers than the record holds."""
    room = 64 << 10
    decider, size = Decider(EVERY, replace(SETTINGS, room=room)), 0
    for n in range(2_000):
        loud = {rule.label: RANDOM.uniform(0.85, 0.99) for rule in EVERY.rules}
        decider.push(scores(n, pace=Pace.RECORDED, **loud), arrival=at(n), offset=n)
        size = max(size, len(decider.state(HOUSE))) if n % 20 == 0 else size
    assert room // 2 < size <= room
    assert 0 < decider.forced < 1_900 and decider.beyond == 0
    decider.push(scores(3, 0.9, revision=1, pace=Pace.RECORDED), arrival=at(3_000), offset=3_000)
    assert decider.beyond == 1


def test_eight_hours_of_a_recorded_session_are_held_whole_and_compactly() -> None:
    decider = Decider(rules(), SETTINGS)
    for n in range(28_800):
        decider.push(scores(n, 0.9 if n % 600 < 3 else 0.1, pace=Pace.RECORDED), arrival=at(n), offset=n)
    assert decider.forced == 0 and len(decider.state(HOUSE)) < LIMIT // 8
    (late,) = decider.push(scores(300, 0.9, revision=1, pace=Pace.RECORDED), arrival=at(90_000), offset=90_000)
    assert (late.state.value, late.start) == ("raised", at(300))


def test_what_a_window_costs_does_not_grow_with_the_session() -> None:
    def seconds(first: int) -> float:
        records = [scores(n, 0.9, pace=Pace.RECORDED) for n in range(first, first + 500)]
        start = thread_time()
        for n, record in enumerate(records, first):
            decider.push(record, arrival=at(n), offset=n)
        return thread_time() - start

    decider = Decider(EVERY, SETTINGS)
    young, costs = seconds(0), [seconds(first) for first in range(500, 8_500, 500)]
    assert min(costs[-5:]) < 4 * young


def test_a_state_comes_back_as_it_was() -> None:
    decider = Decider(EVERY, SETTINGS)
    push_all(decider, [rich(n, quotes=2, loud=n % 7 < 3) for n in range(40)])
    push_all(decider, [replace(rich(5, quotes=1), revision=1, window="of-a-foreign-maker")])
    value = decider.state(HOUSE)
    assert freeze(thaw(value)) == value


def test_a_state_that_is_not_one_is_refused() -> None:
    decider = Decider(rules(), SETTINGS)
    decider.push(scores(1, 0.9), arrival=at(1), offset=0)
    plain = msgspec.json.decode(zlib.decompress(decider.state(HOUSE)))
    windows = plain["windows"]
    odd = [plain | {"version": 1}, plain | {"windows": windows | {"at": [7]}}, plain | {"windows": windows | {"kinds": []}}, {}]
    for value in (b"not a state", decider.state(HOUSE)[:-5], *(zlib.compress(msgspec.json.encode(one)) for one in odd)):
        with pytest.raises(ValueError, match=r"state|zip\(\)"):
            Decider(rules(), SETTINGS).restore(value)


def test_a_session_that_is_closed_resolves_what_is_open_once() -> None:
    decider = Decider(rules(cooldown="2h"), SETTINGS)
    decider.push(scores(10, 0.9), arrival=at(20), offset=0)
    (alert,) = decider.close(HOUSE)
    assert (alert.state.value, alert.at) == ("resolved", at(20 + 7_200)) and decider.close(HOUSE) == []
    assert decider.keeps == 7_200_000_000 and Decider(rules(), SETTINGS).keeps == 3_600_000_000
    decider.push(mark(30, Silence.END), arrival=at(40), offset=1)
    assert decider.silent_since(at(41)) == [HOUSE]
