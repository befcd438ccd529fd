"""What decide remembers of a session, as plain values, and their bounded form in a `checkpoints` record (msgspec JSON, zlib).

Bounds: at most `MAX_WINDOWS` windows; evidence for the `MAX_DETAILS` latest windows that matter to a rule, each cut to
`MAX_ITEMS` boxes, sounds, quotes and origins and `MAX_QUOTE` characters a quote.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace

import msgspec

from streamer.events import (
    AlertState,
    Evidence,
    Micros,
    Modality,
    Origin,
    Pace,
    Scores,
    SessionId,
    Severity,
)
from streamer.stages.episodes import Episode

MAX_WINDOWS = 4_096
MAX_DETAILS = 256
MAX_ITEMS = 32
MAX_QUOTE = 500
MAX_STATE = 64 << 20  # bytes after inflation: far above any real state, far below what would hurt


class Detail(msgspec.Struct, frozen=True):
    """What an alert says besides numbers, of one window."""

    contributions: Mapping[str, Mapping[Modality, float]]
    evidence: Evidence
    sources: tuple[Origin, ...]


class Seen(msgspec.Struct):
    """The latest revision of one window: its scores by class, and its detail where some rule may need it."""

    id: str
    start: Micros
    end: Micros
    revision: int
    scores: dict[str, float]
    model: str
    calibrated: bool
    detail: Detail | None = None


class Told(msgspec.Struct, frozen=True):
    """What the last announcement of an alert said of its times and its peak, and whether it quoted words."""

    start: Micros
    end: Micros
    score: float
    window: str
    quotes: bool


class Sent(msgspec.Struct):
    """One alert that was sent: its latest episode, as it stands, and what was `told` of it.

    `start`, `last` are the starts of its first and last positive window; `since`/`until` the widest it ever was.
    `settled`: its stretch left the horizon, so it changes no more and counts for the cooldown only.
    """

    id: str
    anchor: Micros
    label: str
    threshold: float
    severity: Severity
    start: Micros
    last: Micros
    end: Micros
    since: Micros
    until: Micros
    score: float
    revision: int = -1
    state: AlertState = AlertState.RETRACTED
    peak_at: Micros = Micros(0)
    window: str = ""
    model: str = ""
    calibrated: bool = False
    contributions: Mapping[Modality, float] = msgspec.field(default_factory=dict)
    evidence: Evidence = Evidence()
    sources: tuple[Origin, ...] = ()
    told: Told | None = None
    settled: bool = False


class RuleMemory(msgspec.Struct):
    """One rule in one session: the open episode at the frozen edge, and the alerts sent."""

    carry: Episode | None = None
    sent: list[Sent] = msgspec.field(default_factory=list)


class SessionMemory(msgspec.Struct):
    """One session. Windows that start before `edge` are frozen; `before` is the start of the last of them.

    `offset` is the last record of `scores` that was applied; `quiet` the latest mark: nothing more up to there.
    """

    session: SessionId
    offset: int = -1
    arrival: Micros = Micros(0)
    pace: Pace = Pace.LIVE
    edge: Micros | None = None
    before: Micros | None = None
    quiet: Micros | None = None
    windows: list[Seen] = msgspec.field(default_factory=list)
    rules: dict[str, RuleMemory] = msgspec.field(default_factory=dict)


def detail_of(scores: Scores) -> Detail:
    """The part of a score that alerts quote, cut to its bounds."""
    evidence, quotes = scores.evidence, []
    for quote in evidence.quotes[:MAX_ITEMS]:
        quotes.append(quote if len(quote.text) <= MAX_QUOTE else replace(quote, text=quote.text[: MAX_QUOTE - 1] + "…"))
    frame = evidence.frame
    return Detail(
        contributions={label: dict(score.contributions) for label, score in scores.classes.items()},
        evidence=Evidence(
            frame=replace(frame, boxes=frame.boxes[:MAX_ITEMS]) if frame else None,
            sounds=evidence.sounds[:MAX_ITEMS],
            quotes=tuple(quotes),
        ),
        sources=scores.sources[:MAX_ITEMS],
    )


def freeze(memory: SessionMemory) -> bytes:
    """One session's memory as the value of a record."""
    return zlib.compress(msgspec.json.encode(memory), 1)


def thaw(value: bytes) -> SessionMemory:
    """The memory that `freeze` wrote. Raises ValueError when the bytes are something else."""
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(value, MAX_STATE)
        if not inflate.eof:
            raise ValueError("state is cut short or larger than its bound")
        return msgspec.json.decode(plain, type=SessionMemory)
    except (zlib.error, msgspec.MsgspecError) as exc:
        raise ValueError(f"not a state of decide: {exc}") from exc
