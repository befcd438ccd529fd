"""The fast timeline against the plain fold: laws of stages/timeline.py and stages/episodes.py."""

from __future__ import annotations

from time import thread_time

from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamer.events import Micros
from streamer.stages.episodes import Episode, Levels, Point, connected, fold
from streamer.stages.timeline import WIDTH, Timeline
from tests.builders_decide import HOP, at

LEVELS = Levels(threshold=0.5, stays=0.3, hop=HOP)
VALUES = st.sampled_from([0.0, 0.3, 0.5, 0.5, 0.6, 0.9])
PLACES = st.one_of(st.integers(0, 12), st.integers(WIDTH - 6, WIDTH + 6), st.integers(0, 4 * WIDTH))
CHANGES = st.lists(st.one_of(st.tuples(PLACES, VALUES), st.tuples(PLACES, st.none())), max_size=60)


def point(second: int, value: float) -> Point:
    return Point(at(second), at(second + 2), value, value / 2)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2 * WIDTH), VALUES), max_size=100), CHANGES)
@example([(n, 0.5) for n in range(2 * WIDTH)], [(WIDTH, 0.0), (WIDTH + 1, 0.0), (WIDTH + 2, 0.0), (WIDTH + 1, 0.9)])
def test_after_each_change_the_episodes_are_those_of_the_fold(
    first: list[tuple[int, float]], changes: list[tuple[int, float | None]]
) -> None:
    """Law 1. `None` freezes all before that window; what is older is not changed any more, as decide sees to."""
    held = dict(first)
    line = Timeline(LEVELS, points=[point(n, v) for n, v in sorted(held.items())])
    edge, carry = 0, None
    for second, value in changes:
        if value is not None and second >= edge:
            before = list(line.episodes)
            change = line.put(at(second), point(second, value))
            held[second] = value
            outside = [e for e in before if change is None or not change.first <= e.start <= change.last]
            assert outside == [e for e in line.episodes if change is None or not change.first <= e.start <= change.last]
        elif value is None and second > edge:
            done = fold([point(n, v) for n, v in sorted(held.items()) if edge <= n < second], LEVELS, carry=carry)
            edge, carry = second, done[-1] if done and connected(done[-1].last, at(second), HOP) else None
            line.freeze(at(second))
            assert line.carry == carry
        assert line.episodes == fold([point(n, v) for n, v in sorted(held.items()) if n >= edge], LEVELS, carry=carry)


@given(st.lists(st.tuples(st.integers(0, 40), VALUES), max_size=30), st.integers(0, 42), st.integers(0, 42))
def test_an_episode_is_found_by_its_windows_and_by_what_it_overlaps(held: list[tuple[int, float]], first: int, length: int) -> None:
    line = Timeline(LEVELS, points=[point(n, v) for n, v in sorted(dict(held).items())])
    low, high = at(first), at(first + length)
    assert line.between(low, high) == [e for e in line.episodes if e.start <= high and e.last >= low]
    assert line.at(low) == next((e for e in line.episodes if e.start <= low <= e.last), None)


def test_an_episode_of_a_day_costs_no_more_per_window_than_one_of_an_hour() -> None:
    """Law 2."""

    def seconds(first: int, count: int) -> float:
        start = thread_time()
        for n in range(first, first + count):
            line.put(at(n), point(n, 0.6))
        return thread_time() - start

    def changed(value: float) -> float:
        start = thread_time()
        line.put(at(5), point(5, value))
        return thread_time() - start

    line = Timeline(LEVELS)
    hour = seconds(0, 3_600)
    line = Timeline(LEVELS, points=[point(n, 0.6) for n in range(86_400)])
    assert min(seconds(first, 1_200) for first in range(86_400, 90_000, 1_200)) < 10 * hour / 3
    first = [changed(value) for value in (0.9, 0.6, 0.9, 0.6, 0.9)]
    assert min(first) < hour  # about a fifth; the first of them builds what the garbage collector then walks
    assert line.episodes == [episode(90_000)]


def episode(length: int) -> Episode:
    points = [point(n, 0.9 if n == 5 else 0.6) for n in range(length)]
    return fold(points, LEVELS)[0]


def test_an_episode_is_closed_by_two_windows_that_are_not_in_it() -> None:
    (found,) = fold([point(10, 0.6)], LEVELS)
    assert [found.closed(Micros(at(10 + n)), HOP) for n in (0, 1, 2, 3)] == [False, False, True, True]
