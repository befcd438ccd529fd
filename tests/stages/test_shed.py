"""Which frames are left out, and when: even in event time, agreed on by all windows, no more and no longer than needed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.events import MILLISECOND, SECOND, EventRef, Micros, Modality
from streamer.stages.shed import CALM, JUDGED, LEVELS, Shedding, Spent
from tests.builders import a_ref, a_track, an_origin, at, seconds

LENGTH = seconds(2)
AFTER = 5.0
TICK = 0.5  # seconds between two looks
TRACK = a_track()


def shedding(level: int = 0, **change: object) -> Shedding:
    """One that infer's lateness has driven to this level."""
    one = Shedding(**{"length": LENGTH, "after": seconds(AFTER), "floor": 1, "on": True} | change)  # type: ignore[arg-type]
    clock = ticks()
    while one.level < level:
        grow(one, next(clock))
    return one


def ticks(start: float = 0) -> Iterator[float]:
    while True:
        yield start
        start += TICK


def grow(one: Shedding, now: float) -> None:
    """A look at an infer whose windows wait longer and longer."""
    one.look(now, waits=10 + now, late=10 + now, spent=[Spent(frames=now)])


def kept(one: Shedding, fps: float, length: float = 20) -> list[Micros]:
    times = [Micros(at(0) + round(number * SECOND / fps)) for number in range(round(length * fps))]
    return [when for when in times if not one.sheds(TRACK, when)]


def test_without_need_every_frame_is_kept() -> None:
    one = shedding()
    for now, _ in zip(ticks(), range(100), strict=False):
        one.look(now, waits=AFTER, late=3_600, spent=[Spent(frames=now)])
    assert one.level == 0
    assert len(kept(one, 30)) == 600
    assert one.shed == 0


@pytest.mark.parametrize(("level", "each"), [(1, 62.5), (2, 125), (3, 250), (4, 500), (5, 1_000), (6, 2_000)])
def test_a_level_keeps_one_frame_of_each_cell_evenly(level: int, each: float) -> None:
    times = kept(shedding(level), 64)
    assert {after - before for before, after in pairwise(times)} == {each * MILLISECOND}


def test_who_sends_most_loses_first() -> None:
    assert [len(kept(shedding(level), 2)) for level in range(LEVELS + 1)] == [40, 40, 40, 40, 40, 20, 10]
    assert [len(kept(shedding(level), 32)) for level in range(LEVELS + 1)] == [640, 320, 160, 80, 40, 20, 10]


def test_the_floor_is_so_many_frames_of_a_window() -> None:
    assert len(kept(shedding(LEVELS, floor=4), 30)) == 40


@given(fps=st.floats(1, 60), first=st.integers(0, 2_000_000), hop=st.sampled_from([250, 500, 1_000, 2_000]), level=st.integers(1, LEVELS))
def test_every_window_keeps_a_frame_of_a_steady_camera(fps: float, first: int, hop: int, level: int) -> None:
    """A frame a second or more, windows of 2 s; at the last level a frame a hop or more. `Lane` mends what others leave bare."""
    one = shedding(level)
    times = [Micros(at(0) + first + round(number * SECOND / fps)) for number in range(round(14 * fps))]
    left = [when for when in times if not one.sheds(TRACK, when)]
    if level < LEVELS or hop * MILLISECOND > SECOND / fps + 1:
        for start in range(at(4), at(10), hop * MILLISECOND):
            assert any(start <= when < start + LENGTH for when in left)


def test_tracks_are_counted_apart_and_a_clock_that_jumps_back_is_not_punished() -> None:
    one = shedding(5)
    other = a_track(source="cam-2")
    assert [one.sheds(track, at(when)) for when in (0, 0.5) for track in (TRACK, other)] == [False, False, True, True]
    assert [one.sheds(TRACK, at(when)) for when in (-100, -99.9, -99)] == [False, True, False]


def test_no_frame_is_left_out_of_a_backlog_that_is_worked_off_fast_enough() -> None:
    one = shedding()
    for now, _ in zip(ticks(), range(3_000), strict=False):
        late = 3_600 - 1.1 * now
        one.look(now, waits=max(0, late), late=max(0, late), spent=[Spent(frames=now)])
    assert one.level == 0


def test_a_backlog_that_is_not_worked_off_is_thinned() -> None:
    one = shedding()
    for now, _ in zip(ticks(), range(20), strict=False):
        one.look(now, waits=3_600 - 0.5 * now, late=3_600 - 0.5 * now, spent=[Spent(frames=now)])
    assert one.level == (19 * TICK) // JUDGED


def test_lateness_that_is_not_infers_own_sheds_nothing() -> None:
    one = shedding()
    for now, _ in zip(ticks(), range(100), strict=False):
        one.look(now, waits=1, late=1_000 + now, spent=[Spent(frames=now)])
    assert one.level == 0


def test_levels_that_leave_out_nothing_are_passed_in_a_tick_each() -> None:
    one = shedding(1)
    looks = 0
    for now in ticks(100):
        kept(one, 2, 20)
        grow(one, now)
        looks += 1
        if one.level == 5:
            break
    assert looks <= 4 + JUDGED / TICK


def calm(one: Shedding, seconds: float, *, frames: float, others: float = 0, start: float = 1_000, fps: float = 8) -> None:
    """Nothing waits; of each second the engine works so long on the frames that are kept."""
    spent = Spent()
    for now in ticks(start):
        one.look(now, waits=0, late=0, spent=[Spent(), spent])
        if now - start > seconds:
            return
        kept(one, fps, TICK)
        spent = Spent(frames=spent.frames + frames * TICK, others=spent.others + others * TICK)


def test_it_falls_level_by_level_to_nothing_once_there_is_room() -> None:
    one = shedding(LEVELS)
    calm(one, CALM + TICK, frames=0.1)
    assert one.level == LEVELS - 1
    calm(one, LEVELS * (CALM + 2 * TICK), frames=0.05)
    assert one.level == 0
    assert len(kept(one, 30, 1)) == 30


@pytest.mark.parametrize(("frames", "others", "falls"), [(0.45, 0, False), (0.35, 0.15, False), (0.35, 0, True), (0.1, 0.7, False)])
def test_it_falls_only_where_twice_the_frames_fit(frames: float, others: float, falls: bool) -> None:
    one = shedding(4)
    calm(one, 1.5 * CALM, frames=frames, others=others, fps=32)
    assert one.level == 4 - falls


def test_a_wait_in_between_starts_the_calm_anew() -> None:
    one = shedding(3)
    for now, _ in zip(ticks(), range(100), strict=False):
        one.look(now, waits=3 if round(now) % 4 == 0 else 0, late=0, spent=[Spent()])
    assert one.level == 3


def test_switched_off_it_never_sheds() -> None:
    one = Shedding(length=LENGTH, after=seconds(AFTER), on=False)
    for now, _ in zip(ticks(), range(100), strict=False):
        grow(one, now)
    assert one.level == 0


def frame(when: float, source: str = "cam-1") -> EventRef:
    number = round(when * 10)
    return a_ref(Modality.FRAMES, when, source=source, origin=an_origin("frames", number + (0 if source == "cam-1" else 1_000)))


def test_what_a_window_lacks_is_thinned_alike_but_for_sound_and_words() -> None:
    wanted = [frame(0), frame(0.3), frame(0.8), frame(1.2), frame(0.3, "cam-2"), a_ref(Modality.AUDIO, 0), a_ref(Modality.TRANSCRIPTS, 0)]
    one = shedding(5)
    assert one.thinned(wanted, []) == {frame(0.3).origin, frame(0.8).origin}
    assert one.thinned(wanted, [frame(1.9)]) == {frame(0.3).origin, frame(0.8).origin, frame(1.2).origin}
    assert one.shed == 5
    assert shedding().thinned(wanted, []) == frozenset()
