"""The aligner case by case. The laws are in test_align_laws.py."""

from __future__ import annotations

from dataclasses import replace

from streamer.errors import Reason
from streamer.events import (
    SECOND,
    Clock,
    ClosedBy,
    Mark,
    Micros,
    Modality,
    Pace,
    SessionId,
    SessionMark,
    Silence,
    TrackState,
    Window,
    Words,
)
from streamer.ids import window_id
from streamer.stages.align import Aligner, Rejected
from streamer.stages.align.windows import MOST_EVENTS
from streamer.stages.times import EARLIEST, LATEST
from streamer.stages.wire import write_window
from streamer.topology import TOPIC
from tests.stages.align_streams import AUDIO, FRAMES, NOON, SETTINGS, TRANSCRIPTS, Driver, Log, at


def street(until: int, *, audio: bool = True, session: str = "hall") -> Log:
    """Two frames and one chunk of sound a second; everything arrives the moment it ends."""
    log = Log()
    for second in range(until):
        log.event(FRAMES, second, session=session)
        log.event(FRAMES, second + 0.5, session=session)
        if audio:
            log.event(AUDIO, second, second + 1, session=session)
    return log


def read(driver: Driver) -> list[Window | SessionMark]:
    """All that has been appended, as one batch."""
    driver.append(len(driver.log.all))
    for modality in Modality:
        driver.read(modality, 1_000)
    return driver.tick()


def spans(outputs: list[Window | SessionMark]) -> list[tuple[float, float, int]]:
    return [((w.start - NOON) / 1e6, (w.end - NOON) / 1e6, w.revision) for w in outputs if isinstance(w, Window)]


def test_a_window_goes_out_when_every_waited_for_track_has_passed_it() -> None:
    driver = Driver(street(4))
    outputs = read(driver)
    assert spans(outputs) == [(-1, 1, 0), (0, 2, 0), (1, 3, 0)]
    window = outputs[1]
    assert isinstance(window, Window)
    assert window.id == window_id(window.session, at(0), at(2))
    assert [(ref.modality, ref.start) for ref in window.manifest] == [
        (AUDIO, at(0)),
        (FRAMES, at(0)),
        (FRAMES, at(0.5)),
        (AUDIO, at(1)),
        (FRAMES, at(1)),
        (FRAMES, at(1.5)),
    ]
    assert window.closed_by is ClosedBy.WATERMARK
    assert window.trigger == at(3)
    frames = window.completeness[FRAMES]
    assert (frames.state, frames.events, frames.covered) == (TrackState.ACTIVE, 4, 1.0)
    assert window.completeness[TRANSCRIPTS].state is TrackState.ABSENT


def test_late_transcript_makes_a_revision() -> None:
    driver = Driver(street(6))
    read(driver)
    driver.log.event(TRANSCRIPTS, 1.2, 1.8, arrival=6)
    outputs = read(driver)
    assert spans(outputs) == [(0, 2, 1), (1, 3, 1)]
    words = [ref.words.text for window in outputs if isinstance(window, Window) for ref in window.manifest if ref.words]
    assert words == ["help", "help"]
    assert all(isinstance(window, Window) and window.trigger == at(6) for window in outputs)


def test_transcripts_that_lag_do_not_hold_up_a_window() -> None:
    log = street(6)
    log.mark(TRANSCRIPTS, 1, arrival=6)
    assert spans(read(Driver(log)))[-1] == (3, 5, 0)


def test_a_dead_camera_does_not_stall_the_microphone() -> None:
    log = street(2)
    for second in range(2, 12):
        log.event(AUDIO, second, second + 1)
    outputs = read(Driver(log))
    last = [window for window in outputs if isinstance(window, Window)][-1]
    assert last.end == at(11)
    assert last.completeness[FRAMES].state is TrackState.IDLE


def test_catching_up_is_not_silence() -> None:
    driver = Driver(street(60), live=False)
    driver.read(AUDIO, 60)
    outputs = []
    for _ in range(60):
        driver.read(FRAMES, 2)
        outputs += driver.tick()
    assert not any(isinstance(output, SessionMark) for output in outputs)
    assert {window.revision for window in outputs if isinstance(window, Window)} == {0}


def test_a_camera_an_hour_behind_is_late_and_not_waited_for() -> None:
    log = street(6)
    for second in range(6):
        log.event(FRAMES, second - 3_600, arrival=second, source="wrong")
    driver = Driver(log)
    assert spans(read(driver))[-1][:2] == (3, 5)
    assert len(driver.late) == 6
    assert min(late.delay for late in driver.late.values()) >= Micros(3_600_000_000)


def test_a_camera_that_trails_within_the_horizon_revises() -> None:
    log = street(8)
    log.event(FRAMES, 2, arrival=8, source="slow")
    outputs = read(Driver(log))
    assert spans(outputs)[-1] == (5, 7, 0)
    driver = Driver(street(8))
    read(driver)
    driver.log.event(FRAMES, 2, arrival=8, source="slow")
    assert spans(read(driver)) == [(1, 3, 1), (2, 4, 1)]


def test_a_record_from_the_future_does_not_push_the_watermark() -> None:
    log = street(3)
    log.event(FRAMES, 3_600, arrival=3, source="bad")
    log.mark(AUDIO, 3_600, arrival=3, source="bad")
    driver = Driver(log)
    assert spans(read(driver))[-1] == (0, 2, 0)
    assert [rejected.reason for rejected in driver.rejected.values()] == [Reason.FUTURE, Reason.FUTURE]


def test_a_chunk_that_is_too_long_is_rejected() -> None:
    log = Log()
    log.event(AUDIO, 0, 10.5)
    driver = Driver(log)
    read(driver)
    assert [rejected.reason for rejected in driver.rejected.values()] == [Reason.TOO_LONG]


def test_a_record_of_another_pace_is_rejected() -> None:
    log = street(2)
    log.event(FRAMES, 2, pace=Pace.RECORDED)
    driver = Driver(log)
    read(driver)
    assert [rejected.reason for rejected in driver.rejected.values()] == [Reason.PACE]


def test_an_expected_track_is_waited_for_until_the_idle_timeout() -> None:
    driver = Driver(street(2, audio=False), expected=(FRAMES, AUDIO))
    assert read(driver) == []
    driver.log.event(FRAMES, 2.9)
    assert read(driver) == []
    driver.log.event(FRAMES, 3)
    driver.log.event(FRAMES, 3.5)
    assert spans(read(driver)) == [(-1, 1, 0), (0, 2, 0), (1, 3, 0)]


def test_an_expected_track_that_appears_in_time_is_in_the_first_revision() -> None:
    driver = Driver(street(2, audio=False), expected=(FRAMES, AUDIO))
    assert read(driver) == []
    driver.log.event(AUDIO, 0, 2, arrival=2.5)
    driver.log.event(FRAMES, 2.5)
    [window] = read(driver)
    assert isinstance(window, Window)
    assert {ref.modality for ref in window.manifest} == {FRAMES, AUDIO}


def test_silence_flushes_once_and_again_after_new_data() -> None:
    driver = Driver(street(2))
    read(driver)
    driver.now = at(5)
    *flushed, mark = driver.tick()
    assert [window.closed_by for window in flushed if isinstance(window, Window)][-1] is ClosedBy.IDLE
    assert isinstance(mark, SessionMark)
    assert (mark.at, mark.why) == (at(2), Silence.IDLE)
    assert driver.tick() == []
    driver.log.event(FRAMES, 6)
    assert read(driver) == []
    driver.now = at(9)
    assert [type(output) for output in driver.tick()] == [Window, Window, SessionMark]


def test_end_marks_flush_at_once() -> None:
    log = street(2)
    log.mark(FRAMES, 2, final=True)
    log.mark(AUDIO, 2, final=True)
    outputs = read(Driver(log))
    mark = outputs[-1]
    assert isinstance(mark, SessionMark)
    assert mark.why is Silence.END
    assert spans(outputs) == [(-1, 1, 0), (0, 2, 0), (1, 3, 0)]


def recording(*, end: bool) -> Log:
    """Twenty seconds, written within one."""
    log = Log()
    for second in range(20):
        log.event(FRAMES, second, arrival=100, session="tape", pace=Pace.RECORDED)
        log.event(AUDIO, second, second + 1, arrival=100, session="tape", pace=Pace.RECORDED)
    for modality in (FRAMES, AUDIO) if end else ():
        log.mark(modality, 20, final=True, arrival=100, session="tape", pace=Pace.RECORDED)
    return log


def test_a_recorded_session_is_never_late_and_ends_with_its_last_end_mark() -> None:
    driver = Driver(recording(end=True))
    driver.log.event(FRAMES, 1.5, arrival=100, session="tape", pace=Pace.RECORDED)
    outputs = read(driver)
    assert driver.late == {}
    mark = outputs[-1]
    assert isinstance(mark, SessionMark)
    assert (mark.why, mark.at) == (Silence.END, at(20))


def test_a_recorded_session_survives_a_crash_between_its_end_marks() -> None:
    driver = Driver(recording(end=True))
    driver.append(len(driver.log.all) - 1)
    driver.read(FRAMES, 100)
    driver.read(AUDIO, 100)
    driver.tick()
    driver.checkpoint()
    driver.resume()
    mark = read(driver)[-1]
    assert isinstance(mark, SessionMark)
    assert mark.why is Silence.END


def test_a_recorded_session_is_not_idle_but_given_up_in_the_end() -> None:
    driver = Driver(recording(end=False))
    read(driver)
    driver.now = at(100 + 19)
    assert driver.tick() == []
    driver.now = at(100 + 20)
    mark = driver.tick()[-1]
    assert isinstance(mark, SessionMark)
    assert mark.why is Silence.IDLE


def test_a_recorded_time_a_day_from_its_first_is_future_or_late() -> None:
    log = Log()
    for seconds in (0, 86_401, -86_401):
        log.event(FRAMES, seconds, arrival=5, pace=Pace.RECORDED)
    driver = Driver(log)
    read(driver)
    assert [rejected.reason for rejected in driver.rejected.values()] == [Reason.FUTURE]
    assert [late.reason for late in driver.late.values()] == ["span"]


def test_low_water_stands_at_the_first_record_of_an_open_window() -> None:
    driver = Driver(street(4))
    read(driver)
    low = driver.aligner.low_water(FRAMES, driver.position[FRAMES])
    first_held = driver.log.topics[FRAMES][low.offset]
    assert not isinstance(first_held, Mark)
    assert (first_held.start, low.clock) == (at(2), at(1.5))
    assert driver.aligner.oldest_out() == 0


def test_another_owners_window_is_merged_into_a_revision() -> None:
    driver, other = Driver(street(4)), Driver(street(4))
    mine = read(driver)
    other.log.event(TRANSCRIPTS, 0.2, 0.8, arrival=4)
    theirs = [output for output in read(other) if isinstance(output, Window) and any(ref.words for ref in output.manifest)]
    foreign = list(enumerate(theirs, start=len(mine)))
    driver.aligner.merge(foreign)
    driver.windows += theirs
    merged = driver.tick()
    assert spans(merged) == [(-1, 1, 1), (0, 2, 1)]
    assert all(any(ref.words for ref in window.manifest) for window in merged if isinstance(window, Window))
    again = Aligner(SETTINGS, {})
    again.restore(list(enumerate(driver.windows)), driver.clock)
    assert [output for output in again.tick(driver.clocks(), driver.now) if isinstance(output, Window)] == []


def test_a_camera_whose_clock_stands_still_does_not_hold_up_its_place_or_the_checkpoint() -> None:
    driver = Driver(street(10, audio=False))
    read(driver)
    for second in range(10, 60):
        driver.log.event(FRAMES, 10, arrival=second, name=f"stuck{second}")
        read(driver)
    assert spans(driver.windows)[-1][0] == 10
    assert driver.aligner.tally.open_windows == 0
    assert driver.aligner.low_water(FRAMES, driver.position[FRAMES]).offset == driver.position[FRAMES]


def test_a_place_that_speaks_again_needs_no_memory_of_its_silence() -> None:
    log = Log()
    for second in range(5):
        log.event(FRAMES, second)
    driver = Driver(log)
    for _ in driver.drain(1):
        pass
    silent = len(driver.windows) - 1
    assert isinstance(driver.windows[silent], SessionMark)
    assert (driver.aligner.oldest_out() or 0) <= silent
    for second in range(20, 60):
        log.event(FRAMES, second)
        read(driver)
    assert (driver.aligner.oldest_out() or 0) > silent


def test_times_whose_windows_cannot_be_written_are_refused() -> None:
    aligner = Aligner(SETTINGS, {})
    for start in (EARLIEST, LATEST):
        event = replace(Log().event(FRAMES, 0, pace=Pace.RECORDED), start=start, end=start)
        (refused,) = aligner.push(event, at(0))
        assert isinstance(refused, Rejected)
        assert refused.reason is Reason.FUTURE


def test_nobody_becomes_known_by_what_is_late() -> None:
    aligner = Aligner(SETTINGS, {})
    log = Log()
    log.event(FRAMES, 0)
    for number in range(5):
        log.event(FRAMES, 0, arrival=60, source=f"stray{number}")
    outputs = [output for item in log.all for output in aligner.push(item, item.arrival)]
    assert len(outputs) == 5
    assert len(aligner._sessions[SessionId("hall")].tracks) == 1


def test_windows_of_another_length_stay_as_they_are() -> None:
    driver = Driver(street(6))
    stood = list(enumerate(read(driver)))
    longer = Aligner(SETTINGS.model_copy(update={"length": 4 * SECOND}), {})
    longer.restore(stood, {})
    assert [output for output in longer.tick({}, at(6)) if isinstance(output, Window)] == []
    assert longer.tally.held_events == 0


def test_a_window_that_is_full_still_fits_its_topic_and_the_rest_is_refused() -> None:
    aligner, log = Aligner(SETTINGS.model_copy(update={"max_events": 100_000}), {}), Log()
    refused = 0
    for modality in Modality:
        for number in range(MOST_EVENTS + 10):
            name = f"{number:05d}".ljust(64, "x")
            event = log.event(modality, 0.5, None if modality is FRAMES else 0.6, source="s" * 64, name=name)
            words = Words(text="\x01" * 40, confidence=0.1234567890123456, language="en") if modality is TRANSCRIPTS else None
            outputs = aligner.push(replace(event, words=words), event.arrival)
            assert all(isinstance(output, Rejected) and output.reason is Reason.CROWDED for output in outputs)
            refused += len(outputs)
    outputs = aligner.tick({modality: Clock(arrival=at(60)) for modality in Modality}, at(60))
    windows = [output for output in outputs if isinstance(output, Window)]
    assert refused >= 30
    assert len(windows[0].manifest) + refused == 3 * (MOST_EVENTS + 10)
    assert 2_000_000 < max(len(write_window(window).value or b"") for window in windows) <= TOPIC["windows"].limit


def test_a_session_that_is_still_to_fall_silent_is_known_after_a_restart() -> None:
    """Its only window is beyond the horizon, and what came since was late: nothing but that window tells that a mark is due."""
    log = Log()
    log.event(FRAMES, 1)
    log.event(FRAMES, 1.2, arrival=14)
    driver = Driver(log, live=False)
    driver.now = at(16)
    driver.read(FRAMES, 2)
    windows = [record for record in driver.tick() if isinstance(record, Window)]
    driver.tick()
    assert len(windows) == 2 and list(driver.late) == [log.all[1].origin]
    driver.checkpoint()
    driver.resume()
    driver.run()
    marks = [record for record in driver.windows if isinstance(record, SessionMark)]
    assert [(mark.session, mark.why) for mark in marks] == [("hall", Silence.IDLE)]
    driver.now = at(14 + 3 * 20)
    driver.tick()
    assert driver.aligner.oldest_out() is None
