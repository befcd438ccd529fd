"""Frames, audio and transcripts on Kafka: CloudEvents 1.0 in binary mode.

The value is the payload itself (JPEG or PNG, FLAC or WAV, JSON); the key is the session id; what alignment needs stands in
the headers. A *mark* has no payload: `streamer.progress` ("nothing more of this track before ce_time") or `streamer.end`.

| header | |
|---|---|
| `ce_specversion` | `1.0` |
| `ce_id` | the event's id within its track |
| `ce_source` | which camera, microphone or recognizer |
| `ce_type` | `streamer.frame`, `.audio`, `.transcript`, `.progress`, `.end` |
| `ce_time` | start of the event, RFC 3339 |
| `ce_endtime` | its end (audio and transcripts) |
| `ce_pace` | `live` (default) or `recorded` |
| `content-type` | of the payload |
| `traceparent` | W3C trace context, optional; every other header is left alone |
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, NamedTuple

import msgspec

from streamer.errors import BadRecord, Reason
from streamer.events import (
    AudioChunk,
    Event,
    Frame,
    Headers,
    Mark,
    Message,
    Micros,
    Modality,
    Origin,
    Pace,
    Record,
    SessionId,
    Track,
    Transcript,
    Words,
)
from streamer.ids import ID, event_id
from streamer.stages import headers as header
from streamer.stages.times import format_time, parse_time
from streamer.topology import TOPIC

PROGRESS, END = "streamer.progress", "streamer.end"
CONTENT_TYPES = {
    Modality.FRAMES: frozenset({"image/jpeg", "image/png"}),
    Modality.AUDIO: frozenset({"audio/flac", "audio/wav", "audio/x-wav"}),
    Modality.TRANSCRIPTS: frozenset({"application/json"}),
}
_TYPE = {
    Modality.FRAMES: "streamer.frame",
    Modality.AUDIO: "streamer.audio",
    Modality.TRANSCRIPTS: "streamer.transcript",
}
_TYPES = {modality: frozenset({name, PROGRESS, END}) for modality, name in _TYPE.items()}
_OF_A_TRACK = ("ce_specversion", "ce_source", "ce_type", "content-type", "ce_pace")
_ID = re.compile(ID.pattern.encode())
_MODALITY = {modality.value: modality for modality in Modality}

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4_000)]
Language = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*\Z", max_length=35)]


class _Spoken(msgspec.Struct, frozen=True):
    """A transcript's payload; a foreign recognizer may add fields of its own."""

    text: Text
    confidence: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    language: Language = "und"


_spoken = msgspec.json.Decoder(_Spoken)


class _Kind(NamedTuple):
    """What the events of one track have in common, with the payload's limit in bytes."""

    track: Track
    pace: Pace
    limit: int


def read_head(record: Record, partitions: int) -> Event | Mark:
    """What alignment needs of a record of frames, audio or transcripts. Raises BadRecord, naming the header or field.

    `partitions` is the topic's number of partitions: a record in another than its key's is refused.
    """
    headers, value = record.headers, record.value
    found = dict(headers)
    get = found.get
    kind = _kind(
        record.topic,
        record.key,
        record.partition,
        partitions,
        get("ce_specversion"),
        get("ce_source"),
        get("ce_type"),
        get("content-type"),
        get("ce_pace", b"live"),
    )
    name, at = get("ce_id") or b"", get("ce_time") or b""
    if kind is None or not value or len(value) > kind.limit or len(found) != len(headers) or not _ID.match(name):
        return read_head_slowly(record, partitions)  # which says what is wrong, if anything is
    track = kind.track
    try:
        start = parse_time(at)
        end = start if track.modality is Modality.FRAMES else parse_time(get("ce_endtime") or b"")
    except ValueError:
        return read_head_slowly(record, partitions)
    if end < start or header.UNREADABLE in found:
        return read_head_slowly(record, partitions)
    return Event(
        track=track,
        id=name.decode(),
        start=start,
        end=end,
        arrival=record.arrival,
        origin=Origin(topic=record.topic, partition=record.partition, offset=record.offset),
        pace=kind.pace,
        words=read_words(value) if track.modality is Modality.TRANSCRIPTS else None,
        size=len(value),
        traceparent=header.traceparent(found),
    )


def read_head_slowly(record: Record, partitions: int) -> Event | Mark:
    """What `read_head` does, for every record: one check after the other."""
    modality = _MODALITY[record.topic]
    session = header.session_of(record, partitions)
    found = header.fields(record.headers)
    header.specversion(found)
    name = header.identifier(found, "ce_id")
    track = _track(session, modality, header.identifier(found, "ce_source"))
    kind = header.one_of(found, "ce_type", _TYPES[modality])
    start = header.instant(found, "ce_time")
    origin = Origin(topic=record.topic, partition=record.partition, offset=record.offset)
    if kind in (PROGRESS, END):
        if record.value:
            raise BadRecord(Reason.BAD_PAYLOAD, f"value: {kind} has none, got {len(record.value)} bytes")
        return Mark(track=track, until=start, final=kind == END, arrival=record.arrival, origin=origin, pace=header.pace(found))
    end = start if modality is Modality.FRAMES else _end(found, start)
    pace = header.pace(found)
    header.media_type(found, CONTENT_TYPES[modality])
    value = payload(record)
    return Event(
        track=track,
        id=name,
        start=start,
        end=end,
        arrival=record.arrival,
        origin=origin,
        pace=pace,
        words=read_words(value) if modality is Modality.TRANSCRIPTS else None,
        size=len(value),
        traceparent=header.traceparent(found),
    )


def payload(record: Record) -> bytes:
    """The value, where there must be one, within its topic's limit. Raises BadRecord."""
    if not record.value:
        raise BadRecord(Reason.EMPTY, f"value: is {'null' if record.value is None else 'empty'}")
    limit = TOPIC[record.topic].limit
    if len(record.value) > limit:
        raise BadRecord(Reason.TOO_LARGE, f"value: {len(record.value)} bytes exceed {limit} of {record.topic}")
    return record.value


def read_words(value: bytes) -> Words:
    """A transcript's payload: `text`, optional `confidence` and `language`. Raises BadRecord, naming the field."""
    try:
        spoken = _spoken.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise BadRecord(Reason.BAD_PAYLOAD, f"value: {exc}") from None
    if not spoken.text.strip():
        raise BadRecord(Reason.BAD_PAYLOAD, "value: $.text is blank")
    return Words(text=spoken.text, confidence=spoken.confidence, language=spoken.language)


def write_frame(frame: Frame, *, keep: Headers = ()) -> Message:
    """A picture. `keep`: headers of the record that this one derives from (`headers.foreign`)."""
    headers = _head(event_id(frame.at), frame.source, _TYPE[Modality.FRAMES], frame.at, None, frame.pace)
    return _message(Modality.FRAMES, frame.session, frame.image, (*headers, ("content-type", b"image/jpeg"), *keep))


def write_audio(chunk: AudioChunk, *, keep: Headers = ()) -> Message:
    """A stretch of sound."""
    headers = _head(event_id(chunk.start), chunk.source, _TYPE[Modality.AUDIO], chunk.start, chunk.end, chunk.pace)
    return _message(Modality.AUDIO, chunk.session, chunk.sound, (*headers, ("content-type", b"audio/flac"), *keep))


def write_transcript(said: Transcript, *, keep: Headers = ()) -> Message:
    """A segment of speech. Text beyond 4,000 characters is cut: no reader would take it."""
    headers = _head(event_id(said.start), said.source, _TYPE[Modality.TRANSCRIPTS], said.start, said.end, said.pace)
    words = said.words
    value = msgspec.json.encode(_Spoken(text=words.text[:4_000], confidence=words.confidence, language=words.language))
    return _message(Modality.TRANSCRIPTS, said.session, value, (*headers, ("content-type", b"application/json"), *keep))


def write_mark(track: Track, until: Micros, *, final: bool = False, pace: Pace = Pace.LIVE) -> Message:
    """Nothing more of `track` before `until`; `final`: the track has ended."""
    name = f"m{event_id(until)}" + (".end" if final else "")
    headers = _head(name, track.source, END if final else PROGRESS, until, None, pace)
    return _message(track.modality, track.session, b"", headers)


def trace(traceparent: str | None) -> Headers:
    """The header that lets what derives from an event keep its trace, for `keep`."""
    return ((header.TRACEPARENT, traceparent.encode()),) if traceparent else ()


def _end(found: header.Fields, start: Micros) -> Micros:
    end = header.instant(found, "ce_endtime")
    if end < start:
        raise BadRecord(Reason.BAD_HEADER, f"ce_endtime: {format_time(end)} is before ce_time {format_time(start)}")
    return end


def _head(name: str, source: str, kind: str, start: Micros, end: Micros | None, pace: Pace) -> Headers:
    headers: Headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", name.encode()),
        ("ce_source", source.encode()),
        ("ce_type", kind.encode()),
        ("ce_time", format_time(start).encode()),
    )
    if end is not None:
        headers = (*headers, ("ce_endtime", format_time(end).encode()))
    return (*headers, ("ce_pace", b"recorded")) if pace is Pace.RECORDED else headers


def _message(modality: Modality, session: SessionId, value: bytes, headers: Headers) -> Message:
    return Message(topic=modality.value, key=session.encode(), value=value, headers=headers)


@lru_cache(maxsize=16_384)
def _kind(topic: str, key: bytes | None, partition: int, partitions: int, *values: bytes | None) -> _Kind | None:
    """None where it is no event's, or wrong. `values`: of `_OF_A_TRACK`."""
    found = dict(zip(_OF_A_TRACK, values, strict=True))
    modality = _MODALITY[topic]
    try:
        session = header.session_of(Record(topic=topic, partition=partition, offset=0, arrival=Micros(0), key=key, value=None), partitions)
        header.specversion(found)
        source = header.identifier(found, "ce_source")
        header.one_of(found, "ce_type", (_TYPE[modality],))
        header.media_type(found, CONTENT_TYPES[modality])
        return _Kind(_track(session, modality, source), header.pace(found), TOPIC[topic].limit)
    except BadRecord:
        return None


@lru_cache(maxsize=16_384)
def _track(session: SessionId, modality: Modality, source: str) -> Track:
    return Track(session=session, modality=modality, source=source)
