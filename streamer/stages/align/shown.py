"""What an aligner holds, for people and programs to look at: who is waited for, and what each open window waits for.

It changes nothing. What it says of a window follows from the same rules as the watermark (law 2 in `aligner.py`): the window
closes once nothing that is named here holds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from streamer.events import Micros, Modality, Pace, SessionId, Silence, TrackState
from streamer.stages.align.aligner import Aligner
from streamer.stages.align.session import Session
from streamer.stages.align.tracks import LONG_AGO, NEVER, TrackClock, prompt
from streamer.stages.align.windows import WindowState


class WhyNot(StrEnum):
    """Why a track is not waited for."""

    IDLE = "idle"
    ENDED = "ended"
    REVISING = "its modality revises"
    PATIENCE = "it trails its arrivals by more than the patience"
    FURTHER = "all trail; one that is further is waited for"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackShown:
    """One track. `progress` None: nothing told it yet. `last`: arrival clock at its last record. `why_not` None: it is waited for."""

    modality: Modality
    source: str
    state: TrackState
    progress: Micros | None
    bound: Micros
    last: Micros
    why_not: WhyNot | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Something that a window waits for: a track at `progress` that must reach `needs`; without a source, the first sign of a modality."""

    modality: Modality
    source: str | None
    progress: Micros | None
    needs: Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowShown:
    """A window of which more will be written. `revision`: the next one, 0 while it is open.

    `waits`: the slowest first; none: the next tick writes it.
    """

    start: Micros
    end: Micros
    revision: int
    events: dict[Modality, int]
    waits: tuple[Wait, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionShown:
    """One session. `behind`: how far its watermark is behind the least of its inputs' clocks; None while it has no watermark."""

    session: SessionId
    pace: Pace
    watermark: Micros | None
    behind: Micros | None
    silence: Silence | None
    tracks: tuple[TrackShown, ...]
    windows: tuple[WindowShown, ...]
    remembered: int


def show(aligner: Aligner) -> tuple[SessionShown, ...]:
    """Every session, as of the last tick; the one that has waited longest first."""
    return tuple(sorted((_session(one, aligner) for one in aligner._sessions.values()), key=_oldest))


def _oldest(session: SessionShown) -> tuple[int, str]:
    return min((window.start for window in session.windows), default=1 << 62), session.session


def _session(session: Session, aligner: Aligner) -> SessionShown:
    reached, settings = aligner._reached, aligner.settings
    idle = Micros(settings.idle) if session.live else NEVER
    states = {track: track.state(reached[track.modality], idle) for track in session.tracks.values()}
    known = session.watermark > LONG_AGO
    least = min(reached.values())
    return SessionShown(
        session=session.name,
        pace=session.pace,
        watermark=session.watermark if known else None,
        behind=Micros(least - session.watermark) if known and session.live and least > LONG_AGO else None,
        silence=session.silence,
        tracks=tuple(_track(track, state, _why_not(track, states, session)) for track, state in sorted(states.items(), key=_name)),
        windows=tuple(_window(window, states, session, aligner) for _, window in sorted(session.pending.items())),
        remembered=len(session.windows),
    )


def _name(entry: tuple[TrackClock, TrackState]) -> tuple[str, str]:
    return entry[0].modality, entry[0].source


def _track(track: TrackClock, state: TrackState, why_not: WhyNot | None) -> TrackShown:
    progress = track.progress if track.progress > LONG_AGO else None
    return TrackShown(
        modality=track.modality, source=track.source, state=state, progress=progress, bound=track.bound, last=track.last, why_not=why_not
    )


def _group(states: dict[TrackClock, TrackState], session: Session) -> list[TrackClock]:
    """The tracks among which the watermark is decided: the active, waited-for ones; without any, the active revising ones."""
    active = [track for track, state in states.items() if state is TrackState.ACTIVE]
    return [track for track in active if track.modality in session.settings.wait_for] or active


def _why_not(track: TrackClock, states: dict[TrackClock, TrackState], session: Session) -> WhyNot | None:
    if states[track] is not TrackState.ACTIVE:
        return WhyNot.ENDED if states[track] is TrackState.ENDED else WhyNot.IDLE
    group = _group(states, session)
    if track not in group:
        return WhyNot.REVISING
    if track in prompt(group, session.settings, patient=not session.live):
        return None
    some_keep_up = any(other.last - other.progress <= session.settings.patience for other in group)
    return WhyNot.PATIENCE if some_keep_up else WhyNot.FURTHER


def _window(window: WindowState, states: dict[TrackClock, TrackState], session: Session, aligner: Aligner) -> WindowShown:
    return WindowShown(
        start=Micros(window.start),
        end=Micros(window.end),
        revision=window.revision,
        events={modality: count for modality, count in window.counts.items() if count},
        waits=() if window.revision else tuple(_waits(Micros(window.end), states, session, aligner)),
    )


def _waits(end: Micros, states: dict[TrackClock, TrackState], session: Session, aligner: Aligner) -> Iterator[Wait]:
    if end <= session.watermark:
        return
    for modality in session._waiting(aligner._reached):
        if modality in session.settings.wait_for:
            yield Wait(modality=modality, source=None, progress=None, needs=end)
    held_by = prompt(_group(states, session), session.settings, patient=not session.live)
    for track in sorted(held_by, key=lambda track: (track.watermark, track.modality, track.source)):
        if track.watermark < end:
            yield Wait(modality=track.modality, source=track.source, progress=track.progress, needs=Micros(end + track.bound))
