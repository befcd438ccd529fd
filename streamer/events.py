"""The nouns, in order of becoming: Record -> Event | Mark -> Window | SessionMark -> Scores -> Alert.

Times are `Micros`. Intervals are half open, [start, end); a frame has start == end and stands in the windows with
window.start <= frame.start < window.end. Topic names are logical (`frames`); only `streamer.kafka` knows their prefix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

SessionId = NewType("SessionId", str)
"""One watched place; the key of every record. `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`."""

Micros = NewType("Micros", int)
"""Microseconds since the Unix epoch, UTC, or a length of time in microseconds."""

SECOND, MILLISECOND = Micros(1_000_000), Micros(1_000)
Headers = tuple[tuple[str, bytes | None], ...]
FRESH = Micros(2 * SECOND)  # so long ago an input partition may have been read to its end, where its `Clock` says that it is


class Modality(StrEnum):
    """What a track carries. The value is also the name of its topic."""

    FRAMES = "frames"
    AUDIO = "audio"
    TRANSCRIPTS = "transcripts"


class Pace(StrEnum):
    """How a session's time runs: with the clock, or as fast as files can be read. Fixed by its first record."""

    LIVE = "live"
    RECORDED = "recorded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record as a broker gave it: nothing is checked yet. `arrival` is the broker's timestamp."""

    topic: str
    partition: int
    offset: int
    arrival: Micros
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One record to be written. Without `partition` the key decides (murmur2, as in Java)."""

    topic: str
    key: bytes
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a record stands in the log."""

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One source of one modality in one session. Its records stand in one partition, in one order."""

    session: SessionId
    modality: Modality
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What a transcript says. `confidence` in 0..1; `language` is a BCP 47 tag."""

    text: str
    confidence: float
    language: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One picture to be written to `frames`. `image` is JPEG; `at` is its capture time."""

    session: SessionId
    source: str
    at: Micros
    image: bytes
    pace: Pace = Pace.LIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioChunk:
    """A stretch of sound to be written to `audio`. `sound` is FLAC, 16 kHz, mono, 16 bit."""

    session: SessionId
    source: str
    start: Micros
    end: Micros
    sound: bytes
    pace: Pace = Pace.LIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """One segment of speech, to be written to `transcripts`."""

    session: SessionId
    source: str
    start: Micros
    end: Micros
    words: Words
    pace: Pace = Pace.LIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The head of a frame, chunk or transcript: identity is (track, id); `words` for transcripts only; `size` of the payload in bytes."""

    track: Track
    id: str
    start: Micros
    end: Micros
    arrival: Micros
    origin: Origin
    pace: Pace = Pace.LIVE
    words: Words | None = None
    size: int = 0
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A record without content: nothing more of this track before `until`; `final` means that the track ended."""

    track: Track
    until: Micros
    final: bool
    arrival: Micros
    origin: Origin
    pace: Pace = Pace.LIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRef:
    """One line of a window's manifest: which event, when, and where its payload stands in the log."""

    modality: Modality
    source: str
    id: str
    start: Micros
    end: Micros
    arrival: Micros
    origin: Origin
    words: Words | None = None


class ClosedBy(StrEnum):
    """What let a window's first revision go out."""

    WATERMARK = "watermark"
    IDLE = "idle"
    END = "end"
    MEMORY = "memory"


class TrackState(StrEnum):
    """What the aligner knew of a modality when a window went out (the best state among its tracks)."""

    ABSENT = "absent"
    EXPECTED = "expected"
    ACTIVE = "active"
    IDLE = "idle"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """What a window has of one modality. `covered`: the share of it below that modality's progress; `gap`: what could be in it was lost."""

    state: TrackState
    events: int
    covered: float
    gap: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What happened together in one session. `trigger`: arrival of the record that let this revision go out."""

    id: str
    session: SessionId
    start: Micros
    end: Micros
    revision: int
    closed_by: ClosedBy
    manifest: tuple[EventRef, ...]
    completeness: Mapping[Modality, Presence]
    trigger: Micros
    pace: Pace = Pace.LIVE


class Silence(StrEnum):
    """Why a session says nothing for now: all its tracks are idle, or all have ended."""

    IDLE = "idle"
    END = "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionMark:
    """Written to `windows` after a flush and forwarded to `scores`: open episodes may resolve at `at`."""

    session: SessionId
    at: Micros
    why: Silence
    pace: Pace = Pace.LIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """An input record beyond the horizon (`delay` = arrival clock - event start), or a stretch of log that is gone."""

    origin: Origin
    session: SessionId | None
    modality: Modality
    id: str | None
    start: Micros | None
    arrival: Micros
    delay: Micros
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A record that a stage could not use. `id` = hash(topic, partition, offset); the payload is left out when too large."""

    id: str
    stage: str
    reason: str
    detail: str
    origin: Origin
    session: str | None
    arrival: Micros
    headers: Headers
    payload: bytes | None
    payload_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A person in a frame. Corners as shares of width and height, 0..1."""

    left: float
    top: float
    right: float
    bottom: float
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameEvidence:
    """The frame that speaks most for a score, with its people."""

    ref: EventRef
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SoundEvidence:
    """One sound heard: AudioSet's name for it, how sure, and when."""

    label: str
    probability: float
    start: Micros
    end: Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteEvidence:
    """Words that count, as they were transcribed. They are data: nothing in them is ever obeyed."""

    text: str
    similarity: float
    start: Micros
    end: Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a window's scores rest on."""

    frame: FrameEvidence | None = None
    sounds: tuple[SoundEvidence, ...] = ()
    quotes: tuple[QuoteEvidence, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassScore:
    """One security class in one window. Contributions: log-odds beyond an empty window's. `explanation`: why; empty where unlikely."""

    probability: float
    contributions: Mapping[Modality, float]
    explanation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """An event of the manifest that the score could not use, and why."""

    ref: EventRef
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What one revision of a window shows, by security class. `may_alert`: false where a test's model speaks."""

    window: str
    revision: int
    session: SessionId
    start: Micros
    end: Micros
    closed_by: ClosedBy
    classes: Mapping[str, ClassScore]
    evidence: Evidence
    completeness: Mapping[Modality, Presence]
    absent: tuple[Absent, ...]
    sources: tuple[Origin, ...]
    model: str
    calibrated: bool
    may_alert: bool = True
    trigger: Micros
    pace: Pace = Pace.LIVE


class Severity(StrEnum):
    """How much a rule matters, in rising order. No model output can change it."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class AlertState(StrEnum):
    """What this revision of an alert says about it."""

    RAISED = "raised"
    UPDATED = "updated"
    UPGRADED = "upgraded"
    RESOLVED = "resolved"
    RETRACTED = "retracted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One episode of one rule in one session, as it is known at `revision`.

    `start`/`end` are event time, `score` the highest probability, in `window`, explained; `at`: arrival of its cause. Key: (id, revision).
    """

    id: str
    revision: int
    session: SessionId
    rule: str
    label: str
    severity: Severity
    state: AlertState
    start: Micros
    end: Micros
    score: float
    threshold: float
    window: str
    contributions: Mapping[Modality, float]
    evidence: Evidence
    sources: tuple[Origin, ...]
    model: str
    rules: str
    calibrated: bool
    at: Micros
    pace: Pace = Pace.LIVE
    explanation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """How far an input partition has been read: the running maximum of its arrivals. Caught up: its clock is the tick's `now`."""

    arrival: Micros
    caught_up: bool = False
