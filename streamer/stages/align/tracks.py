"""Tracks: how far each source has come in event time, whether it still speaks, and what a session may wait for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping

from streamer.config import AlignSettings
from streamer.events import EventRef, Micros, Modality, TrackState

LONG_AGO = Micros(-(1 << 62))
NEVER = Micros(1 << 62)
MOST_TRACKS = 256
"""Sources of one session that are remembered at a time."""


class TrackClock:
    """One track. `progress`: the greatest end or mark; `last`: its partition's arrival clock at its last record.

    `held`: how often windows that are not forgotten name it. `furthest`: offset of the record that its progress was read back
    from; an end mark before it that is read again does not end the track, which spoke after it.
    """

    __slots__ = ("_arrivals", "_marks", "bound", "ended", "furthest", "held", "last", "modality", "progress", "source")

    def __init__(self, modality: Modality, source: str, bound: Micros) -> None:
        self.modality = modality
        self.source = source
        self.held = 0
        self.bound = bound
        self.progress = LONG_AGO
        self.furthest = -1
        self.last = LONG_AGO
        self.ended = False
        self._marks: list[int] = []
        self._arrivals: list[Micros] = []

    @property
    def watermark(self) -> Micros:
        """Below this, the track is taken to be complete."""
        return Micros(self.progress - self.bound)

    def see(self, until: Micros, arrival: Micros, clock: Micros, *, final: bool = False) -> bool:
        """One record. Whatever reaches further than before reactivates an ended track. True: something new was learnt."""
        further, finishes = until > self.progress, final and not self.ended
        self.last = max(self.last, clock)
        if further:
            self.progress = until
            self.ended = False
            self._marks.append(self.watermark)
            self._arrivals.append(arrival)
        if final:
            self.ended = True
        return further or finishes

    def read_back(self, ref: EventRef) -> None:
        """An event of a window that stands in the log. It reactivates a track that had ended before, as it did when it was read first."""
        if ref.end > self.progress:
            self.progress, self.furthest, self.ended = ref.end, ref.origin.offset, False
        self.last = max(self.last, ref.arrival)

    def passed(self, end: int) -> Micros | None:
        """Arrival of the record in this batch with which the watermark reached `end`; None: not in this batch."""
        at = bisect_left(self._marks, end)
        return self._arrivals[at] if at < len(self._marks) else None

    def batch_done(self) -> None:
        """The batch is dealt with."""
        self._marks.clear()
        self._arrivals.clear()

    def state(self, clock: Micros, idle: Micros) -> TrackState:
        """`clock`: how far this track's partition has been read, in arrival time."""
        if self.ended:
            return TrackState.ENDED
        return TrackState.IDLE if clock - self.last >= idle else TrackState.ACTIVE


States = Mapping[TrackClock, TrackState]
Standing = Mapping[Modality, tuple[TrackState, Micros]]
_BEST = (TrackState.ACTIVE, TrackState.IDLE, TrackState.ENDED)


def standing_of(states: States) -> Standing:
    """Of each modality with a track: its best track's state, and how far it has come."""
    found: dict[Modality, tuple[TrackState, Micros]] = {}
    for track, state in states.items():
        known, progress = found.get(track.modality, (state, LONG_AGO))
        found[track.modality] = min(known, state, key=_BEST.index), max(progress, track.progress)
    return found


def idle_beyond(horizon: int, states: States, reached: Mapping[Modality, Micros]) -> list[TrackClock]:
    """Tracks that nothing remembered names and that are silent for longer than `horizon`, but for each modality's latest.

    One that speaks again is like a new one; the latest is kept, for it tells how its modality is.
    """
    latest = {track.modality: track for track in sorted(states, key=lambda track: track.last)}
    return [
        track
        for track, state in states.items()
        if state is not TrackState.ACTIVE
        and reached[track.modality] - track.last >= horizon
        and not track.held
        and latest[track.modality] is not track
    ]


def joint_watermark(states: States, settings: AlignSettings, *, patient: bool) -> Micros:
    """Below this, nothing more is waited for.

    The minimum over active, waited-for tracks. When none is active they are complete, and what lies beyond them follows
    the active revising tracks.
    """
    waited = {track: state for track, state in states.items() if track.modality in settings.wait_for}
    active = [track for track, state in waited.items() if state is TrackState.ACTIVE]
    if active:
        return _slowest(active, settings, patient)
    revising = [track for track, state in states.items() if state is TrackState.ACTIVE]
    complete = max((track.progress for track in waited), default=LONG_AGO)
    return max(complete, _slowest(revising, settings, patient))


def prompt(tracks: Collection[TrackClock], settings: AlignSettings, *, patient: bool) -> list[TrackClock]:
    """Those that keep up with their own arrivals; when all trail, the one that is furthest (a stall helps nobody)."""
    found = [track for track in tracks if patient or track.last - track.progress <= settings.patience]
    return found or [max(tracks, key=_watermark)] if tracks else []


def _slowest(tracks: Collection[TrackClock], settings: AlignSettings, patient: bool) -> Micros:
    return min(map(_watermark, prompt(tracks, settings, patient=patient)), default=LONG_AGO)


def _watermark(track: TrackClock) -> Micros:
    return track.watermark
