"""Cutting, choosing and timing: the laws of `stages/ingest.py`."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import ConfigError
from streamer.events import MILLISECOND, SECOND, Micros, Modality
from streamer.stages.ingest import CHUNK, RATE, CaptureClock, Chunker, Moment, Pcm, Selector, after, check_live, start_of

NOON = Micros(1_795_521_600 * SECOND)


def came(wall: float, *, set_by: int = 0) -> Moment:
    """A moment by both of our clocks, the wall clock having been set by so much since they began together."""
    return Moment(wall=Micros(round(wall) + set_by), steady=Micros(round(wall) - NOON))


def ramp(samples: int) -> np.ndarray:
    return np.arange(samples, dtype=np.float32)


def pushed(blocks: list[int], *, start: Micros = NOON, error: list[int] | None = None) -> list[Pcm]:
    """One unbroken sound in blocks of these lengths, each said to start up to 40 ms off its place."""
    chunker, sound, at, found = Chunker(), ramp(sum(blocks)), 0, []
    for block, off in zip(blocks, error or [0] * len(blocks), strict=True):
        found += chunker.push(Micros(after(start, at) + (off if at else 0)), sound[at : at + block])
        at += block
    return [*found, *chunker.flush()]


@given(st.lists(st.integers(1, 3 * RATE), min_size=1, max_size=8), st.data())
def test_sound_is_cut_on_a_grid_of_one_second_and_nothing_is_lost(blocks: list[int], data: st.DataObject) -> None:
    error = data.draw(st.lists(st.integers(-40_000, 40_000), min_size=len(blocks), max_size=len(blocks)))
    chunks = pushed(blocks, error=error)
    assert [chunk.start for chunk in chunks] == [NOON + n * SECOND for n in range(len(chunks))]
    assert all(len(chunk.samples) == CHUNK for chunk in chunks[:-1])
    assert np.array_equal(np.concatenate([chunk.samples for chunk in chunks]), ramp(sum(blocks)))


@given(st.lists(st.integers(1, 2 * RATE), min_size=2, max_size=6))
def test_the_blocks_that_sound_comes_in_do_not_matter(blocks: list[int]) -> None:
    once, often = pushed([sum(blocks)]), pushed(blocks)
    assert [(c.start, c.samples.tobytes()) for c in once] == [(c.start, c.samples.tobytes()) for c in often]


def test_a_gap_starts_a_new_grid() -> None:
    chunker = Chunker()
    first = [*chunker.push(NOON, ramp(RATE // 2)), *chunker.push(Micros(NOON + 5 * SECOND), ramp(RATE))]
    assert [(c.start - NOON, len(c.samples)) for c in first] == [(0, RATE // 2), (5 * SECOND, RATE)]


def test_time_that_steps_back_repeats_nothing() -> None:
    chunker = Chunker()
    chunks = [*chunker.push(NOON, ramp(RATE + 8_000)), *chunker.push(NOON, ramp(2 * RATE)), *chunker.flush()]
    assert [(c.start - NOON, len(c.samples)) for c in chunks] == [(0, RATE), (SECOND, 8_000), (1_500_000, 8_000)]
    assert chunks[-1].samples[0] == RATE + 8_000


BLOCK = RATE // 50  # 20 ms, as cameras send sound


def in_blocks(chunker: Chunker, start: int, seconds: float, value: float) -> list[Pcm]:
    """So many seconds of one value in blocks of 20 ms."""
    blocks = [chunker.push(Micros(start + n * 20_000), np.full(BLOCK, value, np.float32)) for n in range(round(seconds * 50))]
    return [chunk for block in blocks for chunk in block]


def test_time_that_steps_back_repeats_nothing_however_small_the_blocks() -> None:
    chunker = Chunker()
    chunks = [*in_blocks(chunker, NOON, 2, 1), *in_blocks(chunker, NOON + 500_000, 2, 2), *chunker.flush()]
    assert [(c.start - NOON, c.end - NOON) for c in chunks] == [(0, SECOND), (SECOND, 2 * SECOND), (2 * SECOND, 2_500_000)]
    assert [set(c.samples) for c in chunks] == [{1}, {1}, {2}]


def test_sound_after_a_flush_never_starts_before_what_was_given() -> None:
    chunker = Chunker()
    before = [*in_blocks(chunker, NOON, 1.5, 1), *chunker.flush()]
    after_it = [*in_blocks(chunker, NOON + SECOND, 1, 2), *chunker.flush()]
    assert (after_it[0].start, after_it[-1].end) == (before[-1].end, NOON + 2 * SECOND)


@given(st.lists(st.tuples(st.integers(-3 * SECOND, 3 * SECOND), st.integers(1, 2 * RATE)), min_size=1, max_size=12))
def test_chunks_never_overlap_whatever_the_clock_does(steps: list[tuple[int, int]]) -> None:
    chunker, at, chunks = Chunker(), NOON, []
    for step, samples in steps:
        at = Micros(at + step)
        chunks += chunker.push(at, ramp(samples))
        at = after(at, samples)
    chunks += chunker.flush()
    assert all(earlier.end <= later.start for earlier, later in itertools.pairwise(chunks))


@pytest.mark.parametrize(("rate", "fps", "kept"), [(10, 2, 20), (30, 2, 20), (29.97, 5, 50), (10, 60, 100), (25, 0.5, 5)])
def test_pictures_are_kept_at_the_rate_asked_for(rate: float, fps: float, kept: int) -> None:
    select = Selector(fps)
    wanted = [at for at in (round(n * SECOND / rate) for n in range(int(10 * rate))) if select.want(Micros(NOON + at))]
    assert len(wanted) == kept


def test_a_dropped_picture_shifts_no_other() -> None:
    def kept(times: list[int]) -> set[int]:
        select = Selector(2)
        return {at for at in times if select.want(Micros(at))}

    times = [n * 100_000 for n in range(100)]
    assert kept([at for at in times if at != 1_500_000]) ^ kept(times) == {1_500_000, 1_600_000}


def test_an_unwanted_picture_says_that_the_camera_lives() -> None:
    select = Selector(0.1)
    said = [p for n in range(100) if not select.want(at := Micros(NOON + n * 100_000)) and (p := select.progress(at))]
    assert [(p.modality, p.until - NOON) for p in said[:3]] == [(Modality.FRAMES, n * 500_000) for n in (1, 2, 3)]


def test_now_is_rounded_up_to_a_hop() -> None:
    assert start_of("now", now=Micros(NOON + 1), hop=SECOND) == NOON + SECOND
    assert start_of("now", now=NOON, hop=SECOND) == NOON
    assert start_of("2026-11-24T12:00:00Z", now=Micros(0), hop=SECOND) == NOON


def test_a_start_that_is_no_time_is_refused() -> None:
    with pytest.raises(ConfigError, match="start=yesterday"):
        start_of("yesterday", now=NOON, hop=SECOND)


@pytest.mark.parametrize("off", [-121 * SECOND, 6 * SECOND])
def test_a_live_start_far_from_now_is_refused(off: int) -> None:
    with pytest.raises(ConfigError, match="horizon 120 s"):
        check_live(Micros(NOON + off), now=NOON, horizon=Micros(120 * SECOND), skew=Micros(5 * SECOND), hop=SECOND)


@given(st.integers(0, 120 * SECOND), st.integers(1, 60 * SECOND), st.integers(0, 10 * SECOND))
def test_a_start_now_is_never_refused(off: int, hop: int, skew: int) -> None:
    now = Micros(NOON + off)
    start = start_of("now", now=now, hop=Micros(hop))
    check_live(start, now=now, horizon=Micros(120 * SECOND), skew=Micros(skew), hop=Micros(hop))


@given(st.lists(st.integers(0, 400_000), min_size=2, max_size=200))
def test_jitter_of_arrival_never_turns_time_back(jitter: list[int]) -> None:
    clock = CaptureClock(newer_than=Micros(0))
    times = [clock.at(Micros(n * 100_000), came(NOON + n * 100_000 + late)) for n, late in enumerate(jitter)]
    steps = np.diff(times)
    assert (steps >= 97_900).all() and (steps <= 100_200).all()


def test_the_fastest_packets_tell_the_time() -> None:
    clock, rng = CaptureClock(newer_than=Micros(0)), np.random.default_rng(7)
    late = 300_000 * rng.random(2_000)
    times = [clock.at(Micros(n * 100_000), came(NOON + n * 100_000 + int(late[n]))) for n in range(2_000)]
    errors = np.array([at - NOON - n * 100_000 for n, at in enumerate(times)])[500:]
    assert abs(errors).max() < 30 * MILLISECOND


def test_a_clock_that_runs_slow_is_followed() -> None:
    clock = CaptureClock(newer_than=Micros(0))
    off = [n * 100_000 - (clock.at(Micros(round(n * 99_980)), came(NOON + n * 100_000)) - NOON) for n in range(36_000)]
    assert max(map(abs, off)) < MILLISECOND


def test_a_clock_set_anew_still_rises() -> None:
    clock = CaptureClock(newer_than=NOON)
    before = clock.at(Micros(500 * SECOND), came(NOON + 10 * SECOND))
    again = clock.at(Micros(0), came(NOON + 11 * SECOND))
    assert (before, again) == (NOON + 10 * SECOND, NOON + 11 * SECOND)
    assert clock.at(Micros(60 * SECOND), came(NOON + 11 * SECOND)) == again + 1


TENTH = 100_000  # microseconds between two pictures


def stamped(clock: CaptureClock, arrivals: list[tuple[int, Moment]]) -> list[Micros]:
    return [clock.at(Micros(pts), moment) for pts, moment in arrivals]


@pytest.mark.parametrize("stall", [1, 2.5, 3, 5, 8, 10])
def test_a_network_that_stands_still_and_then_gives_all_at_once_moves_no_event(stall: float) -> None:
    begin, end = 20 * SECOND, round((20 + stall) * SECOND)

    def arrival(pts: int) -> float:
        return NOON + (end + (pts - begin) // 1_000 if begin <= pts < end else pts)

    clock = CaptureClock(newer_than=Micros(0))
    times = stamped(clock, [(n * TENTH, came(arrival(n * TENTH))) for n in range(600)])
    errors = [abs(at - NOON - n * TENTH) for n, at in enumerate(times)]
    assert max(errors) < 12 * MILLISECOND
    assert clock.resets == 0


def test_a_stall_in_which_the_camera_dropped_its_pictures_is_no_jump_of_its_clock() -> None:
    numbers = [*range(100), 100, *range(131, 300)]  # 100 comes with 131, all between were dropped
    clock = CaptureClock(newer_than=Micros(0))
    times = stamped(clock, [(n * TENTH, came(NOON + TENTH * (131 if n == 100 else n))) for n in numbers])
    assert max(abs(at - NOON - n * TENTH) for n, at in zip(numbers, times, strict=True)) < 5 * MILLISECOND
    assert clock.resets == 0


@pytest.mark.parametrize("jump", [-50, -5, -1, 5, 3_600, 95_443])
def test_a_source_whose_own_time_jumps_is_compared_anew(jump: int) -> None:
    clock = CaptureClock(newer_than=Micros(0))
    times = stamped(clock, [(100 * SECOND + n * TENTH + (jump * SECOND if n >= 100 else 0), came(NOON + n * TENTH)) for n in range(200)])
    assert [at - NOON for at in times] == [n * TENTH for n in range(200)]
    assert clock.resets == 1


def test_a_time_before_zero_is_a_time() -> None:
    clock = CaptureClock(newer_than=Micros(0))
    times = stamped(clock, [(n * TENTH - 5 * SECOND, came(NOON + n * TENTH)) for n in range(100)])
    assert [at - NOON for at in times] == [n * TENTH for n in range(100)]


def test_a_wall_clock_set_back_loses_no_picture() -> None:
    clock, select = CaptureClock(newer_than=Micros(0)), Selector(2)
    times = stamped(clock, [(n * TENTH, came(NOON + n * TENTH, set_by=-30 * SECOND if n >= 200 else 0)) for n in range(600)])
    assert sum(map(select.want, times)) >= 118
    assert (np.diff(times) >= 95_000).all()


def test_a_wall_clock_set_forward_is_followed_at_once() -> None:
    clock = CaptureClock(newer_than=Micros(0))
    times = stamped(clock, [(n * TENTH, came(NOON + n * TENTH, set_by=3_600 * SECOND if n >= 200 else 0)) for n in range(400)])
    assert times[200] - NOON == 200 * TENTH + 3_600 * SECOND
    assert clock.resets == 1


@given(st.lists(st.tuples(st.integers(-40 * SECOND, 40 * SECOND), st.integers(0, 5 * SECOND)), min_size=1, max_size=60))
def test_event_time_rises_whatever_a_camera_says(steps: list[tuple[int, int]]) -> None:
    clock, pts, now, times = CaptureClock(newer_than=NOON), 0, NOON, []
    for step, passed in steps:
        pts, now = pts + step, Micros(now + passed)
        times.append(clock.at(Micros(pts), came(now)))
    assert all(earlier < later for earlier, later in itertools.pairwise([NOON, *times]))
