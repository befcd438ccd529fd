"""Configured clock offsets: what moves, what stays, and what a changed setting does to what is read again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamer.config import AlignSettings, SessionSettings, parse
from streamer.errors import BadRecord, ConfigError, Reason
from streamer.events import SECOND, Clock, Event, Mark, Micros, Modality, SessionId, Window
from streamer.stages.align import Aligner
from streamer.stages.align.outputs import Rejected
from streamer.stages.envelope import read_head, write_frame
from streamer.stages.offsets import Offsets
from streamer.stages.times import LATEST
from tests.builders import SESSION, a_frame, a_mark, a_record, an_event, at, seconds

FRAMES, AUDIO, TRANSCRIPTS = Modality
OTHER = SessionId("other")


def offsets(*rows: dict[str, str]) -> Offsets:
    return Offsets([SessionSettings(id=SESSION, offsets=rows)])  # type: ignore[arg-type]


def test_one_device_has_one_clock_and_the_words_of_its_sound_are_not_moved_twice() -> None:
    moved = offsets({"source": "cam-1", "offset": "-2s"}, {"source": "mic-1", "offset": "0.25s"})
    frame, chunk, words = (an_event(modality, 5) for modality in Modality)
    assert moved.corrected(frame) == replace(frame, start=at(3), end=at(3))
    assert moved.corrected(chunk) == replace(chunk, start=at(5.25), end=at(6.25))
    assert moved.corrected(words) is words
    assert moved.of(SESSION, AUDIO, "mic-1") == seconds(0.25)


def test_a_foreign_recognizers_own_clock_is_moved_where_it_is_named() -> None:
    words = an_event(TRANSCRIPTS, 5)
    named = offsets({"source": "mic-1", "modality": "transcripts", "offset": "1s"})
    assert named.corrected(words) == replace(words, start=at(6), end=at(7))
    assert named.corrected(an_event(AUDIO, 5)) == an_event(AUDIO, 5)


def test_marks_move_with_their_track() -> None:
    assert offsets({"source": "cam-1", "offset": "-1s"}).corrected(a_mark(until=4)) == replace(a_mark(until=4), until=at(3))


def test_other_sources_and_sessions_stay() -> None:
    moved = offsets({"source": "cam-2", "offset": "1s"})
    assert moved.corrected(an_event()) == an_event()
    elsewhere = replace(an_event(), track=replace(an_event().track, session=OTHER, source="cam-2"))
    assert moved.corrected(elsewhere) is elsewhere


def test_without_offsets_there_is_nothing_to_ask() -> None:
    assert not Offsets([SessionSettings(id=SESSION)])
    assert offsets({"source": "cam-1", "offset": "1s"})


def test_the_record_keeps_its_id_and_its_own_time() -> None:
    record = a_record(write_frame(a_frame(5)))
    head = read_head(record, 4)
    moved = offsets({"source": "cam-1", "offset": "-2s"}).corrected(head)
    assert isinstance(head, Event) and isinstance(moved, Event)
    assert (moved.id, moved.origin, moved.arrival) == (head.id, head.origin, head.arrival)
    assert record == a_record(write_frame(a_frame(5)))


def test_a_time_that_no_calendar_holds_is_a_bad_record() -> None:
    event = replace(an_event(), start=LATEST, end=LATEST)
    with pytest.raises(BadRecord, match="offset of 1000000 us") as raised:
        offsets({"source": "cam-1", "offset": "1s"}).corrected(event)
    assert raised.value.reason is Reason.BAD_HEADER


@pytest.mark.parametrize("value", ["15h", "-841min", 50_401])
def test_an_offset_beyond_any_time_zone_is_refused_with_both_numbers(value: str | int) -> None:
    with pytest.raises(ConfigError, match=r"an offset of -?5\d{10} us is beyond 50400000000 us \(14 h"):
        parse({"sessions": [{"id": "yard", "offsets": [{"source": "cam-1", "offset": value}]}]})


def test_two_offsets_for_one_track_are_refused_by_name() -> None:
    rows = [{"source": "cam-1", "offset": "1s"}, {"source": "cam-1", "modality": "audio", "offset": "2s"}]
    with pytest.raises(ConfigError, match="more than one offset for: cam-1/audio"):
        parse({"sessions": [{"id": "yard", "offsets": rows}]})


def test_a_configuration_with_offsets_is_read_back_as_it_was_written() -> None:
    config = parse({"sessions": [{"id": "yard", "offsets": [{"source": "cam-1", "offset": "-250ms"}, {"source": "mic-1", "offset": 1.5}]}]})
    assert parse(config.model_dump(mode="json")) == config
    assert [one.offset for one in config.sessions[0].offsets] == [-250_000, 1_500_000]


class Reader:
    """An aligner of one partition fed from a list, with the log of its windows."""

    def __init__(self, offsets: Offsets, written: list[Window], low: dict[Modality, int]) -> None:
        self.aligner = Aligner(AlignSettings(wait_for=(FRAMES,), idle="1h", session_end="1h"), {})
        self.aligner.restore(list(enumerate(written)), {})
        self.offsets, self.written, self.low, self.rejected = offsets, written, low, list[object]()

    def read(self, events: list[Event]) -> None:
        clock = Micros(0)
        for event in events[self.low[FRAMES] :]:
            clock = max(clock, event.arrival)
            self.rejected += self.aligner.push(self.offsets.corrected(event) if self.offsets else event, clock)
            for output in self.aligner.tick({FRAMES: Clock(arrival=clock)}, clock):
                assert isinstance(output, Window)
                self.aligner.written(output, len(self.written))
                self.written.append(output)


def frames(count: int) -> list[Event]:
    """Two a second."""
    return [an_event(FRAMES, n / 2, offset=n) for n in range(count)]


def test_a_camera_an_hour_off_is_aligned_by_its_offset() -> None:
    wrong = [replace(e, start=Micros(e.start + 3_600 * SECOND), end=Micros(e.end + 3_600 * SECOND)) for e in frames(20)]
    plain, right, refused = (Reader(by, [], {FRAMES: 0}) for by in (offsets(), offsets({"source": "cam-1", "offset": "-1h"}), offsets()))
    plain.read(frames(20))
    right.read(wrong)
    refused.read(wrong)
    assert right.written == plain.written != []
    assert (right.rejected, len(refused.rejected)) == ([], 20)
    assert all(isinstance(one, Rejected) and one.reason is Reason.FUTURE for one in refused.rejected)


def test_after_a_change_what_is_out_stays_and_nothing_that_is_read_again_is_lost() -> None:
    events, written = frames(40), list[Window]()
    Reader(offsets(), written, {FRAMES: 0}).read(events[:20])
    before = {window.start: window for window in written}
    first = Reader(offsets(), list(written), {FRAMES: 0})
    first.read(events[:20])
    low = first.aligner.low_water(FRAMES, 20).offset
    assert 0 < low < 20
    Reader(offsets({"source": "cam-1", "offset": "1.5s"}), written, {FRAMES: low}).read(events)
    after: dict[Micros, Window] = {}
    for window in written:
        after[window.start] = window  # the latest revision
    for start, window in before.items():
        assert set(window.manifest) <= set(after[start].manifest)
    named = {ref.id for window in written for ref in window.manifest}
    closed = [event.id for event in events if event.end + seconds(1.5) < max(after) + SECOND]
    assert len(closed) > low + 10 and set(closed) <= named
    for event in events[low + 1 : len(closed)]:  # by its new time, each in every window that it overlaps by that
        home = (event.start + seconds(1.5)) // SECOND * SECOND
        assert event.id in {ref.id for ref in after[Micros(home)].manifest}


def test_marks_and_events_agree_so_that_a_mark_never_passes_an_event() -> None:
    by = offsets({"source": "cam-1", "offset": "-2s"})
    mark, event = by.corrected(a_mark(until=5)), by.corrected(an_event(when=5))
    assert isinstance(mark, Mark) and isinstance(event, Event)
    assert mark.until <= event.start
