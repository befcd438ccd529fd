"""Plain values for the tests of decide and deliver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from streamer import ids
from streamer.events import (
    SECOND,
    Alert,
    AlertState,
    ClassScore,
    ClosedBy,
    Evidence,
    Micros,
    Modality,
    Origin,
    Pace,
    Presence,
    QuoteEvidence,
    Scores,
    SessionId,
    SessionMark,
    Severity,
    Silence,
    SoundEvidence,
    TrackState,
)
from streamer.rules import Rules, parse_rules
from streamer.stages.decide import DecideSettings

EPOCH = 1_795_000_000 * SECOND
HOUSE = SessionId("house-1")
HOP = Micros(1 * SECOND)
SETTINGS = DecideSettings(hop=HOP, horizon=Micros(180 * SECOND))


def at(second: float) -> Micros:
    return Micros(EPOCH + round(second * SECOND))


def rules(*more: Mapping[str, Any], **first: Any) -> Rules:
    """One siren rule without cooldown, changed by `first`, and `more` rules."""
    siren = {"id": "siren", "class": "siren", "threshold": 0.5, "off_threshold": 0.3, "duration": 0, "cooldown": 0} | first
    return parse_rules({"rules": [siren, *more]})


def scores(
    second: int,
    siren: float = 0.0,
    *,
    revision: int = 0,
    quote: str | None = None,
    pace: Pace = Pace.LIVE,
    session: SessionId = HOUSE,
    calibrated: bool = False,
    **classes: float,
) -> Scores:
    """The score of the two-second window that starts at `second`."""
    start, end = at(second), at(second + 2)
    values = {"siren": siren} | classes
    quotes = (QuoteEvidence(text=quote, similarity=0.8, start=start, end=at(second + 1)),) if quote else ()
    return Scores(
        window=ids.window_id(session, start, end),
        revision=revision,
        session=session,
        start=start,
        end=end,
        closed_by=ClosedBy.WATERMARK,
        classes={
            label: ClassScore(probability=p, contributions={Modality.AUDIO: p}, explanation=f"{label} {p}" if p else "")
            for label, p in values.items()
        },
        evidence=Evidence(sounds=(SoundEvidence(label="Siren", probability=siren, start=start, end=end),), quotes=quotes),
        completeness={m: Presence(state=TrackState.ACTIVE, events=2, covered=1.0) for m in Modality},
        absent=(),
        sources=(Origin(topic="audio", partition=0, offset=second),),
        model="test-1",
        calibrated=calibrated,
        trigger=end,
        pace=pace,
    )


def mark(second: float, why: Silence = Silence.IDLE, *, pace: Pace = Pace.LIVE, session: SessionId = HOUSE) -> SessionMark:
    return SessionMark(session=session, at=at(second), why=why, pace=pace)


def having(second: int, siren: float, *modalities: str, revision: int = 0) -> Scores:
    """A window that has these modalities."""
    one = scores(second, siren, revision=revision)
    shares = {Modality(name): 1.0 for name in modalities}
    return replace(one, classes={name: replace(each, contributions=shares) for name, each in one.classes.items()})


def alert(number: int = 0, *, revision: int = 0, session: SessionId = HOUSE, text: str = "help me", **changes: Any) -> Alert:
    start, end = at(number * 10), at(number * 10 + 3)
    values: dict[str, Any] = {
        "id": ids.alert_id("siren", session, start),
        "revision": revision,
        "session": session,
        "rule": "siren",
        "label": "siren",
        "severity": Severity.WARNING,
        "state": AlertState.RAISED,
        "start": start,
        "end": end,
        "score": 0.83,
        "threshold": 0.5,
        "window": ids.window_id(session, start, at(number * 10 + 2)),
        "contributions": {Modality.AUDIO: 2.5, Modality.TRANSCRIPTS: 0.5},
        "evidence": Evidence(quotes=(QuoteEvidence(text=text, similarity=0.9, start=start, end=end),)),
        "sources": (Origin(topic="audio", partition=0, offset=number),),
        "model": "test-1",
        "rules": "r0",
        "calibrated": False,
        "at": end,
    }
    return Alert(**(values | changes))
