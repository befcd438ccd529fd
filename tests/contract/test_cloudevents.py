"""The `cloudevents` package as a foreign client: it reads what we write, and we read what it writes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary, to_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from streamer.errors import BadRecord, Reason
from streamer.events import Event, Mark, Message, Micros, Modality, Pace, Record, Words
from streamer.stages import wire
from streamer.stages.envelope import read_head, write_audio, write_frame, write_mark, write_transcript
from tests.builders import (
    PARTITIONS,
    SESSION,
    T0,
    a_chunk,
    a_dead_letter,
    a_frame,
    a_late,
    a_record,
    a_silence,
    a_track,
    a_transcript,
    a_window,
    an_alert,
    some_scores,
)

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def read_by_them(message: Message) -> BaseCloudEvent:
    assert message.value is not None
    headers = {name: value for name, value in message.headers if value is not None}
    assert len(headers) == len(message.headers)
    return from_binary(KafkaMessage(headers=headers, key=message.key, value=message.value), JSONFormat(), CloudEvent)


def written_by_them(topic: str, data: Any, **attributes: Any) -> Record:
    event = CloudEvent(attributes={"id": "e1", "source": "foreign-1", "time": NOON, "partitionkey": SESSION, **attributes}, data=data)
    theirs = to_binary(event, JSONFormat())
    key = theirs.key.encode() if isinstance(theirs.key, str) else theirs.key
    return a_record(Message(topic=topic, key=key or b"", value=theirs.value, headers=tuple(theirs.headers.items())))


@pytest.mark.parametrize(
    ("message", "kind", "content_type"),
    [
        (write_frame(a_frame(pace=Pace.RECORDED)), "streamer.frame", "image/jpeg"),
        (write_audio(a_chunk()), "streamer.audio", "audio/flac"),
        (write_transcript(a_transcript()), "streamer.transcript", "application/json"),
        (write_mark(a_track(), T0), "streamer.progress", None),
        (write_mark(a_track(), T0, final=True), "streamer.end", None),
        (wire.write_window(a_window()), "streamer.window", "application/json"),
        (wire.write_silence("scores", a_silence()), "streamer.silence", "application/json"),
        (wire.write_scores(some_scores()), "streamer.scores", "application/json"),
        (wire.write_alert(an_alert()), "streamer.alert", "application/json"),
        (wire.write_late(a_late()), "streamer.late", "application/json"),
        (wire.write_deadletter(a_dead_letter()), "streamer.deadletter", "application/json"),
    ],
    ids=lambda v: v.topic if isinstance(v, Message) else "",
)
def test_a_foreign_client_reads_every_record_we_write(message: Message, kind: str, content_type: str | None) -> None:
    event = read_by_them(message)
    assert (event.get_type(), event.get_specversion(), event.get_datacontenttype()) == (kind, "1.0", content_type)
    assert event.get_extension("partitionkey") == SESSION
    time = event.get_time()
    assert time is not None
    assert time.utcoffset() == timedelta(0)


def test_a_foreign_client_reads_times_payload_and_extensions() -> None:
    frame, chunk = read_by_them(write_frame(a_frame(pace=Pace.RECORDED))), read_by_them(write_audio(a_chunk()))
    assert (frame.get_time(), frame.get_data(), frame.get_extension("pace")) == (NOON, a_frame().image, "recorded")
    assert (chunk.get_time(), chunk.get_extension("endtime")) == (NOON, "2026-11-23T12:00:01.000000Z")


def test_a_foreign_client_reads_a_transcript_as_json() -> None:
    data = read_by_them(write_transcript(a_transcript())).get_data()
    assert data == {"text": "help me", "confidence": 0.9, "language": "en"}


def test_a_foreign_clients_frame_is_read() -> None:
    event = read_head(written_by_them("frames", b"\xff\xd8picture", type="streamer.frame", datacontenttype="image/jpeg"), PARTITIONS)
    assert isinstance(event, Event)
    assert (event.track.session, event.track.source, event.id) == (SESSION, "foreign-1", "e1")
    assert (event.start, event.end, event.pace, event.size) == (T0, T0, Pace.LIVE, 9)


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=1)), timezone(-timedelta(hours=9, minutes=30))])
@pytest.mark.parametrize("fraction", [0, 250_000, 1])
def test_a_foreign_clients_audio_is_read_in_any_zone(zone: timezone, fraction: int) -> None:
    start = NOON.astimezone(zone) + timedelta(microseconds=fraction)
    record = written_by_them(
        "audio",
        b"fLaCsound",
        type="streamer.audio",
        datacontenttype="audio/flac",
        time=start,
        endtime=start + timedelta(seconds=1),
        pace="recorded",
    )
    event = read_head(record, PARTITIONS)
    assert isinstance(event, Event)
    assert (event.start, event.end, event.pace) == (T0 + fraction, T0 + fraction + 1_000_000, Pace.RECORDED)


def test_a_foreign_recognizers_transcript_is_read() -> None:
    data = {"text": "open the door", "confidence": 0.4, "segments": [1, 2], "speaker": "a"}
    record = written_by_them("transcripts", data, type="streamer.transcript", datacontenttype="application/json", endtime=NOON)
    event = read_head(record, PARTITIONS)
    assert isinstance(event, Event)
    assert event.words == Words(text="open the door", confidence=0.4, language="und")


def test_a_foreign_clients_end_mark_is_read() -> None:
    mark = read_head(written_by_them("audio", b"", type="streamer.end"), PARTITIONS)
    assert isinstance(mark, Mark)
    assert (mark.track.modality, mark.until, mark.final) == (Modality.AUDIO, Micros(T0), True)


def test_a_foreign_client_that_says_no_content_type_is_told_so() -> None:
    with pytest.raises(BadRecord) as caught:
        read_head(written_by_them("frames", b"\xff\xd8picture", type="streamer.frame"), PARTITIONS)
    assert (caught.value.reason, caught.value.detail) == (Reason.MISSING_HEADER, "content-type: is missing")
