"""Plain data for tests: every noun with defaults, every field open to change. `T0` is noon, 2026-11-23 UTC."""

from __future__ import annotations

import dataclasses
from typing import Any

from streamer.events import (
    SECOND,
    Absent,
    Alert,
    AlertState,
    AudioChunk,
    Box,
    ClassScore,
    ClosedBy,
    DeadLetter,
    Event,
    EventRef,
    Evidence,
    Frame,
    FrameEvidence,
    Late,
    Mark,
    Message,
    Micros,
    Modality,
    Origin,
    Presence,
    QuoteEvidence,
    Record,
    Scores,
    SessionId,
    SessionMark,
    Severity,
    Silence,
    SoundEvidence,
    Track,
    TrackState,
    Transcript,
    Window,
    Words,
)
from streamer.ids import alert_id, deadletter_id, event_id, partition_of, window_id

T0 = Micros(1_795_435_200 * SECOND)
SESSION = SessionId("yard")
PARTITIONS = 4
SOURCE = {Modality.FRAMES: "cam-1", Modality.AUDIO: "mic-1", Modality.TRANSCRIPTS: "mic-1"}


def seconds(count: float) -> Micros:
    """A length of time."""
    return Micros(round(count * SECOND))


def at(count: float) -> Micros:
    """A point in time, `count` seconds after T0."""
    return Micros(T0 + seconds(count))


def a_record(message: Message, *, offset: int = 0, arrival: Micros = T0, partitions: int = PARTITIONS, **change: Any) -> Record:
    """`message` as a broker would give it, in its key's partition."""
    home = message.partition if message.partition is not None else partition_of(message.key, partitions)
    record = Record(
        topic=message.topic,
        partition=home,
        offset=offset,
        arrival=arrival,
        key=message.key,
        value=message.value,
        headers=message.headers,
    )
    return dataclasses.replace(record, **change)


def with_header(record: Record, name: str, *values: bytes | None) -> Record:
    """`record` with the header `name` given once for each of `values`: not at all, once, or repeated."""
    others = tuple(header for header in record.headers if header[0] != name)
    return dataclasses.replace(record, headers=others + tuple((name, value) for value in values))


def a_frame(when: float = 0, **change: Any) -> Frame:
    """One picture `when` seconds after T0. Its bytes are no JPEG: give `image` where that matters."""
    return dataclasses.replace(Frame(session=SESSION, source=SOURCE[Modality.FRAMES], at=at(when), image=b"\xff\xd8picture"), **change)


def a_chunk(when: float = 0, length: float = 1, **change: Any) -> AudioChunk:
    """One stretch of sound. Its bytes are no FLAC: give `sound` where that matters."""
    chunk = AudioChunk(session=SESSION, source=SOURCE[Modality.AUDIO], start=at(when), end=at(when + length), sound=b"fLaCsound")
    return dataclasses.replace(chunk, **change)


def some_words(text: str = "help me", **change: Any) -> Words:
    """What was said."""
    return dataclasses.replace(Words(text=text, confidence=0.9, language="en"), **change)


def a_transcript(when: float = 0, length: float = 1, **change: Any) -> Transcript:
    """One segment of speech."""
    said = Transcript(session=SESSION, source=SOURCE[Modality.TRANSCRIPTS], start=at(when), end=at(when + length), words=some_words())
    return dataclasses.replace(said, **change)


def a_track(modality: Modality = Modality.FRAMES, **change: Any) -> Track:
    """One source of one modality."""
    return dataclasses.replace(Track(session=SESSION, modality=modality, source=SOURCE[modality]), **change)


def an_origin(topic: str = "frames", offset: int = 0, **change: Any) -> Origin:
    """Where a record stands."""
    return dataclasses.replace(Origin(topic=topic, partition=partition_of(SESSION.encode(), PARTITIONS), offset=offset), **change)


def an_event(
    modality: Modality = Modality.FRAMES, when: float = 0, length: float | None = None, *, offset: int = 0, **change: Any
) -> Event:
    """The head of a frame (no length), chunk or transcript (1 s); it arrived 100 ms after its end."""
    end = at(when + ((0 if modality is Modality.FRAMES else 1) if length is None else length))
    event = Event(
        track=a_track(modality),
        id=event_id(at(when)),
        start=at(when),
        end=end,
        arrival=Micros(end + 100_000),
        origin=an_origin(modality.value, offset),
        words=some_words() if modality is Modality.TRANSCRIPTS else None,
        size=60_000,
    )
    return dataclasses.replace(event, **change)


def a_mark(modality: Modality = Modality.FRAMES, until: float = 0, *, final: bool = False, offset: int = 0, **change: Any) -> Mark:
    """Nothing more of a track before `until`."""
    mark = Mark(
        track=a_track(modality),
        until=at(until),
        final=final,
        arrival=Micros(at(until) + 100_000),
        origin=an_origin(modality.value, offset),
    )
    return dataclasses.replace(mark, **change)


def a_ref(modality: Modality = Modality.FRAMES, when: float = 0, length: float | None = None, **change: Any) -> EventRef:
    """One line of a manifest; the same event as `an_event` with the same arguments."""
    event = an_event(modality, when, length)
    ref = EventRef(
        modality=modality,
        source=event.track.source,
        id=event.id,
        start=event.start,
        end=event.end,
        arrival=event.arrival,
        origin=event.origin,
        words=event.words,
    )
    return dataclasses.replace(ref, **change)


def all_present(events: int = 1) -> dict[Modality, Presence]:
    """Completeness of a window that has everything."""
    return {modality: Presence(state=TrackState.ACTIVE, events=events, covered=1.0) for modality in Modality}


def a_window(start: float = 0, length: float = 2, **change: Any) -> Window:
    """A window with one event of each modality."""
    window = Window(
        id=window_id(SESSION, at(start), at(start + length)),
        session=SESSION,
        start=at(start),
        end=at(start + length),
        revision=0,
        closed_by=ClosedBy.WATERMARK,
        manifest=tuple(a_ref(modality, start) for modality in Modality),
        completeness=all_present(),
        trigger=at(start + length + 0.4),
    )
    return dataclasses.replace(window, **change)


def a_silence(when: float = 0, why: Silence = Silence.END, **change: Any) -> SessionMark:
    """A session that has gone silent."""
    return dataclasses.replace(SessionMark(session=SESSION, at=at(when), why=why), **change)


def some_evidence(start: float = 0, **change: Any) -> Evidence:
    """A frame with a person in it, a sound, a quote."""
    evidence = Evidence(
        frame=FrameEvidence(ref=a_ref(Modality.FRAMES, start), boxes=(Box(left=0.1, top=0.2, right=0.3, bottom=0.9, confidence=0.8),)),
        sounds=(SoundEvidence(label="Shatter", probability=0.7, start=at(start), end=at(start + 0.96)),),
        quotes=(QuoteEvidence(text="help me", similarity=0.6, start=at(start), end=at(start + 1)),),
    )
    return dataclasses.replace(evidence, **change)


def a_class_score(probability: float = 0.9) -> ClassScore:
    """One class in one window."""
    shares = {Modality.FRAMES: 0.5, Modality.AUDIO: 2.0, Modality.TRANSCRIPTS: 0.0}
    return ClassScore(probability=probability, contributions=shares, explanation="Glass break: 90%.")


def some_scores(start: float = 0, length: float = 2, *, classes: dict[str, float] | None = None, **change: Any) -> Scores:
    """The scores of `a_window` with the same start and length; `classes`: probability by class."""
    window = a_window(start, length)
    scores = Scores(
        window=window.id,
        revision=0,
        session=SESSION,
        start=window.start,
        end=window.end,
        closed_by=window.closed_by,
        classes={name: a_class_score(value) for name, value in (classes or {"glass_break": 0.9}).items()},
        evidence=some_evidence(start),
        completeness=window.completeness,
        absent=(),
        sources=tuple(ref.origin for ref in window.manifest),
        model="test-1",
        calibrated=False,
        trigger=window.trigger,
    )
    return dataclasses.replace(scores, **change)


def an_absence(reason: str = "bad_payload") -> Absent:
    """An event that a score could not use."""
    return Absent(ref=a_ref(), reason=reason)


def an_alert(start: float = 0, length: float = 2, *, rule: str = "glass", **change: Any) -> Alert:
    """One episode, just raised."""
    alert = Alert(
        id=alert_id(rule, SESSION, at(start)),
        revision=0,
        session=SESSION,
        rule=rule,
        label="glass_break",
        severity=Severity.CRITICAL,
        state=AlertState.RAISED,
        start=at(start),
        end=at(start + length),
        score=0.9,
        threshold=0.5,
        window=window_id(SESSION, at(start), at(start + length)),
        contributions=a_class_score().contributions,
        evidence=some_evidence(start),
        sources=(an_origin(),),
        model="test-1",
        rules="test-1",
        calibrated=False,
        at=at(start + length + 0.5),
        explanation=a_class_score().explanation,
    )
    return dataclasses.replace(alert, **change)


def a_late(when: float = 0, **change: Any) -> Late:
    """A frame that came three minutes late."""
    late = Late(
        origin=an_origin(),
        session=SESSION,
        modality=Modality.FRAMES,
        id=event_id(at(when)),
        start=at(when),
        arrival=at(when + 180),
        delay=seconds(180),
        reason="horizon",
    )
    return dataclasses.replace(late, **change)


def a_dead_letter(**change: Any) -> DeadLetter:
    """A frame without ce_time."""
    origin = an_origin()
    letter = DeadLetter(
        id=deadletter_id(origin.topic, origin.partition, origin.offset),
        stage="align",
        reason="missing_header",
        detail="ce_time: is missing",
        origin=origin,
        session=SESSION,
        arrival=T0,
        headers=(("ce_id", b"t1"), ("odd", b"\xff"), ("none", None)),
        payload=b"\xff\xd8picture",
        payload_size=9,
    )
    return dataclasses.replace(letter, **change)
