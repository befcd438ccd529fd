"""One session: its tracks, its watermark, its windows. What each step means stands in the laws in `aligner.py`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

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
from streamer.stages.align.outputs import Rejected, crowded, late, line_of, too_many_tracks
from streamer.stages.align.shared import Reached, Shared
from streamer.stages.align.tracks import (
    LONG_AGO,
    MOST_TRACKS,
    NEVER,
    Standing,
    States,
    TrackClock,
    idle_beyond,
    joint_watermark,
    standing_of,
)
from streamer.stages.align.windows import MOST_EVENTS, MOST_WORDS, Held, RefKey, WindowState, words_size


class Session:
    """All state of one watched place. `first` and `last` are arrival clocks, and `learnt`: when a record last told something new.

    `touched`: something was heard since the last look; `due`: the next tick looks. `silence`: the mark that was last emitted,
    None once something new came. `end_marks`: where a recorded session's end marks stand, until it has ended.
    `bases`: of a recorded session, each modality's first event as the log has it (offset, start). `missing`: what is expected
    and has shown nothing. `held`: references in its windows; `full`: too many of them, as of the last look. `furthest`: its latest window.
    """

    def __init__(self, name: SessionId, pace: Pace, expected: tuple[Modality, ...], shared: Shared) -> None:
        self.name = name
        self.pace = pace
        self.live = pace is Pace.LIVE
        self.expected = self.missing = expected
        self.shared = shared
        self.settings = shared.settings
        self.tracks: dict[tuple[Modality, str], TrackClock] = {}
        self.windows: dict[int, WindowState] = {}
        self.pending: dict[int, WindowState] = {}
        self.end_marks: dict[Modality, Held] = {}
        self.bases: dict[Modality, tuple[int, Micros]] = {}
        self.watermark = self.floor = LONG_AGO
        self.furthest: int = LONG_AGO
        self.first = NEVER
        self.last = self.last_arrival = self.learnt = LONG_AGO
        self.touched = self.due = False
        self.held = 0
        self.full = False
        self.silence: Silence | None = None
        self.mark_offset: int | None = None

    # -- records ------------------------------------------------------------------------------------------------------

    def take(self, event: Event, clock: Micros, before: Micros) -> Late | Rejected | None:
        """An event joins every window that it overlaps, unless it is late or there is no place for it."""
        modality, source = event.track.modality, event.track.source
        track = self.tracks.get((modality, source))
        if reason := self._lateness(event, clock):
            if track is not None:  # it lives; but nobody becomes known by what is late
                self._see(track, event.end, event.arrival, clock, late=True)
            return late(event, clock, reason)
        if track is None:
            if len(self.tracks) >= MOST_TRACKS:
                return too_many_tracks(event)
            track = self.track(modality, source)
        self._see(track, event.end, event.arrival, clock)
        key, words = (track, event.id), words_size(event.words)
        lacking, known = [], False
        for start in self.shared.grid.starts(event.start, event.end):
            window = self.windows.get(start)
            if window is None:
                if start + self.settings.length > self.floor:
                    lacking.append(start)
            elif key in window.refs:
                known = True
            elif window.crowded(modality, words):
                return crowded(event, f"a window holds {MOST_EVENTS} events of {modality.value}, or {MOST_WORDS} bytes of words")
            else:
                lacking.append(start)
        if not lacking and not known:
            return late(event, clock, "forgotten")
        if lacking and (self.full or self.shared.full):
            return crowded(event, f"{self.settings.max_session_held} references of one session, or {self.settings.max_held} in all")
        if lacking:
            self._join(event, track, lacking, words, before)
        else:
            self.shared.tally.duplicates[modality] += 1
        return None

    def _join(self, event: Event, track: TrackClock, starts: list[int], words: int, before: Micros) -> None:
        modality, tally = track.modality, self.shared.tally
        key, ref, held = (track, event.id), line_of(event), None
        for start in starts:
            window = self.windows.get(start)
            if window is None:
                window = self._open(start)
            window.put(key, ref, words)
            if modality not in window.held:
                held = held or self.shared.hold(modality, event.origin.offset, before)
                window.held[modality] = held
                held.needed += 1
            self.pending[start] = window
            if not window.revision:
                tally.open_events += 1
        self.held += len(starts)
        tally.held_events += len(starts)
        tally.aligned[modality] += 1
        self.silence, self.learnt = None, self.last
        if not self.live:
            self._base(ref)

    def mark(self, mark: Mark, clock: Micros, before: Micros) -> Rejected | None:
        """Nothing more of this track before `until`. A recorded session's end marks are kept: they cannot be waited for twice."""
        modality, source = mark.track.modality, mark.track.source
        if len(self.tracks) >= MOST_TRACKS and (modality, source) not in self.tracks:
            return too_many_tracks(mark)
        track = self.track(modality, source)
        self._see(track, mark.until, mark.arrival, clock, final=mark.final and mark.origin.offset > track.furthest)
        if mark.final and not self.live and self.silence is None and modality not in self.end_marks:
            held = self.end_marks[modality] = self.shared.hold(modality, mark.origin.offset, before)
            held.needed += 1
        self.shared.tally.marks[modality] += 1
        return None

    def track(self, modality: Modality, source: str) -> TrackClock:
        """The track, from its first mention on."""
        found = self.tracks.get((modality, source))
        if found is None:
            found = self.tracks[modality, source] = TrackClock(modality, source, self.settings.bound(modality))
            self.missing = tuple(one for one in self.missing if one is not modality)
        return found

    def _see(self, track: TrackClock, until: Micros, arrival: Micros, clock: Micros, *, final: bool = False, late: bool = False) -> None:
        if clock < self.first:
            self.first = clock
        if clock > self.last:
            self.last = clock
        if track.see(until, arrival, clock, final=final) and not late:
            self.silence, self.learnt = None, self.last
        if arrival > self.last_arrival:
            self.last_arrival = arrival

    def _lateness(self, event: Event, clock: Micros) -> str | None:
        if self.live:
            return "horizon" if clock - event.start > self.settings.horizon else None
        base = self.base(event)
        return "span" if base is not None and base - event.start > self.settings.recorded_span else None

    def base(self, item: Event | Mark) -> Micros | None:
        """Of a recorded session: what `item` is measured from, its topic's first event. None: it is the first itself.

        The log alone says it: a restart finds it again, for all windows are remembered until the session is over.
        A mark without an event of its topic is measured from the other topics'.
        """
        own = self.bases.get(item.track.modality)
        if own is not None and item.origin.offset > own[0]:
            return own[1]
        return min((start for _, start in self.bases.values()), default=None) if isinstance(item, Mark) else None

    def _base(self, ref: EventRef) -> None:
        known = self.bases.get(ref.modality)
        if known is None or ref.origin.offset < known[0]:
            self.bases[ref.modality] = ref.origin.offset, ref.start

    # -- windows ------------------------------------------------------------------------------------------------------

    def _open(self, start: int) -> WindowState:
        window = self.windows[start] = WindowState(start, self.settings.length)
        self.furthest = max(self.furthest, start)
        self.shared.tally.open_windows += 1
        return window

    def advance(self, reached: Reached) -> Iterator[Window | SessionMark]:
        """What may go out now: closed windows, one revision of each that grew, and a mark when all is silent."""
        states = self._states(reached)
        waiting = self._waiting(reached.clocks)
        before = self.watermark
        if not any(modality in self.settings.wait_for for modality in waiting):
            self.watermark = max(before, joint_watermark(states, self.settings, patient=not self.live))
        if self.live:  # below this everything would be late (law 5): whatever a track's own clock says, there is nothing to wait for
            self.watermark = max(self.watermark, Micros(reached.least - self.settings.horizon))
        why = self._silent(states, bool(waiting), reached)
        closing = [(window, closed_by) for window in self.pending.values() if (closed_by := self._closes(window, why))]
        if closing:
            standing = standing_of(states)
            for window, closed_by in sorted(closing, key=lambda row: row[0].start):
                yield self._emit(window, closed_by, self._trigger(window, closed_by, before, reached.top), standing)
        if why and why is not self.silence and states:
            self.silence = why
            self.release_end_marks()
            yield SessionMark(session=self.name, at=max(track.progress for track in states), why=why, pace=self.pace)
        for track in states:
            track.batch_done()
        self.touched = self.due = False
        self.full = self.held >= self.settings.max_session_held
        self._look_again(states, waiting)
        if self.live and len(states) > len(Modality):
            for track in idle_beyond(self.settings.horizon, states, reached.clocks):
                del self.tracks[track.modality, track.source]

    def relieve(self, window: WindowState, reached: Reached) -> Window:
        """Law 9: let an open window go out early."""
        return self._emit(window, ClosedBy.MEMORY, reached.top, standing_of(self._states(reached)))

    def open_windows(self) -> list[WindowState]:
        """Those that are not out."""
        return [window for window in self.pending.values() if not window.out]

    @property
    def open_events(self) -> int:
        """References in windows that are not out."""
        return sum(len(window.refs) for window in self.open_windows())

    def _states(self, reached: Reached) -> States:
        idle, clocks = self._idle, reached.clocks
        return {track: track.state(clocks[track.modality], idle) for track in self.tracks.values()}

    def _emit(self, window: WindowState, closed_by: ClosedBy, trigger: Micros, standing: Standing) -> Window:
        """Let one revision go out, whole."""
        if not window.out:
            window.closed_by = closed_by
            self.shared.tally.open_windows -= 1
            self.shared.tally.open_events -= len(window.refs)
        del self.pending[window.start]
        completeness = {modality: self._presence(modality, window, standing) for modality in Modality}
        return window.revise(self.name, self.pace, completeness, trigger)

    def _closes(self, window: WindowState, why: Silence | None) -> ClosedBy | None:
        if window.revision or window.end <= self.watermark:
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

    def _presence(self, modality: Modality, window: WindowState, standing: Standing) -> Presence:
        state, progress = standing.get(modality) or (TrackState.EXPECTED if modality in self.expected else TrackState.ABSENT, LONG_AGO)
        share = (progress - window.start) / (window.end - window.start)
        gap = self.shared.gaps.get(modality)
        return Presence(
            state=state,
            events=window.counts.get(modality, 0),
            covered=min(max(share, 0.0), 1.0),
            gap=gap is not None and (not self.live or gap.touches(window.start, window.end, self.settings)),
        )

    # -- silence ------------------------------------------------------------------------------------------------------

    @property
    def _idle(self) -> Micros:
        return Micros(self.settings.idle) if self.live else NEVER

    def _waiting(self, reached: Mapping[Modality, Micros]) -> list[Modality]:
        """Expected modalities that have shown nothing, and still may."""
        return [modality for modality in self.missing if reached[modality] - self.first < self._idle]

    def _silent(self, states: States, waiting: bool, reached: Reached) -> Silence | None:
        ended = bool(states) and all(state is TrackState.ENDED for state in states.values())
        if reached.least - self.last >= self.settings.session_end:  # not even a recording is waited for: it would hold up the partition
            return Silence.END if (ended and not waiting) or self.silence is Silence.END else Silence.IDLE
        stuck = self.live and reached.least - self.learnt >= self.settings.horizon + self.settings.session_end  # nothing but late ones
        if not stuck and (waiting or TrackState.ACTIVE in states.values()):
            return None
        if ended:
            heard = self.live or self.expected or any(track.modality in self.settings.wait_for for track in states)
            return Silence.END if heard else None
        return Silence.IDLE

    def _look_again(self, states: States, waiting: list[Modality]) -> None:
        """Set the alarms: when something may happen without a record."""
        shared, name = self.shared, self.name
        if self.silence is None:
            shared.slowest.set(name, Micros(self.last + self.settings.session_end))
            if self.live:
                for track, state in states.items():
                    if state is TrackState.ACTIVE:
                        shared.idle[track.modality].set(name, Micros(track.last + self.settings.idle))
                for modality in waiting:
                    shared.idle[modality].set(name, Micros(self.first + self.settings.idle))
                for window in self.pending.values():
                    shared.slowest.set(name, Micros(window.end + self.settings.horizon))
        self.forget_later()

    # -- memory -------------------------------------------------------------------------------------------------------

    def forget_later(self) -> None:
        """Set the alarm: at which arrival clock at every topic's low-water something of this may be forgotten."""
        window = next(iter(self.windows.values()), None)
        if self._still_to_be_silent() or (window is not None and (window.start in self.pending or window.settled is None)):
            return  # not before it is written, or silent
        if window is not None and self.live:
            self.shared.forgetting.set(self.name, Micros(window.end + self.settings.horizon))
        elif self.silence is not None:
            self.shared.forgetting.set(self.name, self._over())

    def forget(self, low: Micros) -> Iterator[int]:
        """Drop windows that no event could be in time for. `low`: the least arrival clock at any topic's low-water.

        Yields offsets in `windows` that are no longer needed. In order of creation: an old one behind a young one waits for it.
        """
        if not self.live and not low >= self._over():
            return
        while self.windows and not self._still_to_be_silent():
            window = next(iter(self.windows.values()))
            over = not self.live or window.end + self.settings.horizon <= low
            if not over or window.start in self.pending or (offset := window.settled) is None:
                return
            del self.windows[window.start]
            self.held -= len(window.refs)
            self.shared.tally.held_events -= len(window.refs)
            for track, _ in window.refs:
                track.held -= 1
            self.floor = max(self.floor, Micros(window.end))
            yield offset

    def _still_to_be_silent(self) -> bool:
        """The furthest window of a live session stays until a mark says that it is silent: else a restart would not know where it ended."""
        if not self.live or self.silence is not None or not self.windows:
            return False
        self.furthest = self.furthest if self.furthest in self.windows else max(self.windows)  # forgotten behind a silence
        return next(iter(self.windows)) == self.furthest

    def finished(self, low: Micros) -> bool:
        """Whether nothing of this session needs to be remembered."""
        return not self.windows and not self.touched and low >= self._over()

    def _over(self) -> Micros:
        """The arrival clock at which a silent session is over."""
        if self.silence is None:
            return NEVER
        if self.live:
            return Micros(self.learnt + self.settings.session_end)
        return Micros(self.last + (self.settings.recorded_span if self.silence is Silence.IDLE else self.settings.session_end))

    def release_end_marks(self) -> None:
        """They need not be read again."""
        for held in self.end_marks.values():
            held.needed -= 1
        self.end_marks.clear()

    # -- what the log holds -------------------------------------------------------------------------------------------

    def adopt(self, offset: int, window: Window) -> WindowState:
        """Take over what a run before this one, or another owner, wrote."""
        refs = dict[RefKey, EventRef]()
        for ref in window.manifest:
            track = self.track(ref.modality, ref.source)
            track.read_back(ref)
            self.last_arrival = max(self.last_arrival, ref.arrival)
            self.first, self.last = min(self.first, ref.arrival), max(self.last, ref.arrival)
            refs[track, ref.id] = ref
            if not self.live:
                self._base(ref)
        tally = self.shared.tally
        known = self.windows.get(window.start) or self._open(window.start)
        if not known.out:
            tally.open_windows -= 1
            tally.open_events -= len(known.refs)
        before = len(known.refs)
        waits = self.pending.pop(known.start, None) is not None
        if known.adopt(refs, window, offset, waits=waits):
            self.pending[known.start] = known
        self.held += len(known.refs) - before
        tally.held_events += len(known.refs) - before
        self.silence, self.learnt = None, self.last
        return known

    def adopt_mark(self, mark: SessionMark) -> None:
        """The session was silent when this was written; its end marks need not come again."""
        if any(track.progress > mark.at for track in self.tracks.values()):
            return  # whoever wrote it, a replaced worker, had heard less
        self.silence = mark.why
        self.release_end_marks()
        if mark.why is Silence.END:
            for track in self.tracks.values():
                track.progress, track.ended = mark.at, True
