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
9. Past `max_events` in open windows the oldest go out early; what they miss comes as a revision.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from streamer.config import AlignSettings
from streamer.errors import Reason
from streamer.events import Clock, ClosedBy, Event, Mark, Micros, Modality, Pace, SessionId, SessionMark, TrackState, Window
from streamer.stages.align.outputs import LowWater, Output, Rejected, Tally
from streamer.stages.align.session import Session
from streamer.stages.align.tracks import LONG_AGO
from streamer.stages.align.windows import Held
from streamer.stages.times import EARLIEST, LATEST


class Aligner:
    """See the laws above; the order of calls stands in the package's docstring. Not thread-safe.

    `expected`: what each configured session carries; others are taken as they come.
    """

    def __init__(self, settings: AlignSettings, expected: Mapping[SessionId, tuple[Modality, ...]]) -> None:
        self.settings = settings
        self.tally = Tally()
        self._expected = expected
        self._sessions: dict[SessionId, Session] = {}
        self._clocks: dict[Modality, Micros] = dict.fromkeys(Modality, LONG_AGO)
        self._reached: dict[Modality, Micros] = dict.fromkeys(Modality, LONG_AGO)
        self._caught_up: dict[Modality, Micros] = dict.fromkeys(Modality, LONG_AGO)
        self._swept = LONG_AGO
        self._out: OrderedDict[int, Session] = OrderedDict()

    # -- input --------------------------------------------------------------------------------------------------------

    def push(self, item: Event | Mark, clock: Micros) -> list[Output]:
        """One record. `clock`: the running maximum of arrival in its (topic, partition), including it. Late or Rejected come at once."""
        modality = item.track.modality
        before = clock if clock > item.arrival else min(self._clocks[modality], clock)
        self._clocks[modality] = max(self._clocks[modality], clock)
        session = self._sessions.get(item.track.session)
        if rejected := self._refuse(session, item, clock):
            return [rejected]
        if session is None:
            session = self._begin(item.track.session, item.pace, item.start if isinstance(item, Event) else item.until)
        if isinstance(item, Mark):
            session.mark(item, clock, before)
            return []
        refused = session.take(item, clock, before)
        return [refused] if refused else []

    def tick(self, clocks: Mapping[Modality, Clock], now: Micros) -> list[Output]:
        """After each batch, and when nothing arrives. `clocks`: how far each topic's partition was read, this batch included."""
        self._read(clocks, now)
        top = max(self._reached.values())
        outputs: list[Output] = []
        for session in self._sessions.values():
            if session.touched or session.due <= top:
                outputs.extend(session.advance(self._reached, top))
        if self.tally.open_events > self.settings.max_events:
            outputs.extend(self._relieve(top))
        if top - self._swept >= self.settings.hop:
            self._swept = top
            self._forget()
        return outputs

    def _read(self, clocks: Mapping[Modality, Clock], now: Micros) -> None:
        for modality, clock in clocks.items():
            self._clocks[modality] = max(self._clocks[modality], clock.arrival)
            self._reached[modality] = max(self._clocks[modality], now) if clock.caught_up else self._clocks[modality]
            self._caught_up[modality] = Micros(now - self.settings.skew) if clock.caught_up else LONG_AGO

    def _begin(self, name: SessionId, pace: Pace, base: Micros) -> Session:
        session = Session(name, pace, tuple(self._expected.get(name, ())), self.settings, self.tally, base)
        self._sessions[name] = session
        return session

    def _refuse(self, session: Session | None, item: Event | Mark, clock: Micros) -> Rejected | None:
        """Laws 6 and the session's pace: what cannot be changes nothing."""
        start, end = (item.start, item.end) if isinstance(item, Event) else (item.until, item.until)
        if session is not None and session.pace is not item.pace:
            return Rejected(item=item, reason=Reason.PACE, detail=f"pace {item.pace} in a session that is {session.pace}")
        if end > LATEST - self.settings.length or (item.pace is Pace.RECORDED and start < EARLIEST + self.settings.length):
            return Rejected(item=item, reason=Reason.FUTURE, detail="ce_time: its windows would reach beyond the years 1 to 9999")
        if end - start > self.settings.longest_event:
            return Rejected(item=item, reason=Reason.TOO_LONG, detail=f"{end - start} us is over {self.settings.longest_event} us")
        if item.pace is Pace.LIVE:
            ahead, allowed = end - clock, self.settings.skew
        else:
            ahead, allowed = end - (session.base if session else start), self.settings.recorded_span
        if ahead <= allowed:
            return None
        return Rejected(item=item, reason=Reason.FUTURE, detail=f"{ahead} us ahead, {allowed} us allowed")

    # -- memory -------------------------------------------------------------------------------------------------------

    def _relieve(self, top: Micros) -> Iterable[Window]:
        """Law 9: close the oldest open windows until what is open fits."""
        opened = [(window.end, session.name, window, session) for session in self._sessions.values() for window in session.pending.values()]
        for *_, window, session in sorted(opened, key=lambda row: row[:2]):
            if self.tally.open_events <= self.settings.max_events:
                return
            if not window.out:
                yield session.emit(window, ClosedBy.MEMORY, top)

    def _forget(self) -> None:
        """An event that comes after every low-water and overlaps what is dropped here would be late (law 5)."""
        low = min(self._low_clock(modality) for modality in Modality)
        for session in list(self._sessions.values()):
            if session.silence is None and session.mark_offset is not None:  # it speaks again: that it was silent need not be known
                self._out.pop(session.mark_offset, None)
                session.mark_offset = None
            for offset in session.forget(low):
                self._out.pop(offset, None)
            if session.finished(low):
                del self._sessions[session.name]
                if session.mark_offset is not None:
                    self._out.pop(session.mark_offset, None)

    def _low_clock(self, modality: Modality) -> Micros:
        held = self._held(modality)
        return held.before if held else max(self._clocks[modality], self._caught_up[modality])

    def _held(self, modality: Modality) -> Held | None:
        found = [
            held
            for session in self._sessions.values()
            for holder in (*(window.held for window in session.pending.values()), session.end_marks)
            if (held := holder.get(modality)) is not None
        ]
        return min(found, default=None)

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def low_water(self, modality: Modality, position: int) -> LowWater:
        """The first record that is not yet acknowledged in every window it overlaps, else `position`, with the clock before it.

        Ask only when everything that was emitted is acknowledged. A recorded session's end marks count until it has ended.
        """
        held = self._held(modality)
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
            if window.offset is not None and window.start in session.pending:
                return  # what stands at the older offset is still needed
            if window.offset is not None:
                self._out.pop(window.offset, None)
            window.offset = offset
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
            session = self._sessions.get(record.session)
            if session is None:
                base = record.start if isinstance(record, Window) else record.at
                session = self._begin(record.session, record.pace, base)
            session.last = max(session.last, *self._clocks.values())
            if isinstance(record, Window) and not session.grid.has(record.start, record.end):
                continue  # cut with another length or hop: it stays as it is, and the new grid begins where reading goes on
            if isinstance(record, SessionMark):
                session.adopt_mark(record)
                self.written(record, offset)
            else:
                self._adopt(session, record, offset)
        self._out = OrderedDict(sorted(self._out.items()))

    def _adopt(self, session: Session, record: Window, offset: int) -> None:
        session.base = min(session.base, record.start)
        known = session.windows.get(record.start)
        if known is not None and known.offset is not None:
            self._out.pop(known.offset, None)
        kept = session.adopt(offset, record).offset
        if kept is not None:
            self._out[kept] = session

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
