"""The fusion bench in small, with random encoders: both ways see the same events and say the same."""

from __future__ import annotations

from collections import Counter

import pytest

from streamer.config import InferSettings
from streamer.events import SECOND, Modality
from tests.bench.fusion import TOLERANCE, Bench, Load, Spent, breakdown, load, row, steps

SECONDS = 7  # the first words end with the seventh


@pytest.fixture(scope="module", params=[False, True], ids=["in step", "apart"])
def played(request: pytest.FixtureRequest) -> Load:
    return load(2, SECONDS, apart=request.param)


def test_each_event_is_encoded_once_and_before_its_windows_are_fused(played: Load) -> None:
    encoded, fused = [], []
    for step in steps(played, InferSettings()):
        encoded += [each.ref.origin for batch in step.batches for each in batch.items]
        assert {ref.origin for window in step.windows for ref in window.manifest} <= set(encoded)
        fused += step.windows
    assert Counter(encoded) == Counter(played.events.keys())
    assert sorted(window.id for window in fused) == sorted(window.id for window in played.windows)


def test_each_event_is_in_every_window_that_it_overlaps(played: Load) -> None:
    for happened in played.events.values():
        ref = happened.ref
        windows = [window for window in played.windows if ref in window.manifest]
        first, last = ref.start // SECOND - 1, (max(ref.end, ref.start + 1) - 1) // SECOND
        assert [window.start // SECOND for window in windows] == list(range(first, last + 1))
    assert {happened.ref.modality for happened in played.events.values()} == set(Modality)


def test_sessions_in_step_share_batches_and_those_apart_do_not() -> None:
    sizes = []
    for apart in (False, True):
        todo = steps(load(2, 3, apart=apart), InferSettings())
        sizes.append({len(batch.items) for step in todo for batch in step.batches if batch.key is Modality.FRAMES})
    assert sizes == [{2}, {1}]


def test_both_ways_give_the_same_probabilities_shares_and_explanations(played: Load) -> None:
    found = Bench.tiny().case("any", played, 1)
    assert found["probability apart"] < TOLERANCE
    assert found["share apart"] < 100 * TOLERANCE
    assert found["other words"] == 0


def test_what_is_not_a_bare_forward_is_told_as_a_share_of_ours() -> None:
    took = {"ours": 10.0, "plain": 30.0, "bare: YAMNet": 6.0, "quality": 1.0, "log-mel (of YAMNet's forward)": 2.0}
    told = row([{name: Spent(wall=2 * cpu, cpu=cpu) for name, cpu in took.items()}], 1_000)
    assert (told["ratio"], told["not bare %"]) == pytest.approx((3.0, 40.0))
    parts = {one["part"]: one["ms/window"] for one in breakdown(told)}
    assert parts == pytest.approx({"bare: YAMNet": 6.0, "quality": 1.0, "all else": 3.0})
