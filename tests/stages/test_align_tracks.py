"""Sources of a session: how many are remembered and when they are forgotten. And what a recording is measured from."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from streamer.errors import Reason
from streamer.events import SECOND, Clock, Micros, Modality, Pace, SessionId, SessionMark, Silence, TrackState, Window
from streamer.stages.align import Aligner
from streamer.stages.align.tracks import MOST_TRACKS, TrackClock
from tests.builders import a_ref
from tests.stages.align_streams import AUDIO, FRAMES, SETTINGS, TRANSCRIPTS, Driver, Log, at, final, reference
from tests.stages.test_align_laws import fast

HALL = SessionId("hall")


def tracks(driver: Driver) -> int:
    return len(driver.aligner._sessions[HALL].tracks)


def read(driver: Driver) -> None:
    """All that has been appended, as one batch."""
    driver.append(len(driver.log.all))
    for modality in Modality:
        driver.read(modality, 1_000)
    driver.tick()


def read_at(driver: Driver, second: float) -> None:
    driver.now = at(second)
    read(driver)


def test_a_source_too_many_is_refused_with_its_reason_and_the_others_go_on() -> None:
    log = Log()
    for number in range(MOST_TRACKS + 5):
        log.event(FRAMES, 1, source=f"camera{number}")
    log.mark(AUDIO, 1, source="microphone")
    log.event(FRAMES, 1.5, source="camera0")
    driver = Driver(log)
    read(driver)
    assert [rejected.reason for rejected in driver.rejected.values()] == [Reason.TOO_MANY_TRACKS] * 6
    assert driver.aligner.tally.aligned[FRAMES] == MOST_TRACKS + 1


def test_a_source_for_each_record_does_not_grow_what_is_remembered() -> None:
    driver = Driver(Log())
    most = 0
    for second in range(300):
        driver.log.event(FRAMES, second, source=f"camera{second}")
        driver.log.event(AUDIO, second, second + 0.5)
        read(driver)
        driver.checkpoint()
        most = max(most, tracks(driver))
    assert most <= (SETTINGS.horizon + SETTINGS.length + SETTINGS.idle) // 1_000_000 + 4
    assert driver.rejected == {}
    assert final(driver.run().windows) == reference(driver.log)


def test_sources_that_only_send_marks_are_forgotten_too() -> None:
    driver = Driver(Log())
    for second in range(200):
        driver.log.mark(FRAMES, second, source=f"camera{second}")
        driver.log.event(AUDIO, second, second + 1)
        read(driver)
    assert tracks(driver) <= SETTINGS.horizon // 1_000_000 + 2


def test_the_last_source_of_a_modality_is_remembered_so_that_windows_say_it_is_idle() -> None:
    log = Log()
    for number in range(4):
        log.event(FRAMES, 0, source=f"camera{number}")
    driver = Driver(log)
    for second in range(60):
        log.event(AUDIO, second, second + 1)
        read(driver)
    last = next(record for record in reversed(driver.windows) if isinstance(record, Window))
    assert last.completeness[FRAMES].state is TrackState.IDLE
    assert tracks(driver) == 2


def test_a_forgotten_source_that_speaks_again_is_waited_for_like_a_new_one() -> None:
    log = Log()
    for number in range(4):
        log.event(FRAMES, 0, source=f"camera{number}")
    driver = Driver(log)
    for second in range(40):
        log.event(AUDIO, second, second + 1)
        read(driver)
    log.event(FRAMES, 40, source="camera0")
    log.event(AUDIO, 40, 42.5)
    read(driver)
    newest = max(record.end for record in driver.windows if isinstance(record, Window))
    assert newest == at(39)  # progress 40 s - bound 0.3 s
    assert final(driver.run().windows) == reference(log)


def test_a_place_of_which_only_late_records_came_is_not_remembered() -> None:
    log = Log()
    log.event(FRAMES, 100)
    for number in range(50):
        log.event(FRAMES, 0, arrival=100, session=f"stray{number}")
    driver = Driver(log)
    read(driver)
    assert len(driver.late) == 50
    assert set(driver.aligner._sessions) == {HALL}


hours = st.lists(st.sampled_from([0, 1, 12, 20, 23, 24, 25, 26, 47, 48, 50, -1, -20, -24, -25]), max_size=8)


@fast
@given(hours, hours, st.lists(st.tuples(st.booleans(), st.integers(1, 4), st.sampled_from(["read", "tick", "save", "crash"])), max_size=12))
def test_what_a_recording_is_measured_from_is_a_function_of_the_log(
    frames: list[int], audio: list[int], schedule: list[tuple[bool, int, str]]
) -> None:
    log = Log()
    for modality, times in ((FRAMES, frames), (AUDIO, audio)):
        for number, hour in enumerate(times):
            log.event(modality, hour * 3_600 + number, arrival=100, session="tape", pace=Pace.RECORDED)
    for modality in (FRAMES, AUDIO):
        log.mark(modality, 0, final=True, arrival=100, session="tape", pace=Pace.RECORDED)
    disturbed, plain = Driver(log, live=False), Driver(log, live=False)
    for first, count, move in schedule:
        if move == "read":
            disturbed.read(FRAMES if first else AUDIO, count)
        elif move == "tick":
            disturbed.tick()
        elif move == "save":
            disturbed.tick()
            disturbed.checkpoint()
        else:
            disturbed.resume()
    for driver in (disturbed, plain):
        driver.run()
        driver.now = Micros(driver.now + SETTINGS.session_end)  # a mark may be a day ahead, and refused: then it is given up
        driver.tick()
    assert final(disturbed.windows) == final(plain.windows)
    assert set(disturbed.late) == set(plain.late)


def test_a_mark_a_day_from_the_recording_does_not_move_its_watermark() -> None:
    log = Log()
    event = log.event(FRAMES, 0, arrival=5, pace=Pace.RECORDED)
    mark = log.mark(AUDIO, 90_000, arrival=5, pace=Pace.RECORDED)
    aligner = Aligner(SETTINGS, {})
    assert aligner.push(event, event.arrival) == []
    (refused,) = aligner.push(mark, mark.arrival)
    assert getattr(refused, "reason", None) is Reason.FUTURE
    aligner.tick({modality: Clock(arrival=at(5)) for modality in Modality}, at(5))
    assert all(watermark <= at(0) for watermark in aligner.watermarks().values())


def test_a_first_record_that_is_read_again_is_still_the_first() -> None:
    log = Log()
    for number, hour in enumerate((0, 20, 23)):
        log.event(FRAMES, hour * 3_600, arrival=number, pace=Pace.RECORDED)
    aligner = Aligner(SETTINGS, {})
    stood = Driver(log).run()
    latest = [w for w in stood.windows if isinstance(w, Window)][-2:]  # a tail from which the first event's window is missing
    aligner.restore(list(enumerate(latest)), {})
    again = log.event(FRAMES, -3_600, arrival=3, pace=Pace.RECORDED)
    first = log.topics[FRAMES][0]
    assert aligner.push(first, first.arrival) == []
    assert aligner.push(again, again.arrival) == []


def ended_by_another() -> tuple[Aligner, Log]:
    """A recording of which one end mark was read, before a replaced worker, who had read both, wrote that it has ended."""
    log, aligner = Log(), Aligner(SETTINGS, {SessionId("tape"): (FRAMES, AUDIO)})
    for modality in (FRAMES, AUDIO):
        log.event(modality, 0, 1, arrival=5, session="tape", pace=Pace.RECORDED)
        log.mark(modality, 1, final=True, arrival=5, session="tape", pace=Pace.RECORDED)
    for item in (*log.topics[FRAMES], log.topics[AUDIO][0]):
        assert aligner.push(item, item.arrival) == []
    for offset, output in enumerate(out for out in tick(aligner, 5) if isinstance(out, Window)):
        aligner.written(output, offset)
    return aligner, log


def tick(aligner: Aligner, seconds: float) -> list[object]:
    return list(aligner.tick({modality: Clock(arrival=at(seconds)) for modality in Modality}, at(seconds)))


def test_end_marks_of_a_recording_that_another_ended_do_not_hold_up_the_partition() -> None:
    aligner, log = ended_by_another()
    assert aligner.low_water(FRAMES, 2).offset < 2
    aligner.merge([(9, SessionMark(session=SessionId("tape"), at=at(1), why=Silence.END, pace=Pace.RECORDED))])
    last = log.topics[AUDIO][1]
    assert aligner.push(last, last.arrival) == []
    for output in tick(aligner, 6):
        assert isinstance(output, Window)
        aligner.written(output, 10)
    assert [aligner.low_water(modality, 2).offset for modality in (FRAMES, AUDIO)] == [2, 2]


def test_a_recording_that_was_given_up_and_then_ended_is_forgotten_like_one_that_ended() -> None:
    aligner, log = ended_by_another()
    aligner.merge([(9, SessionMark(session=SessionId("tape"), at=at(1), why=Silence.IDLE, pace=Pace.RECORDED))])
    last = log.topics[AUDIO][1]
    assert aligner.push(last, last.arrival) == []
    told = tick(aligner, 5 + SETTINGS.session_end / 1_000_000)
    assert [mark.why for mark in told if isinstance(mark, SessionMark)] == [Silence.END]


def test_a_recording_that_an_expected_modality_has_not_joined_is_not_over() -> None:
    """Its recogniser was away until it was given up: the words still join the windows that are out."""
    log, tape = Log(), {"session": "tape", "pace": Pace.RECORDED}
    for modality in (FRAMES, AUDIO):
        log.event(modality, 0, 1, arrival=5, **tape)
        log.mark(modality, 1, final=True, arrival=5, **tape)
    driver = Driver(log)
    driver.expected[SessionId("tape")] = tuple(Modality)
    read(driver)
    gone = SETTINGS.session_end / SECOND + 10
    for second in (gone, gone + 2):
        log.event(FRAMES, second)
        log.event(AUDIO, second)
        log.event(TRANSCRIPTS, second)
        read(driver)
    log.event(TRANSCRIPTS, 0.5, 1, arrival=gone + 3, **tape)
    log.mark(TRANSCRIPTS, 1, final=True, arrival=gone + 3, **tape)
    read(driver)
    told = [record for record in driver.windows if record.session == "tape"]
    assert [mark.why for mark in told if isinstance(mark, SessionMark)] == [Silence.IDLE, Silence.END]
    latest = {window.start: window for window in told if isinstance(window, Window)}
    assert {window.revision for window in latest.values()} == {1}
    assert final(driver.run().windows) == reference(log)


def test_no_window_waits_for_the_words() -> None:
    """A recogniser at work, seconds behind: what it says makes a revision."""
    driver = Driver(Log())
    for second in range(4):
        driver.log.event(FRAMES, second)
        driver.log.event(AUDIO, second, second + 1)
        driver.log.event(TRANSCRIPTS, second - 2, second - 1.5, arrival=second)
    read(driver)
    assert max(window.end for window in driver.windows if isinstance(window, Window)) == at(2)


def test_a_track_of_a_recording_that_ended_long_before_the_others_is_known_to_have_ended_after_a_crash() -> None:
    """All its events are out: nothing but its end mark would be read again."""
    log = Log()
    for second in range(3):
        log.event(FRAMES, second, arrival=100, session="tape", pace=Pace.RECORDED)
    ended = log.mark(FRAMES, 3, final=True, arrival=100, session="tape", pace=Pace.RECORDED)
    for second in range(20):
        log.event(AUDIO, second, second + 1, arrival=100, session="tape", pace=Pace.RECORDED)
    log.mark(AUDIO, 20, final=True, arrival=100, session="tape", pace=Pace.RECORDED)
    driver = Driver(log)
    driver.append(len(log.all) - 1)
    driver.read(FRAMES, 100)
    driver.read(AUDIO, 100)
    driver.tick()
    driver.checkpoint()
    assert driver.saved.low[FRAMES].offset == ended.origin.offset
    driver.resume()
    read(driver)
    mark = driver.windows[-1]
    assert isinstance(mark, SessionMark) and mark.why is Silence.END
    assert final(driver.windows) == reference(log)


def test_an_event_that_is_read_back_after_an_end_reactivates_its_track() -> None:
    """After a restart the windows' log tells both; what reaches further came later, and does not wait for its record to be read again."""
    track = TrackClock(FRAMES, "one", Micros(300_000))
    track.see(at(10), at(10), at(10), final=True)
    track.read_back(replace(a_ref(FRAMES), start=at(9), end=at(9), arrival=at(9)))
    assert track.state(at(12), Micros(5 * SECOND)) is TrackState.ENDED
    track.read_back(replace(a_ref(FRAMES), start=at(12), end=at(12), arrival=at(12)))
    assert track.state(at(12), Micros(5 * SECOND)) is TrackState.ACTIVE
    assert track.progress == at(12)


def test_a_restart_that_finds_no_checkpoint_calls_nobody_silent_before_it_has_read_a_record() -> None:
    """Killed before its first checkpoint: it knows windows that are out, and no clock."""
    log = Log()
    for session, pace in (("hall", Pace.LIVE), ("tape", Pace.RECORDED)):
        log.event(AUDIO, 8.6, 8.7, arrival=10, session=session, pace=pace)
    stood = [out for out in read_all(Aligner(SETTINGS, {}), log, at(40)) if isinstance(out, Window)]
    aligner = Aligner(SETTINGS, {})
    aligner.restore(list(enumerate(stood)), {})
    assert list(aligner.tick({modality: Clock(arrival=Micros(0)) for modality in Modality}, at(40))) == []
    late = log.event(FRAMES, 8.8, arrival=11, session="tape", pace=Pace.RECORDED)
    revised = [
        out for out in read_all(aligner, log, at(11)) if isinstance(out, Window) and late.origin in {ref.origin for ref in out.manifest}
    ]
    assert revised and all(window.revision == 1 and len(window.manifest) == 2 for window in revised)


def read_all(aligner: Aligner, log: Log, now: Micros) -> list[object]:
    """What comes of the whole log, at once."""
    for item in sorted(log.all, key=lambda item: item.arrival):
        assert aligner.push(item, item.arrival) == []
    return list(aligner.tick({modality: Clock(arrival=now) for modality in Modality}, now))


def test_a_restart_marks_silence_where_a_session_ended_though_windows_of_late_events_were_opened_since() -> None:
    """They are younger in the log, and earlier in time: the furthest window may not be forgotten before them."""
    log = Log()
    driver = Driver(log)
    log.event(FRAMES, 5)
    read_at(driver, 9)
    log.event(FRAMES, 3.5, arrival=13)  # in time, just so; it opens windows of its own
    read_at(driver, 14)
    late = log.event(FRAMES, 4.9, arrival=17)  # it shows that the camera lives
    for modality in (AUDIO, TRANSCRIPTS):
        log.mark(modality, 17, session="yard")
    read_at(driver, 18)
    read_at(driver, 18)
    opened = [window.start for window in driver.windows if isinstance(window, Window)]
    assert opened == [at(4), at(5), at(2), at(3)] and list(driver.late) == [late.origin]
    driver.checkpoint()
    driver.resume()
    driver.run()
    marks = [record.at for record in driver.windows if isinstance(record, SessionMark) and record.session == HALL]
    assert marks == [at(5), at(5)]


def test_a_camera_of_which_only_late_events_come_is_silent_in_the_end_and_holds_up_no_restart() -> None:
    """Its clock stepped back for good; beside it another place goes on. Told once, and forgotten."""
    log = Log()
    driver = Driver(log)
    for second in range(100):
        log.event(FRAMES, second, session="yard")
        log.event(AUDIO, second, second + 1, session="yard")
        log.event(FRAMES, second if second < 20 else second / 2, arrival=second, name=f"frame {second}")
        read(driver)
        driver.checkpoint()
    marks = [record for record in driver.windows if isinstance(record, SessionMark)]
    assert [(mark.session, mark.why) for mark in marks] == [("hall", Silence.IDLE)] and marks[0].at >= at(19)
    assert len(driver.late) > 50 and HALL not in driver.aligner._sessions
    assert driver.saved.oldest >= len(driver.windows) - 15
    log.event(FRAMES, 100)  # put right
    read(driver)
    assert HALL in driver.aligner._sessions
