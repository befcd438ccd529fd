"""One partition through infer: order, what is fetched, what may be passed over, what may be committed."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from streamer.events import Event, EventRef, Modality, Pace, Silence, Window
from streamer.stages.cache import ENTRY_BYTES, SHED, Unusable
from streamer.stages.lane import MOST_WAITING, Admission, Lane
from tests.builders import T0, a_ref, a_silence, a_window, an_event, an_origin, at

PARTITION = an_origin().partition


def frame(number: int, size: int = 100) -> Event:
    return an_event(Modality.FRAMES, number, offset=number, size=size)


def ref(number: int) -> EventRef:
    return a_ref(Modality.FRAMES, number, origin=an_origin("frames", number))


def window(start: int, *, revision: int = 0, more: tuple[EventRef, ...] = ()) -> Window:
    return replace(a_window(start), manifest=(ref(start), ref(start + 1), *more), revision=revision)


def a_lane(bound: int = 1 << 20) -> Lane:
    return Lane(PARTITION, bound=bound, next_offset=7)


def encode(lane: Lane, *numbers: int) -> None:
    for number in numbers:
        assert lane.event(frame(number)) is Admission.ENCODE
        lane.cache.put(ref(number).origin, f"features {number}")


def test_a_window_waits_for_what_is_being_encoded_and_names_the_rest_once() -> None:
    lane = a_lane()
    assert lane.event(frame(0)) is Admission.ENCODE
    lane.window(7, T0, window(0))
    assert [one.origin.offset for one in lane.missing()] == [1]
    assert lane.missing() == []
    assert lane.event(frame(1)) is Admission.KNOWN
    assert lane.ready(9) == []
    lane.cache.put(ref(0).origin, "a")
    lane.cache.put(ref(1).origin, "b")
    ((step),) = lane.held(lane.ready(9))
    assert step.features == ("a", "b")
    assert step.scored


def test_only_the_next_window_is_fetched_for() -> None:
    lane = a_lane()
    lane.window(7, T0, window(0))
    lane.window(8, T0, window(4))
    assert [one.origin.offset for one in lane.missing()] == [0, 1]
    encode_held(lane, 0, 1)
    lane.done(lane.ready(9))
    assert [one.origin.offset for one in lane.missing()] == [4, 5]


def encode_held(lane: Lane, *numbers: int) -> None:
    for number in numbers:
        lane.cache.put(ref(number).origin, f"features {number}")


def test_a_window_that_is_not_ready_holds_up_those_after_it() -> None:
    lane = a_lane()
    encode(lane, 2, 3)
    lane.window(7, T0, window(0))
    lane.window(8, T0, window(2))
    assert lane.ready(9) == []
    assert lane.next_offset == 7


def test_marks_and_unreadable_records_keep_their_place() -> None:
    lane = a_lane()
    encode(lane, 0, 1)
    lane.window(7, T0, None)
    lane.window(8, T0, window(0))
    lane.window(9, T0, a_silence(3, Silence.IDLE))
    steps = lane.held(lane.ready(9))
    assert [(step.entry.offset, step.scored) for step in steps] == [(7, False), (8, True), (9, False)]
    lane.done(step.entry for step in steps)
    assert lane.next_offset == 10
    assert len(lane) == 0


def test_a_revision_whose_successor_was_read_is_passed_over_and_a_first_revision_never() -> None:
    lane = a_lane()
    encode(lane, 0, 1)
    for offset, revision in enumerate((0, 1, 2), 7):
        lane.window(offset, T0, window(0, revision=revision))
    assert [step.scored for step in lane.held(lane.ready(9))] == [True, False, True]


def test_a_passed_over_revision_is_not_fetched_for() -> None:
    lane = a_lane()
    lane.window(7, T0, window(0, revision=1))
    lane.window(8, T0, window(0, revision=2, more=(ref(9),)))
    assert lane.missing() == []
    lane.done(lane.ready(1))
    assert [one.origin.offset for one in lane.missing()] == [0, 1, 9]


def test_a_full_lane_takes_windows_but_no_events() -> None:
    lane = a_lane(bound=4 * ENTRY_BYTES)
    number = 0
    while lane.event(frame(number)) is Admission.ENCODE:
        lane.cache.put(ref(number).origin, "features")
        number += 1
    assert lane.event(frame(number)) is Admission.FULL
    lane.window(7, T0, window(50))
    assert len(lane.missing()) == 2
    encode_held(lane, 50, 51)
    assert len(lane.ready(9)) == 1


def test_an_event_too_large_to_be_read_ahead_is_left_to_its_window() -> None:
    lane = a_lane(bound=4 * ENTRY_BYTES)
    assert lane.event(frame(0, size=3 * ENTRY_BYTES)) is Admission.LATER
    lane.window(7, T0, window(0))
    assert [one.origin.offset for one in lane.missing()] == [0, 1]


def a_full_lane(places: int = 8) -> Lane:
    """Its cache holds the features of the events 0, 1, ..., each needed still; not one more goes in."""
    lane = a_lane(bound=places * ENTRY_BYTES)
    number = 0
    while lane.event(frame(number)) is Admission.ENCODE:
        lane.cache.put(ref(number).origin, "features")
        number += 1
    assert number > 2
    return lane


def test_what_a_window_named_may_go_once_it_is_done() -> None:
    lane = a_full_lane()
    lane.window(7, T0, window(0, more=tuple(ref(number) for number in range(2, len(lane.cache)))))
    lane.window(8, at(120), None)
    assert not lane.cache.roomy()
    lane.done(lane.ready(1))
    assert lane.cache.roomy()
    assert not lane.cache.known(ref(0).origin)


def test_a_revision_does_not_say_what_is_not_needed_any_more() -> None:
    lane = a_full_lane()
    lane.window(7, T0, window(90, revision=1))
    assert not lane.cache.roomy()
    lane.window(8, T0, window(90))
    assert lane.cache.roomy()


def test_the_end_of_a_session_empties_its_cache_and_an_idle_one_does_not() -> None:
    lane = a_lane()
    encode(lane, 0, 1)
    lane.window(7, T0, a_silence(3, Silence.IDLE))
    lane.done(lane.ready(9))
    assert len(lane.cache) == 2
    lane.window(8, T0, a_silence(3, Silence.END))
    lane.done(lane.ready(9))
    assert len(lane.cache) == 0


def test_an_event_moves_the_arrival_clock() -> None:
    lane = a_full_lane()
    assert lane.event(frame(40)) is Admission.FULL
    assert lane.event(frame(120)) is Admission.ENCODE


def test_a_window_moves_the_arrival_clock() -> None:
    lane = a_full_lane()
    lane.window(7, at(120), None)
    assert lane.cache.roomy()


def test_headers_take_up_room_too() -> None:
    lane = a_lane(bound=100 * ENTRY_BYTES)
    assert lane.event(frame(0), headers=60 * ENTRY_BYTES) is Admission.LATER
    assert lane.event(frame(1), headers=40 * ENTRY_BYTES) is Admission.ENCODE
    assert lane.event(frame(2), headers=40 * ENTRY_BYTES) is Admission.ENCODE
    assert lane.event(frame(3), headers=40 * ENTRY_BYTES) is Admission.FULL


def test_a_lane_holds_a_thousand_windows_and_goes_on_when_half_of_them_are_done() -> None:
    lane = a_lane()
    for offset in range(MOST_WAITING):
        assert not lane.crowded()
        lane.window(offset, at(offset), None)
    assert lane.crowded()
    lane.done(lane.ready(MOST_WAITING // 2 - 1))
    assert lane.crowded()
    lane.done(lane.ready(1))
    assert not lane.crowded()


def test_media_newer_than_windows_that_may_not_be_read_are_early() -> None:
    lane = a_lane()
    assert not lane.early(at(9_999))
    for offset in range(MOST_WAITING):
        lane.window(offset, at(offset), None)
    assert lane.early(at(MOST_WAITING))
    assert not lane.early(at(MOST_WAITING - 1))


@given(st.lists(st.sampled_from(["read", "window", "finish", "work"]), max_size=80), st.integers(3, 40))
def test_every_window_is_done_in_order_whatever_comes_first(steps: list[str], places: int) -> None:
    """However small the cache and however far the windows run ahead, nothing waits for ever."""
    lane = Lane(PARTITION, bound=places * ENTRY_BYTES, next_offset=0)
    read = written = 0
    flying: list[int] = []
    done: list[int] = []

    def work() -> None:
        flying.extend(one.origin.offset for one in lane.missing())
        entries = lane.ready(4)
        done.extend(entry.offset for entry in entries)
        lane.done(entries)

    for step in [*steps, *["finish", "work"] * (4 * len(steps) + 4)]:
        if step == "read":
            admission = lane.event(frame(read))
            flying += [read] if admission is Admission.ENCODE else []
            read += admission is not Admission.FULL
        elif step == "window":
            lane.window(written, T0, window(written))
            written += 1
        elif step == "finish" and flying:
            lane.cache.put(ref(flying[0]).origin, flying.pop(0))
        elif step == "work":
            work()
    assert done == list(range(written))
    assert lane.next_offset == written
    assert not lane._latest
    assert not lane.cache._pins


def test_a_shed_frame_is_neither_waited_for_nor_fetched() -> None:
    lane = a_lane()
    encode(lane, 0)
    assert lane.event(frame(1)) is Admission.ENCODE
    lane.cache.put(ref(1).origin, SHED)
    lane.window(7, T0, window(0))
    assert lane.missing() == []
    ((step),) = lane.held(lane.ready(9))
    assert step.features == ("features 0", SHED)


def test_a_track_without_a_usable_frame_gets_one_of_the_shed_back_and_the_window_waits_for_it() -> None:
    lane = a_lane()
    for number in (0, 1, 2, 3):
        assert lane.event(frame(number)) is Admission.ENCODE
        lane.cache.put(ref(number).origin, SHED if number else Unusable(reason="bad_payload"))
    lane.window(7, T0, window(0))
    lane.window(8, T0, window(2))
    assert lane.ready(9) == []
    assert [one.origin.offset for one in lane.missing()] == [1]
    assert lane.missing() == []
    assert lane.ready(9) == []
    lane.cache.put(ref(1).origin, Unusable(reason="expired"))
    assert [one.offset for one in lane.ready(9)] == [7]  # nothing more can be done for it; the next one waits for its own
    lane.done(lane.ready(9))
    assert [one.origin.offset for one in lane.missing()] == [2]
    lane.cache.put(ref(2).origin, "features")
    assert [one.offset for one in lane.ready(9)] == [8]


def test_what_waited_longest_is_the_first_live_window() -> None:
    lane = a_lane()
    assert lane.oldest() is None
    lane.window(7, at(1), a_silence())
    lane.window(8, at(2), replace(window(0), pace=Pace.RECORDED))
    assert lane.oldest() is None
    lane.window(9, at(3), live := window(2))
    lane.window(10, at(4), window(4))
    assert lane.oldest() == (at(3), live.trigger)
