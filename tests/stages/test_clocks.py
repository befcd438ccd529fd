"""What is estimated of a source's clock: how soon, how exactly, and what must not disturb it."""

from __future__ import annotations

import random
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.events import MILLISECOND, SECOND, Event, Micros, Modality, Pace, SessionId, Track
from streamer.stages import clocks as module
from streamer.stages.clocks import AGREE, INTERVAL, MOST_TRACKS, SPAN, STEP, TYPICAL, Clocks, Estimate, Limits, Worst
from streamer.stages.envelope import read_head, write_frame
from tests.builders import PARTITIONS, T0, a_frame, a_record, a_track, an_event, at

LIMITS = Limits(offset=SECOND, drift=200.0)
MS = MILLISECOND
MINUTE = 60
Law = Callable[[float], float]
"""Seconds since T0, true time -> how far the clock is ahead then, in seconds."""


def ahead(seconds: float = 0, *, ppm: float = 0) -> Law:
    return lambda when: seconds + when * ppm / 1e6


def stream(
    law: Law, *, minutes: float, begin: float = 0, track: Track | None = None, fps: float = 2, seed: int = 0, queue: Law = lambda _: 0
) -> Iterator[Event]:
    """A live camera whose records need 60 ms, plus a one-sided, heavy-tailed delay (a tenth of them over half a second), plus `queue`."""
    noise = random.Random(seed)
    for n in range(int(minutes * MINUTE * fps)):
        when = begin + n / fps
        delay = 0.060 + min(0.020 * noise.paretovariate(0.7) - 0.020, 30.0) + queue(when)
        arrival = at(when + delay)
        event = an_event(when=when + law(when), arrival=Micros(arrival // MS * MS))  # a broker counts milliseconds
        yield replace(event, track=track) if track else event


def watch(*streams: Iterator[Event]) -> Clocks:
    """All events in the order of their arrival, as the log gives them."""
    clocks = Clocks(LIMITS)
    for event in sorted((event for one in streams for event in one), key=lambda event: event.arrival):
        clocks.see(event)
    return clocks


def of(clocks: Clocks, track: Track | None = None) -> Estimate:
    return dict(clocks.estimates())[track or a_track()]


OTHERS = [replace(a_track(), source=f"other-{n}") for n in range(3)]


def others(minutes: float) -> list[Iterator[Event]]:
    return [stream(ahead(), minutes=minutes, track=track, seed=100 + n) for n, track in enumerate(OTHERS)]


@pytest.mark.parametrize("offset", [-3_600, -2.5, -0.3, 0.3, 2.5, 3_600])
@pytest.mark.parametrize("seed", range(3))
def test_a_constant_offset_is_told_after_two_minutes_to_twenty_milliseconds(offset: float, seed: int) -> None:
    estimate = of(watch(stream(ahead(offset), minutes=2.1, seed=seed), *others(2.1)))
    assert abs(estimate.offset - offset * SECOND) < 20 * MS
    assert estimate.drift is None  # too early to tell


@pytest.mark.parametrize("ppm", [-500, -50, 0, 50, 500])
@pytest.mark.parametrize("seed", range(5))
def test_drift_is_told_after_a_quarter_of_an_hour_to_ten_ppm(ppm: float, seed: int) -> None:
    estimate = of(watch(stream(ahead(0.2, ppm=ppm), minutes=15.6, seed=seed), *others(15.6)))
    assert estimate.drift is not None and abs(estimate.drift - ppm) < 10
    assert abs(estimate.offset - (0.2 + 15.6 * MINUTE * ppm / 1e6) * SECOND) < 30 * MS
    assert estimate.steps == 0


@pytest.mark.parametrize("seed", range(5))
def test_drift_of_500_ppm_is_beyond_the_limit_after_six_minutes(seed: int) -> None:
    estimate = of(watch(stream(ahead(ppm=500), minutes=6.1, seed=seed)))
    assert estimate.drift is not None and 300 < estimate.drift < 700
    clocks = watch(stream(ahead(ppm=500), minutes=6.1, seed=seed))
    look = clocks.look(T0)
    assert look is not None and look.worst[Modality.FRAMES].beyond == 1
    assert of(clocks).beyond


@pytest.mark.parametrize("step", [-5, 5])
def test_a_clock_that_is_set_is_counted_once_and_learnt_anew_within_two_minutes(step: float) -> None:
    def law(when: float) -> float:
        return step if when >= 10 * MINUTE else 0

    before = of(watch(stream(law, minutes=9.9), *others(9.9)))
    after = of(watch(stream(law, minutes=12.1), *others(12.1)))
    assert (before.steps, abs(before.offset) < 20 * MS) == (0, True)
    assert (after.steps, abs(after.offset - step * SECOND) < 20 * MS) == (1, True)
    assert after.drift is None


def test_a_network_that_stands_still_and_then_gives_all_at_once_changes_nothing() -> None:
    def backlog(when: float) -> float:  # what is captured within the minute comes at its end
        return max(0.0, 6 * MINUTE - when) if when >= 5 * MINUTE else 0

    plain, held = (of(watch(stream(ahead(), minutes=8, queue=queue))) for queue in (lambda _: 0, backlog))
    assert held.steps == plain.steps == 0
    assert abs(held.delay - plain.delay) < 20 * MS
    assert held.drift is not None and abs(held.drift) < 50


def test_a_queue_that_drains_slowly_is_no_step() -> None:
    def queue(when: float) -> float:  # a minute's worth, given out at 1.2 times the pace
        return max(0.0, 60 - 0.2 * (when - 5 * MINUTE)) if when >= 5 * MINUTE else 0

    estimate = of(watch(stream(ahead(), minutes=15, queue=queue)))
    assert estimate.steps == 0
    assert estimate.delay < 100 * MS


def test_silence_changes_nothing_until_it_has_lasted_a_quarter_of_an_hour() -> None:
    head = list(stream(ahead(2, ppm=100), minutes=10))
    tail = list(stream(ahead(2, ppm=100), minutes=2, begin=20 * MINUTE))
    assert of(watch(iter(head), iter(tail))).steps == 0
    clocks = watch(iter(head), *others(10))
    clocks.look(T0)
    for event in stream(ahead(), minutes=1, begin=10 * MINUTE + SPAN / SECOND + 60, track=OTHERS[0]):
        clocks.see(event)
    clocks.look(at(3_600))
    assert [track for track, _ in clocks.estimates()] == OTHERS[:1]


@given(st.randoms(use_true_random=False), st.integers(1, 3))
@settings(max_examples=10, deadline=None)
def test_duplicates_and_disorder_within_an_interval_change_nothing(noise: random.Random, times: int) -> None:
    plain = list(stream(ahead(1.5, ppm=80), minutes=6))
    mixed: list[Event] = []
    for number in range(int(7 * MINUTE * SECOND // INTERVAL)):
        group = [event for event in plain if (event.arrival - T0) // INTERVAL == number] * times
        noise.shuffle(group)
        mixed += group
    ordered, clocks = watch(iter(plain)), Clocks(LIMITS)
    for event in mixed:
        clocks.see(event)
    assert abs(of(clocks).delay - of(ordered).delay) <= 1
    assert abs((of(clocks).drift or 0) - (of(ordered).drift or 0)) < 1


def test_one_record_with_a_mad_time_changes_nothing() -> None:
    plain = list(stream(ahead(), minutes=8))
    mad = [replace(plain[n], end=Micros(plain[n].end + shift * SECOND)) for n, shift in ((300, 4), (500, -80), (700, 4))]
    estimate = of(watch(iter(plain), iter(mad)))
    assert (estimate.steps, abs(estimate.offset) < 20 * MS) == (0, True)


def test_a_lone_source_is_told_only_what_its_path_cannot_explain() -> None:
    assert abs(of(watch(stream(ahead(-0.5), minutes=2.1))).offset) < 20 * MS  # half a second behind, or a slow path?
    assert abs(of(watch(stream(ahead(-3_600), minutes=2.1))).offset + 3_600 * SECOND - TYPICAL) < 100 * MS
    assert abs(of(watch(stream(ahead(0.5), minutes=2.1))).offset - (0.5 - 0.06) * SECOND) < 20 * MS  # no path is as fast as that


def test_recordings_and_transcripts_have_no_clock() -> None:
    clocks = Clocks(LIMITS)
    for event in stream(ahead(), minutes=3):
        clocks.see(replace(event, pace=Pace.RECORDED))
        clocks.see(replace(event, track=a_track(Modality.TRANSCRIPTS)))
    assert list(clocks.estimates()) == []


def test_a_clock_is_reported_when_it_goes_beyond_the_limit_and_when_it_is_back_and_not_between() -> None:
    def law(when: float) -> float:  # 0, then 1.2 s, 0.8 s, 1.2 s, and right again, for five minutes each
        return (0, 1.2, 0.8, 1.2, 0)[min(4, int(when // (5 * MINUTE)))]

    said, clocks = [], Clocks(LIMITS)
    events = sorted((e for one in (stream(law, minutes=25), *others(25)) for e in one), key=lambda event: event.arrival)
    for event in events:
        clocks.see(event)
        if look := clocks.look(event.arrival):
            said += [(track.source, beyond) for track, _, beyond in look.changed]
            counted = look.worst[Modality.FRAMES].beyond
            assert counted == (said[-1][1] if said else 0)
    assert said == [("cam-1", True), ("cam-1", False)]
    worst = look.worst[Modality.FRAMES] if (look := clocks.look(at(9_999))) else None
    assert worst is not None and worst.steps >= 2


def test_the_worst_clock_is_shown_with_its_sign() -> None:
    clocks = watch(stream(ahead(-7, ppm=-300), minutes=16), *others(16))
    look = clocks.look(T0)
    assert look is not None
    assert -7.5 < look.worst[Modality.FRAMES].offset / SECOND < -7
    assert -320 < look.worst[Modality.FRAMES].drift < -280
    assert look.worst[Modality.AUDIO] == Worst(offset=Micros(0), drift=0, beyond=0, steps=0)
    assert clocks.look(Micros(T0 + INTERVAL - 1)) is None


def test_memory_is_bounded_however_many_tracks_and_records_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TRACKS", 100)
    clocks = Clocks(LIMITS)
    for n in range(1_000):
        clocks.see(replace(an_event(when=n / 10), track=Track(session=SessionId(f"s{n}"), modality=Modality.AUDIO, source="mic")))
    assert len(clocks._clocks) == 100
    one = Clocks(LIMITS)
    for event in stream(ahead(), minutes=40, fps=1):
        one.see(event)
    assert {len(clock._lows) for clock in one._clocks.values()} == {SPAN // INTERVAL}
    tracemalloc.start()
    many = Clocks(LIMITS)
    for n in range(50):
        for event in stream(ahead(), minutes=16, fps=1 / 30, track=Track(session=SessionId(f"s{n}"), modality=Modality.FRAMES, source="c")):
            many.see(event)
    assert tracemalloc.get_traced_memory()[0] / 50 * MOST_TRACKS < 150e6
    tracemalloc.stop()


def test_one_record_costs_a_fraction_of_reading_its_head() -> None:
    """Fits included; in turns, against what every record costs anyway, so that a busy machine does not matter."""
    events = list(stream(ahead(), minutes=30))
    head = a_record(write_frame(a_frame(0)))

    def read_heads() -> None:
        for _ in events:
            read_head(head, PARTITIONS)

    def see() -> None:
        clocks = Clocks(LIMITS)
        for event in events:
            clocks.see(event)

    def spent(work: Callable[[], None]) -> float:
        tracing = sys.gettrace()
        sys.settrace(None)  # coverage would weigh more on the one than on the other
        try:
            started = time.thread_time()
            work()
            return time.thread_time() - started
        finally:
            sys.settrace(tracing)

    rounds = [(spent(read_heads), spent(see)) for _ in range(5)]
    unit, cost = (min(column) for column in zip(*rounds, strict=True))
    assert cost < unit / 5


def test_steps_need_as_many_intervals_as_are_said_and_more_than_the_step() -> None:
    def feed(jump: float, intervals: int) -> Estimate:
        until = 300 + intervals * INTERVAL / SECOND
        events = stream(lambda when: jump if when >= 300 else 0, minutes=(until + 1) / 60)
        return of(watch(events))

    assert feed(2 * STEP / SECOND, AGREE - 1).steps == 0
    assert feed(2 * STEP / SECOND, AGREE + 1).steps == 1
    assert feed(0.5 * STEP / SECOND, AGREE + 1).steps == 0
