"""The aligner of one partition number: all sessions whose key falls there, in all three topics.

Laws (DESIGN §2; each is a property test):
1. A pure state machine: records and ticks in, windows out. Time arrives in its inputs.
2. Watermark = minimum over active, waited-for tracks of (progress - bound); it never goes back. Who trails his own arrivals by
   more than the patience, is idle or has ended is not waited for.
3. Idle is judged in arrival time, by the clock of the track's own partition: catching up is not silence.
4. Every revision is whole and contains the one before; at most one per window and tick.
5. Late is a property of the record alone: its partition's arrival clock - its start > horizon. Every record is aligned, a
   duplicate, a mark, Late or Rejected.
6. A time ahead of the arrival clock by more than the skew is Rejected and moves nothing.
7. Duplicates, and the order of arrival within the horizon, change nothing in the end.
8. The final manifest of a window is the set of events of its stretch that were not late, wherever a run was cut and resumed.
9. Past `max_events` in open windows of the process, or `max_session_events` of one session, the oldest go out early; what they
   miss comes as a revision. What is out is remembered until the horizon has passed (laws 7, 8): rate x horizon; a session's furthest
   window also until its silence is told, at the latest a horizon and `session_end` after a record told something new. At `max_held`
   or `max_session_held` references, or MOST_TRACKS sources, what is new is Rejected: the one place where a replay may take what live
   refused.
A tick costs what has changed, not what there is: sessions that were touched, and those whose alarm (`shared.Alarms`) has come.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping

from streamer.config import AlignSettings
from streamer.errors import Reason
from streamer.events import FRESH, Clock, Event, Mark, Micros, Modality, Pace, SessionId, SessionMark, TrackState, Window
from streamer.stages.align.outputs import LowWater, Output, Rejected
from streamer.stages.align.session import Session
from streamer.stages.align.shared import Gap, Reached, Room, Shared
from streamer.stages.align.tracks import LONG_AGO, NEVER
from streamer.stages.align.windows import Grid
from streamer.stages.times import EARLIEST, LATEST


class Aligner:
    """See the laws above; the order of calls stands in the package's docstring. Not thread-safe.

    `expected`: what each configured session carries; others are taken as they come. `room`: shared by all aligners of a process.
    """

    def __init__(self, settings: AlignSettings, expected: Mapping[SessionId, tuple[Modality, ...]], room: Room | None = None) -> None:
        self.settings = settings
        self._shared = Shared(settings, Grid(settings.length, settings.hop))
        self.tally = self._shared.tally
        self._room = room or Room()
        self._room.tallies.append(self.tally)
        self._expected = expected
        self._sessions: dict[SessionId, Session] = {}
        self._touched: list[Session] = []
        self._clocks: dict[Modality, Micros] = dict.fromkeys(Modality, LONG_AGO)
        self._reached: dict[Modality, Micros] = dict.fromkeys(Modality, LONG_AGO)
        self._caught_up: dict[Modality, Micros] = dict.fromkeys(Modality, LONG_AGO)
        self._out: OrderedDict[int, Session] = OrderedDict()

    # -- input --------------------------------------------------------------------------------------------------------

    def push(self, item: Event | Mark, clock: Micros) -> list[Output]:
        """One record, in its partition's order. Late or Rejected come at once.

        `clock`: the running maximum of arrival in its (topic, partition), including it.
        """
        modality = item.track.modality
        known = self._clocks[modality]
        before = clock if clock > item.arrival or clock < known else known
        if clock > known:
            self._clocks[modality] = clock
        if self._shared.gaps:
            self._meet(modality, clock)
        session = self._sessions.get(item.track.session)
        if rejected := self._refuse(session, item, clock):
            return [rejected]
        if session is None:
            session = self._begin(item.track.session, item.pace)
        self._touch(session)
        refused = session.take(item, clock, before) if isinstance(item, Event) else session.mark(item, clock, before)
        return [refused] if refused else []

    def tick(self, clocks: Mapping[Modality, Clock], now: Micros) -> list[Output]:
        """After each batch, and when nothing arrives. `clocks`: how far each topic's partition was read, this batch included."""
        reached = self._read(clocks, now)
        due = [name for modality, alarms in self._shared.idle.items() for name in alarms.due(reached.clocks[modality])]
        due += self._shared.slowest.due(reached.least)
        for name in due:
            self._touch(self._sessions[name], heard=False)
        looked, self._touched = self._touched, []
        outputs: list[Output] = []
        for session in looked:
            outputs.extend(session.advance(reached))
            if not session.tracks and session.silence is None:  # nobody is known of it: what came was late or refused
                self._end(session)
            if session.silence is None and session.mark_offset is not None:  # it speaks again: that it was silent need not be known
                self._out.pop(session.mark_offset, None)
                session.mark_offset = None
        outputs.extend(self._relieve(looked, reached))
        self._forget()
        return outputs

    def gap(self, modality: Modality, offset: int) -> None:
        """After `restore`: that topic's records from `offset` on, up to the next one that is pushed, are gone.

        Windows that could have held one say so (`Presence.gap`). Until all of those are beyond the horizon the low-water stays
        at `offset`: a restart learns of the gap again.
        """
        self._shared.gaps[modality] = Gap(offset, self._clocks[modality])

    def _read(self, clocks: Mapping[Modality, Clock], now: Micros) -> Reached:
        for modality, clock in clocks.items():
            self._clocks[modality] = max(self._clocks[modality], clock.arrival)
            self._reached[modality] = max(self._clocks[modality], now) if clock.caught_up else self._clocks[modality]
            self._caught_up[modality] = Micros(now - self.settings.skew - FRESH) if clock.caught_up else LONG_AGO
            if clock.caught_up and self._shared.gaps:
                self._meet(modality, now)
        return Reached(self._reached, min(self._reached.values()), max(self._reached.values()))

    def _meet(self, modality: Modality, clock: Micros) -> None:
        """What is lost of this topic came before `clock`."""
        gap = self._shared.gaps.get(modality)
        if gap is not None and gap.until == NEVER:
            gap.until = clock

    def _begin(self, name: SessionId, pace: Pace) -> Session:
        session = self._sessions[name] = Session(name, pace, tuple(self._expected.get(name, ())), self._shared)
        return session

    def _touch(self, session: Session, *, heard: bool = True) -> None:
        """Look at it with the next tick."""
        if not session.due:
            session.due = True
            self._touched.append(session)
        session.touched = session.touched or heard

    def _refuse(self, session: Session | None, item: Event | Mark, clock: Micros) -> Rejected | None:
        """Laws 6 and the session's pace: what cannot be changes nothing."""
        start, end = (item.start, item.end) if isinstance(item, Event) else (item.until, item.until)
        settings, live = self.settings, item.pace is Pace.LIVE
        if session is not None and session.pace is not item.pace:
            return Rejected(item=item, reason=Reason.PACE, detail=f"pace {item.pace} in a session that is {session.pace}")
        if end > LATEST - settings.length or (not live and start < EARLIEST + settings.length):
            return Rejected(item=item, reason=Reason.FUTURE, detail="ce_time: its windows would reach beyond the years 1 to 9999")
        if end - start > settings.longest_event:
            return Rejected(item=item, reason=Reason.TOO_LONG, detail=f"{end - start} us is over {settings.longest_event} us")
        if live:
            ahead, allowed = end - clock, settings.skew
        else:
            base = session.base(item) if session else None
            ahead, allowed = end - (start if base is None else base), settings.recorded_span
        if ahead <= allowed:
            return None
        return Rejected(item=item, reason=Reason.FUTURE, detail=f"{ahead} us ahead, {allowed} us allowed")

    # -- memory -------------------------------------------------------------------------------------------------------

    def _relieve(self, looked: Iterable[Session], reached: Reached) -> Iterator[Window]:
        """Law 9: close the oldest open windows, a session's own and then anybody's, until what is open fits again."""
        for session in looked:
            if session.held > self.settings.max_session_events:
                yield from self._close([session], session.open_events, self.settings.max_session_events, reached)
        if self._room.open > self.settings.max_events:
            yield from self._close(self._sessions.values(), self._room.open, self.settings.max_events, reached)
        self._shared.full = self._room.held >= self.settings.max_held

    def _close(self, sessions: Iterable[Session], opened: int, most: int, reached: Reached) -> Iterator[Window]:
        """Down to nine tenths of `most`: what looks at everything must not be done with every tick."""
        if opened <= most:
            return
        rows = [(window.end, session.name, window, session) for session in sessions for window in session.open_windows()]
        for *_, window, session in sorted(rows, key=lambda row: row[:2]):
            if opened <= most * 9 // 10:
                return
            opened -= len(window.refs)
            yield session.relieve(window, reached)

    def _forget(self) -> None:
        """An event that comes after every low-water and overlaps what is dropped here would be late (law 5)."""
        low = min(self._low_clock(modality) for modality in Modality)
        gaps = self._shared.gaps
        if gaps:
            for modality in [modality for modality, gap in gaps.items() if gap.over(low, self.settings)]:
                del gaps[modality]
        if gaps:
            return
        for name in list(self._shared.forgetting.due(low)):
            session = self._sessions[name]
            for offset in session.forget(low):
                self._out.pop(offset, None)
            if session.finished(low):
                self._end(session)
            else:
                session.forget_later()

    def _end(self, session: Session) -> None:
        del self._sessions[session.name]
        session.release_end_marks()
        self._shared.drop(session.name)
        if session.mark_offset is not None:
            self._out.pop(session.mark_offset, None)

    def _low_clock(self, modality: Modality) -> Micros:
        held = self._shared.unread[modality].first()
        return held.before if held else max(self._clocks[modality], self._caught_up[modality])

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def low_water(self, modality: Modality, position: int) -> LowWater:
        """The first record that is not yet acknowledged in every window it overlaps, else `position`, with the clock before it.

        Ask only when everything that was emitted is acknowledged. A recorded session's end marks count until it has ended.
        """
        if gap := self._shared.gaps.get(modality):
            return LowWater(gap.offset, gap.since)
        held = self._shared.unread[modality].first()
        return LowWater(held.offset, held.before) if held else LowWater(position, self._clocks[modality])

    def written(self, output: Window | SessionMark, offset: int) -> None:
        """`windows` acknowledged this output at `offset`. In the order of offsets."""
        session = self._sessions.get(output.session)
        if session is None:
            return
        if isinstance(output, SessionMark):
            if session.mark_offset is not None:
                self._out.pop(session.mark_offset, None)
            session.mark_offset = offset
        else:
            window = session.windows.get(output.start)
            if window is None:
                return
            if output.revision == window.unwritten:
                window.unwritten = None
            if window.offset is not None and window.start in session.pending:
                return  # what stands at the older offset is still needed
            if window.offset is not None:
                self._out.pop(window.offset, None)
            window.offset = offset
            session.forget_later()
        self._out[offset] = session

    def oldest_out(self) -> int | None:
        """Offset in `windows` from which `restore` must read; None: nothing there is needed."""
        return next(iter(self._out), None)

    def restore(self, windows: Iterable[tuple[int, Window | SessionMark]], clocks: Mapping[Modality, Micros]) -> None:
        """Rebuild after an assignment: `windows` from the checkpoint's offset on, in order; `clocks`: those of its low-waters."""
        self._clocks.update(clocks)
        self.merge(windows)

    def merge(self, windows: Iterable[tuple[int, Window | SessionMark]]) -> None:
        """Take over records of `windows` that this aligner did not write. What they lack goes out as a revision with the next tick."""
        for offset, record in windows:
            session = self._sessions.get(record.session) or self._begin(record.session, record.pace)
            self._touch(session)
            session.last = max(session.last, *self._clocks.values())
            if isinstance(record, Window) and not self._shared.grid.has(record.start, record.end):
                continue  # cut with another length or hop: it stays as it is, and the new grid begins where reading goes on
            if isinstance(record, SessionMark):
                session.adopt_mark(record)
                self.written(record, offset)
            else:
                self._adopt(session, record, offset)
        self._out = OrderedDict(sorted(self._out.items()))

    def _adopt(self, session: Session, record: Window, offset: int) -> None:
        known = session.windows.get(record.start)
        if known is not None and known.offset is not None:
            self._out.pop(known.offset, None)
        kept = session.adopt(offset, record).offset
        if kept is not None:
            self._out[kept] = session
        session.forget_later()

    # -- gauges -------------------------------------------------------------------------------------------------------

    def delays(self) -> dict[Modality, Micros]:
        """How far the slowest active track's watermark is behind its topic's clock, as of the last tick. Live sessions only."""
        found = dict[Modality, Micros]()
        for session in self._sessions.values():
            for track in session.tracks.values() if session.live else ():
                reached = self._reached[track.modality]
                if track.state(reached, Micros(self.settings.idle)) is TrackState.ACTIVE:
                    found[track.modality] = max(found.get(track.modality, LONG_AGO), Micros(reached - track.watermark))
        return found

    def watermarks(self) -> dict[SessionId, Micros]:
        """Each session's watermark; sessions that have none yet are left out."""
        return {name: session.watermark for name, session in self._sessions.items() if session.watermark > LONG_AGO}
