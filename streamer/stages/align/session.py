"""One session: its tracks, its watermark, its windows. What each step means stands in the laws in `aligner.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from streamer.config import AlignSettings
from streamer.errors import Reason
from streamer.events import (
    ClosedBy,
    Event,
    EventRef,
    Late,
    Mark,
    Micros,
    Modality,
    Pace,
    Presence,
    SessionId,
    SessionMark,
    Silence,
    TrackState,
    Window,
)
from streamer.ids import window_id
from streamer.stages.align.outputs import Rejected, Tally
from streamer.stages.align.tracks import LONG_AGO, States, TrackClock, joint_watermark
from streamer.stages.align.windows import MOST_EVENTS, MOST_WORDS, Grid, Held, RefKey, WindowState

NEVER = Micros(1 << 62)
Clocks = Mapping[Modality, Micros]
"""How far each topic's partition has been read, in arrival time; `now` where it is caught up."""


class Session:
    """All state of one watched place. `first` and `last` are arrival clocks; `base` is its first event time.

    `due`: the arrival time at which something may happen without a record. `silence`: the mark that was last emitted,
    None once something new came. `end_marks`: where a recorded session's end marks stand, until it has ended.
    """

    def __init__(
        self, name: SessionId, pace: Pace, expected: tuple[Modality, ...], settings: AlignSettings, tally: Tally, base: Micros
    ) -> None:
        self.name = name
        self.pace = pace
        self.expected = expected
        self.base = base
        self.settings = settings
        self.tally = tally
        self.grid = Grid(settings.length, settings.hop)
        self.tracks: dict[tuple[Modality, str], TrackClock] = {}
        self.windows: dict[int, WindowState] = {}
        self.pending: dict[int, WindowState] = {}
        self.end_marks: dict[Modality, Held] = {}
        self.watermark = LONG_AGO
        self.floor = LONG_AGO
        self.first = NEVER
        self.last = LONG_AGO
        self.last_arrival = LONG_AGO
        self.touched = False
        self.due = NEVER
        self.silence: Silence | None = None
        self.mark_offset: int | None = None

    @property
    def live(self) -> bool:
        """Whether arrival and event time have to do with each other."""
        return self.pace is Pace.LIVE

    # -- records ------------------------------------------------------------------------------------------------------

    def take(self, event: Event, clock: Micros, before: Micros) -> Late | Rejected | None:
        """An event joins every window that it overlaps, unless it is late or one of them is full."""
        modality = event.track.modality
        if reason := self._lateness(event.start, clock):
            if (modality, event.track.source) in self.tracks:  # it lives; but nobody becomes known by what is late
                self._see(modality, event.track.source, event.end, event.arrival, clock, final=False)
            return _late(event, clock, reason)
        track = self._see(modality, event.track.source, event.end, event.arrival, clock, final=False)
        key, ref, seen, added = (track.number, event.id), _ref(event), False, False
        starts = self.grid.starts(event.start, event.end)
        if any(window.crowded(key, ref) for start in starts if (window := self.windows.get(start))):
            detail = f"a window holds {MOST_EVENTS} events of {modality.value}, or {MOST_WORDS} bytes of words, and no more"
            return Rejected(item=event, reason=Reason.CROWDED, detail=detail)
        for start in starts:
            window = self.windows.get(start)
            if window is None:
                if start + self.settings.length <= self.floor:
                    continue
                window = self._open(start)
            seen = True
            if window.add(key, ref, before):
                added = True
                self._grew(window)
        if not seen:
            return _late(event, clock, "forgotten")
        if added:
            self.silence = None
            self.tally.aligned[modality] += 1
        else:
            self.tally.duplicates[modality] += 1
        return None

    def mark(self, mark: Mark, clock: Micros, before: Micros) -> None:
        """Nothing more of this track before `until`. A recorded session's end marks are kept: they cannot be waited for twice."""
        modality = mark.track.modality
        self._see(modality, mark.track.source, mark.until, mark.arrival, clock, final=mark.final)
        if mark.final and not self.live and self.silence is None:
            self.end_marks.setdefault(modality, Held(mark.origin.offset, before))
        self.tally.marks[modality] += 1

    def track(self, modality: Modality, source: str) -> TrackClock:
        """The track, from its first mention on."""
        found = self.tracks.get((modality, source))
        if found is None:
            found = TrackClock(modality, source, len(self.tracks), self.settings.bound(modality))
            self.tracks[modality, source] = found
        return found

    def _see(self, modality: Modality, source: str, until: Micros, arrival: Micros, clock: Micros, *, final: bool) -> TrackClock:
        track = self.track(modality, source)
        if track.see(until, arrival, clock, final=final):
            self.silence = None
        self.first = min(self.first, clock)
        self.last = max(self.last, clock)
        self.last_arrival = max(self.last_arrival, arrival)
        self.touched = True
        return track

    def _lateness(self, start: Micros, clock: Micros) -> str | None:
        if self.live:
            return "horizon" if clock - start > self.settings.horizon else None
        return "span" if self.base - start > self.settings.recorded_span else None

    # -- windows ------------------------------------------------------------------------------------------------------

    def _open(self, start: int) -> WindowState:
        window = self.windows[start] = WindowState(start, self.settings.length)
        self.tally.open_windows += 1
        return window

    def _grew(self, window: WindowState) -> None:
        self.pending[window.start] = window
        self.tally.held_events += 1
        if not window.out:
            self.tally.open_events += 1

    def advance(self, reached: Clocks, top: Micros) -> Iterator[Window | SessionMark]:
        """What may go out now: closed windows, one revision of each that grew, and a mark when all is silent."""
        states = {track: track.state(reached.get(track.modality, LONG_AGO), self._idle) for track in self.tracks.values()}
        waiting = self._waiting(reached)
        before = self.watermark
        if not any(modality in self.settings.wait_for for modality in waiting):
            self.watermark = max(before, joint_watermark(states, self.settings, patient=not self.live))
        if self.live:  # below this everything would be late (law 5): whatever a track's own clock says, there is nothing to wait for
            self.watermark = max(self.watermark, Micros(min(reached.values(), default=LONG_AGO) - self.settings.horizon))
        why = self._silent(states, waiting, reached)
        for window in sorted(self.pending.values(), key=lambda window: window.start):
            if closed_by := self._closes(window, why):
                yield self.emit(window, closed_by, self._trigger(window, closed_by, before, top), states)
        if why and why is not self.silence and states:
            self.silence = why
            self.end_marks.clear()
            yield SessionMark(session=self.name, at=max(track.progress for track in states), why=why, pace=self.pace)
        for track in states:
            track.batch_done()
        self.touched = False
        self.due = self._due(states, waiting, reached)

    def emit(self, window: WindowState, closed_by: ClosedBy, trigger: Micros, states: States | None = None) -> Window:
        """Let one revision go out, whole."""
        if not window.out:
            window.closed_by = closed_by
            self.tally.open_windows -= 1
            self.tally.open_events -= len(window.refs)
        revision, window.revision = window.revision, window.revision + 1
        window.held.clear()
        del self.pending[window.start]
        return Window(
            id=window_id(self.name, Micros(window.start), Micros(window.end)),
            session=self.name,
            start=Micros(window.start),
            end=Micros(window.end),
            revision=revision,
            closed_by=window.closed_by,
            manifest=window.manifest(),
            completeness=self._completeness(window, states or dict.fromkeys(self.tracks.values(), TrackState.ACTIVE)),
            trigger=trigger,
            pace=self.pace,
        )

    def _closes(self, window: WindowState, why: Silence | None) -> ClosedBy | None:
        if window.out or window.end <= self.watermark:
            return ClosedBy.WATERMARK
        return ClosedBy(why.value) if why else None

    def _trigger(self, window: WindowState, closed_by: ClosedBy, before: Micros, top: Micros) -> Micros:
        if window.out or window.end <= before:
            return window.newest
        if closed_by is ClosedBy.WATERMARK:
            passed = [at for track in self.tracks.values() if (at := track.passed(window.end)) is not None]
            if passed:
                return max(passed)
        return self.last_arrival if self.touched else top

    def _completeness(self, window: WindowState, states: States) -> dict[Modality, Presence]:
        found = {}
        for modality in Modality:
            own = {track: state for track, state in states.items() if track.modality is modality}
            progress = max((track.progress for track in own), default=LONG_AGO)
            share = (progress - window.start) / (window.end - window.start)
            found[modality] = Presence(
                state=_best(set(own.values()), expected=modality in self.expected),
                events=window.counts[modality],
                covered=min(max(share, 0.0), 1.0),
            )
        return found

    # -- silence ------------------------------------------------------------------------------------------------------

    @property
    def _idle(self) -> Micros:
        return Micros(self.settings.idle) if self.live else NEVER

    def _waiting(self, reached: Clocks) -> list[Modality]:
        """Expected modalities that have shown nothing, and still may."""
        missing = [modality for modality in self.expected if all(kind is not modality for kind, _ in self.tracks)]
        return [modality for modality in missing if reached.get(modality, LONG_AGO) - self.first < self._idle]

    def _silent(self, states: States, waiting: list[Modality], reached: Clocks) -> Silence | None:
        if self._abandoned(reached):
            return Silence.END if self.silence is Silence.END else Silence.IDLE
        if waiting or TrackState.ACTIVE in states.values():
            return None
        if all(state is TrackState.ENDED for state in states.values()):
            heard = self.live or self.expected or any(track.modality in self.settings.wait_for for track in states)
            return Silence.END if heard else None
        return Silence.IDLE

    def _abandoned(self, reached: Clocks) -> bool:
        """No arrivals for so long that even a recorded session is not waited for: its records must not hold up the partition."""
        return min(reached.values(), default=LONG_AGO) - self.last >= self.settings.session_end

    def _due(self, states: States, waiting: list[Modality], reached: Clocks) -> Micros:
        if self.silence:
            return NEVER
        if not self.live:
            return Micros(self.last + self.settings.session_end)
        times = [track.last + self.settings.idle for track, state in states.items() if state is TrackState.ACTIVE]
        times += [self.first + self.settings.idle] * bool(waiting)
        return Micros(min(times, default=NEVER))

    # -- memory -------------------------------------------------------------------------------------------------------

    def forget(self, low: Micros) -> Iterator[int]:
        """Drop windows that no event could be in time for. `low`: the least arrival clock at any topic's low-water.

        Yields offsets in `windows` that are no longer needed. In order of creation: an old one behind a young one waits for it.
        """
        if not self.live and not self._over(low):
            return
        while self.windows:
            window = next(iter(self.windows.values()))
            over = not self.live or window.end + self.settings.horizon <= low
            if not over or window.start in self.pending or window.offset is None:
                return
            del self.windows[window.start]
            self.tally.held_events -= len(window.refs)
            self.floor = max(self.floor, Micros(window.end))
            yield window.offset

    def finished(self, low: Micros) -> bool:
        """Whether nothing of this session needs to be remembered."""
        return not self.windows and not self.touched and self._over(low)

    def _over(self, low: Micros) -> bool:
        if self.silence is None:
            return False
        abandoned = not self.live and self.silence is Silence.IDLE
        return low - self.last >= (self.settings.recorded_span if abandoned else self.settings.session_end)

    # -- what the log holds -------------------------------------------------------------------------------------------

    def adopt(self, offset: int, window: Window) -> WindowState:
        """Take over what a run before this one, or another owner, wrote."""
        refs = dict[RefKey, EventRef]()
        for ref in window.manifest:
            track = self.track(ref.modality, ref.source)
            track.progress = max(track.progress, ref.end)
            track.last = max(track.last, ref.arrival)
            self.last_arrival = max(self.last_arrival, ref.arrival)
            self.first = min(self.first, ref.arrival)
            refs[track.number, ref.id] = ref
        known = self.windows.get(window.start) or self._open(window.start)
        if not known.out:
            self.tally.open_windows -= 1
            self.tally.open_events -= len(known.refs)
        self.tally.held_events -= len(known.refs)
        waits = self.pending.pop(known.start, None) is not None
        if known.adopt(refs, window, offset, waits=waits):
            self.pending[known.start] = known
        self.tally.held_events += len(known.refs)
        self.silence = None
        self.touched = True
        return known

    def adopt_mark(self, mark: SessionMark) -> None:
        """The session was silent when this was written; its end marks need not come again."""
        self.silence = mark.why
        for track in self.tracks.values():
            track.progress = max(track.progress, mark.at) if mark.why is Silence.END else track.progress
            track.ended = mark.why is Silence.END
        self.touched = True


def _ref(event: Event) -> EventRef:
    track = event.track
    return EventRef(
        modality=track.modality,
        source=track.source,
        id=event.id,
        start=event.start,
        end=event.end,
        arrival=event.arrival,
        origin=event.origin,
        words=event.words,
    )


def _late(event: Event, clock: Micros, reason: str) -> Late:
    return Late(
        origin=event.origin,
        session=event.track.session,
        modality=event.track.modality,
        id=event.id,
        start=event.start,
        arrival=event.arrival,
        delay=Micros(clock - event.start),
        reason=reason,
    )


def _best(states: set[TrackState], *, expected: bool) -> TrackState:
    for state in (TrackState.ACTIVE, TrackState.IDLE, TrackState.ENDED):
        if state in states:
            return state
    return TrackState.EXPECTED if expected else TrackState.ABSENT
