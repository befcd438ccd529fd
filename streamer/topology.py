"""START HERE: the whole pipeline on one page, and the only place that names stages and topics.

A session is the key of every record; all topics with `by_session` have the same number of partitions, so that a
session always meets itself in one worker.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamer.events import SECOND, Micros

HOUR = Micros(3_600 * SECOND)
WEEK = Micros(7 * 24 * HOUR)
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One role: what it reads, what it writes (every stage also writes `deadletter`), what it remembers, how it runs."""

    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    state: str
    runs_as: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One topic. `limit` is the largest payload in bytes that a stage accepts; the broker's own is a little larger."""

    name: str
    key: str
    retention: Micros
    limit: int
    compacted: bool = False
    text: bool = True

    @property
    def max_message_bytes(self) -> int:
        """The broker's limit for a batch: the payload's, and room for key, headers and framing."""
        return self.limit + self.limit // 8 + 64 * 1024


PIPELINE = (
    Stage(name="ingest", reads=(), writes=("frames", "audio"), state="none", runs_as="plain process"),
    Stage(name="transcribe", reads=("audio",), writes=("transcripts",), state="the open segment", runs_as="CPU/GPU worker"),
    Stage(
        name="align",
        reads=("frames", "audio", "transcripts"),
        writes=("windows", "late"),
        state="open windows and manifests per session",
        runs_as="Faust agent",
    ),
    Stage(
        name="infer",
        reads=("frames", "audio", "transcripts", "windows"),
        writes=("scores",),
        state="features by event (a cache)",
        runs_as="GPU worker",
    ),
    Stage(name="decide", reads=("scores",), writes=("alerts",), state="recent scores and open episodes", runs_as="Faust agent"),
    Stage(name="deliver", reads=("alerts",), writes=(), state="what was sent lately", runs_as="plain process"),
)

TOPICS = (
    Topic(name="frames", key="session", retention=HOUR, limit=8 * MIB, text=False),
    Topic(name="audio", key="session", retention=HOUR, limit=8 * MIB, text=False),
    Topic(name="transcripts", key="session", retention=WEEK, limit=64 * 1024),
    Topic(name="windows", key="session", retention=WEEK, limit=4 * MIB),
    Topic(name="late", key="session", retention=WEEK, limit=MIB),
    Topic(name="scores", key="session", retention=WEEK, limit=4 * MIB),
    Topic(name="alerts", key="session", retention=WEEK, limit=MIB),
    Topic(name="feedback", key="session", retention=WEEK, limit=64 * 1024),
    Topic(name="deadletter", key="session", retention=WEEK, limit=9 * MIB),
    Topic(name="checkpoints", key="owner", retention=WEEK, limit=MIB, compacted=True),
)

STAGE = {stage.name: stage for stage in PIPELINE}
TOPIC = {topic.name: topic for topic in TOPICS}
ROLES = tuple(STAGE)
