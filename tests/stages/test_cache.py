"""The feature cache: its bound, its reserve, what is pinned and what may go."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streamer.errors import Reason
from streamer.events import EventRef, Micros, Modality, Origin, SessionId
from streamer.stages.cache import ENTRY_BYTES, UNNAMED, FeatureCache, Unusable, footprint
from tests.builders import SESSION, a_ref, an_origin, at

BOUND = 20 * ENTRY_BYTES
FEATURE = np.zeros(ENTRY_BYTES, np.uint8)  # with its entry two of twenty places


def ref(number: int) -> EventRef:
    """One event a second."""
    return replace(a_ref(Modality.FRAMES, number), origin=an_origin("frames", number))


def admit(cache: FeatureCache, number: int, size: int = 0) -> bool:
    one = ref(number)
    return cache.admit(one.origin, session=SESSION, end=one.end, arrival=one.arrival, size=size)


def filled(count: int, *, newest: float | None = None) -> FeatureCache:
    cache = FeatureCache(BOUND)
    for number in range(count):
        assert admit(cache, number)
        cache.put(ref(number).origin, FEATURE)
    if newest is not None:
        cache.newest(SESSION, at(newest))
    return cache


class CacheLaws(RuleBasedStateMachine):
    """Windows of three events wait in a queue; events are read ahead, finish in any order, and are fetched for the first window."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = FeatureCache(BOUND)
        self.waiting: list[tuple[EventRef, ...]] = []
        self.flying: set[int] = set()
        self.held: dict[int, object] = {}
        self.pinned = set[Origin]()
        self.read, self.cut = 0, 0

    @rule(size=st.integers(0, 6 * ENTRY_BYTES))
    def read_ahead(self, size: int) -> None:
        self.cache.passed(ref(self.read).arrival)
        if self.cache.known(ref(self.read).origin):
            self.read += 1
        elif admit(self.cache, self.read, size):
            self.flying.add(self.read)
            self.read += 1

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), size=st.integers(0, 4 * ENTRY_BYTES), broken=st.booleans())
    def finish(self, data: st.DataObject, size: int, broken: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.flying)))
        self.flying.discard(number)
        self.held[number] = Unusable(reason=Reason.BAD_PAYLOAD) if broken else np.zeros(size, np.uint8)
        self.cache.put(ref(number).origin, self.held[number])

    @rule()
    def window(self) -> None:
        manifest = tuple(ref(number) for number in range(self.cut, self.cut + 3))
        self.waiting.append(manifest)
        self.cache.name(manifest)
        self.cache.newest(SESSION, manifest[0].start)
        if len(self.waiting) == 1:
            self.cache.next_is(manifest)
        self.cut += 2

    @precondition(lambda self: self.waiting)
    @rule()
    def fetch(self) -> None:
        for one in self.waiting[0]:
            if not self.cache.known(one.origin):
                self.cache.reserve(one, SESSION)
                self.flying.add(one.origin.offset)

    @precondition(lambda self: self.waiting and all(self.cache.get(one.origin) is not None for one in self.waiting[0]))
    @rule()
    def done(self) -> None:
        self.cache.release(self.waiting.pop(0))
        self.cache.next_is(self.waiting[0] if self.waiting else ())

    @invariant()
    def the_bound_holds_and_the_reserve_is_the_next_windows(self) -> None:
        assert self.cache.used <= BOUND
        assert self.cache.used == sum(entry.cost for entry in self.cache._main.values())
        assert self.cache.reserved == sum(entry.cost for entry in self.cache._reserve.values())
        assert set(self.cache._reserve) <= {one.origin for one in (self.waiting[0] if self.waiting else ())}

    @invariant()
    def what_is_held_is_what_was_put(self) -> None:
        for number in self.held.keys() - self.flying:
            value = self.cache.get(ref(number).origin)
            assert value is None or value is self.held[number]

    @invariant()
    def what_a_waiting_window_names_is_not_evicted(self) -> None:
        named = {one.origin for manifest in self.waiting for one in manifest}
        held = {origin for origin in named if origin in self.cache._main and self.cache.get(origin) is not None}
        assert {origin for origin in self.pinned if origin in named} <= held
        self.pinned = held

    @invariant()
    def what_is_being_encoded_is_known(self) -> None:
        assert all(self.cache.known(ref(number).origin) for number in self.flying)


TestCacheLaws = CacheLaws.TestCase
TestCacheLaws.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_what_ends_before_the_newest_window_goes_first_and_the_rest_stays() -> None:
    cache = filled(10, newest=6)
    assert admit(cache, 10, size=3 * ENTRY_BYTES)
    assert [cache.known(ref(number).origin) for number in (0, 1, 6, 9, 10)] == [False, False, True, True, True]


def test_a_full_cache_of_what_is_still_needed_has_no_room() -> None:
    cache = filled(10, newest=0)
    assert not admit(cache, 10)
    assert not cache.roomy()


def test_pinned_features_are_not_evicted() -> None:
    cache = filled(10, newest=30)
    cache.name([ref(0), ref(3)])
    for number in range(10, 18):
        assert admit(cache, number)
        cache.put(ref(number).origin, FEATURE)
    assert cache.get(ref(0).origin) is FEATURE
    assert cache.get(ref(3).origin) is FEATURE
    assert not cache.known(ref(1).origin)
    cache.release([ref(0), ref(3)])
    assert admit(cache, 18)
    cache.put(ref(18).origin, FEATURE)
    assert admit(cache, 19)
    assert not cache.known(ref(0).origin)


def test_what_no_waiting_window_names_goes_after_a_minute_of_arrival_oldest_first() -> None:
    cache = filled(10)
    cache.name([ref(4)])
    cache.passed(Micros(ref(9).arrival + UNNAMED))
    assert admit(cache, 10, size=5 * ENTRY_BYTES)
    assert [number for number in range(10) if not cache.known(ref(number).origin)] == [0, 1, 2, 3]
    assert not admit(cache, 11, size=16 * ENTRY_BYTES)
    assert [number for number in range(10) if cache.known(ref(number).origin)] == [4, 9]


def test_what_a_window_named_goes_though_its_session_has_no_later_window() -> None:
    cache = filled(10, newest=0)
    cache.name([ref(number) for number in range(10)])
    cache.release([ref(number) for number in range(10)])
    assert not cache.roomy()
    cache.passed(Micros(ref(9).arrival + UNNAMED + 1))
    assert cache.roomy()


def test_what_was_fetched_goes_a_minute_later_whatever_its_window_says_of_its_arrival() -> None:
    cache = FeatureCache(BOUND)
    cache.passed(at(0))
    cache.reserve(replace(ref(0), arrival=at(10**9)), SESSION)
    cache.put(ref(0).origin, np.zeros(18 * ENTRY_BYTES, np.uint8))
    cache.passed(Micros(at(0) + UNNAMED + 1))
    assert admit(cache, 1, size=5 * ENTRY_BYTES)


def test_sessions_without_a_window_for_a_minute_of_arrival_are_forgotten() -> None:
    cache = FeatureCache(BOUND)
    for number in range(500):
        cache.passed(at(number))
        cache.newest(SessionId(f"s{number}"), at(number))
    assert set(cache._newest) == {f"s{number}" for number in range(439, 500)}


def test_the_reserve_serves_the_next_window_when_all_else_is_needed() -> None:
    cache = filled(10, newest=0)
    cache.name([ref(50)])
    cache.next_is([ref(50)])
    cache.reserve(ref(50), SESSION)
    cache.put(ref(50).origin, FEATURE)
    assert cache.get(ref(50).origin) is FEATURE
    assert cache.used <= BOUND
    assert cache.reserved == 2 * ENTRY_BYTES
    cache.release([ref(50)])
    cache.next_is(())
    assert not cache.known(ref(50).origin)
    assert cache.reserved == 0


def test_an_ended_session_leaves_only_what_waiting_windows_name() -> None:
    cache = filled(5)
    cache.name([ref(2)])
    cache.forget(SESSION)
    assert [number for number in range(5) if cache.known(ref(number).origin)] == [2]


@dataclass
class Parts:
    rows: np.ndarray
    names: tuple[str, ...]


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        (np.zeros(100, np.float32), 400, 400),
        (Parts(np.zeros(1_000, np.uint8), ("a", "b")), 1_000, 1_200),
        ((FEATURE, FEATURE), 2_048, 2_048),
    ],
)
def test_a_footprint_is_that_of_the_arrays(value: object, least: int, most: int) -> None:
    assert least <= footprint(value) <= most


@given(st.integers(0, 5))
def test_a_frame_at_the_newest_windows_start_belongs_to_it(start: int) -> None:
    cache = filled(10, newest=start)
    admit(cache, 10, size=19 * ENTRY_BYTES)
    assert cache.known(ref(start).origin)
