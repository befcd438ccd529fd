"""What infer accepts of `windows`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamer.errors import BadRecord, Reason
from streamer.events import EventRef, Micros, Modality, Window
from streamer.stages.accept import MARGIN, accept_window
from streamer.stages.times import EARLIEST, LATEST
from streamer.stages.wire import write_silence, write_window
from tests.builders import PARTITIONS, a_record, a_ref, a_silence, a_window, an_origin, at, some_words


def window(**change: object) -> Window:
    return replace(a_window(), manifest=(a_ref(Modality.AUDIO), replace(a_ref(), **change)))  # type: ignore[arg-type]


def refused(what: Window) -> BadRecord:
    with pytest.raises(BadRecord) as caught:
        accept_window(a_record(write_window(what)), PARTITIONS)
    return caught.value


def test_windows_and_silences_are_accepted_as_they_were_written() -> None:
    assert accept_window(a_record(write_window(a_window(revision=3))), PARTITIONS) == a_window(revision=3)
    assert accept_window(a_record(write_window(replace(a_window(), manifest=()))), PARTITIONS).manifest == ()  # type: ignore[union-attr]
    assert accept_window(a_record(write_silence("windows", a_silence())), PARTITIONS) == a_silence()


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (window(origin=an_origin("scores")), "$.manifest[1].origin.topic"),
        (window(origin=an_origin("nosuch")), "$.manifest[1].origin.topic"),
        (window(origin=an_origin("audio")), "$.manifest[1].origin.topic"),
        (window(origin=an_origin(partition=99)), "$.manifest[1].origin.partition"),
        (window(origin=an_origin(partition=-1)), "$.manifest[1].origin.partition"),
        (window(origin=an_origin(offset=-5)), "$.manifest[1].origin.offset"),
        (window(words=some_words()), "$.manifest[1].words"),
        (window(start=at(1)), "$.manifest[1].end"),
        (window(arrival=Micros(LATEST - MARGIN + 1)), "$.manifest[1].arrival"),
        (window(end=Micros(LATEST - MARGIN + 1)), "$.manifest[1].end"),
        (window(start=Micros(EARLIEST + MARGIN - 1)), "$.manifest[1].start"),
        (a_window(revision=-1), "$.revision"),
        (replace(a_window(), end=at(0)), "$.end"),
        (replace(a_window(), end=LATEST), "$.end"),
        (replace(a_window(), start=EARLIEST), "$.start"),
        (replace(a_window(), trigger=LATEST), "$.trigger"),
    ],
)
def test_what_cannot_be_fetched_or_scored_is_refused_by_name(line: Window, field: str) -> None:
    error = refused(line)
    assert error.reason == Reason.BAD_PAYLOAD
    assert error.detail.replace("[...]", "[1]").startswith(f"value: {field}: ")  # the codec does not count


def test_a_record_in_another_partition_than_its_keys_is_refused() -> None:
    record = a_record(write_window(a_window()))
    with pytest.raises(BadRecord, match="wrong_partition"):
        accept_window(replace(record, partition=(record.partition + 1) % PARTITIONS), PARTITIONS)


def test_a_silence_at_the_end_of_the_calendar_is_refused() -> None:
    with pytest.raises(BadRecord, match=r"\$\.at"):
        accept_window(a_record(write_silence("windows", a_silence(at=LATEST))), PARTITIONS)


def test_the_quotation_of_a_transcript_is_accepted() -> None:
    quoted: EventRef = a_ref(Modality.TRANSCRIPTS)
    assert quoted.words
    assert accept_window(a_record(write_window(replace(a_window(), manifest=(quoted,)))), PARTITIONS) == replace(
        a_window(), manifest=(quoted,)
    )
