"""Tracks: how far each source has come in event time, whether it still speaks, and what a session may wait for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping

from streamer.config import AlignSettings
from streamer.events import Micros, Modality, TrackState

LONG_AGO = Micros(-(1 << 62))


class TrackClock:
    """One track. `progress`: the greatest end or mark; `last`: its partition's arrival clock at its last record."""

    __slots__ = ("_arrivals", "_marks", "bound", "ended", "last", "modality", "number", "progress", "source")

    def __init__(self, modality: Modality, source: str, number: int, bound: Micros) -> None:
        self.modality = modality
        self.source = source
        self.number = number
        self.bound = bound
        self.progress = LONG_AGO
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


def joint_watermark(states: States, settings: AlignSettings, *, patient: bool) -> Micros:
    """Below this, nothing more is waited for.

    The minimum over active, waited-for tracks. When none is active they are complete, and what lies beyond them follows
    the active revising tracks.
    """
    waited = {track: state for track, state in states.items() if track.modality in settings.wait_for}
    active = [track for track, state in waited.items() if state is TrackState.ACTIVE]
    if active:
        return _group(active, Micros(settings.patience), patient)
    revising = [track for track, state in states.items() if state is TrackState.ACTIVE]
    complete = max((track.progress for track in waited), default=LONG_AGO)
    return max(complete, _group(revising, Micros(settings.patience), patient))


def _group(tracks: Iterable[TrackClock], patience: Micros, patient: bool) -> Micros:
    """The slowest track that keeps up with its own arrivals; when all trail, the one that is furthest (a stall helps nobody)."""
    prompt = [track.watermark for track in tracks if patient or track.last - track.progress <= patience]
    return min(prompt) if prompt else max((track.watermark for track in tracks), default=LONG_AGO)
