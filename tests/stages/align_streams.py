"""Streams for the aligner's tests: a log of three topics, a slow obvious reference, and a driver that reads, crashes and resumes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, TypeVar

from hypothesis import strategies as st

from streamer.config import AlignSettings
from streamer.events import (
    SECOND,
    Clock,
    Event,
    EventRef,
    Late,
    Mark,
    Micros,
    Modality,
    Origin,
    Pace,
    SessionId,
    SessionMark,
    Track,
    Window,
    Words,
)
from streamer.stages.align import Aligner, LowWater, Rejected

Item = Event | Mark
T = TypeVar("T", Event, Mark)
NOON = 1_700_000_000 * SECOND
TENTH = SECOND // 10
FRAMES, AUDIO, TRANSCRIPTS = Modality
SETTINGS = AlignSettings(
    length="2s",
    hop="1s",
    patience="3s",
    horizon="10s",
    idle="3s",
    session_end="20s",
    skew="2s",
    longest_event="10s",
    wait_for=(FRAMES, AUDIO),
)


def at(seconds: float) -> Micros:
    """Seconds after noon."""
    return Micros(NOON + round(seconds * SECOND))


@dataclass
class Log:
    """Three partitions as a broker holds them; `all` is the order in which records were appended."""

    topics: dict[Modality, list[Item]] = field(default_factory=lambda: {modality: [] for modality in Modality})
    all: list[Item] = field(default_factory=list)

    def event(
        self,
        modality: Modality,
        start: float,
        end: float | None = None,
        *,
        arrival: float | None = None,
        session: str = "hall",
        source: str = "one",
        pace: Pace = Pace.LIVE,
        name: str | None = None,
    ) -> Event:
        """Append an event; times in seconds after noon. Without `arrival` it comes the moment it ends."""
        end = start if end is None else end
        return self._append(
            Event(
                track=Track(session=SessionId(session), modality=modality, source=source),
                id=name or f"t{at(start)}",
                start=at(start),
                end=at(end),
                arrival=at(end if arrival is None else arrival),
                origin=self._next(modality),
                pace=pace,
                words=Words(text="help", confidence=1.0, language="en") if modality is TRANSCRIPTS else None,
            )
        )

    def mark(
        self,
        modality: Modality,
        until: float,
        *,
        final: bool = False,
        arrival: float | None = None,
        session: str = "hall",
        source: str = "one",
        pace: Pace = Pace.LIVE,
    ) -> Mark:
        """Append a progress mark, or an end mark."""
        track = Track(session=SessionId(session), modality=modality, source=source)
        when = at(until if arrival is None else arrival)
        return self._append(Mark(track=track, until=at(until), final=final, arrival=when, origin=self._next(modality), pace=pace))

    def _next(self, modality: Modality) -> Origin:
        return Origin(topic=modality.value, partition=0, offset=len(self.topics[modality]))

    def _append(self, item: T) -> T:
        self.topics[item.track.modality].append(item)
        self.all.append(item)
        return item


Verdict = dict[str, list[Event]]
Manifests = dict[tuple[SessionId, int], frozenset[EventRef]]


def ref(event: Event) -> EventRef:
    """The line of a manifest that names this event."""
    names = ("id", "start", "end", "arrival", "origin", "words")
    return EventRef(modality=event.track.modality, source=event.track.source, **{name: getattr(event, name) for name in names})


def judge(log: Log, settings: AlignSettings = SETTINGS) -> Verdict:
    """The reference for laws 5 and 6: each record of a live session alone against its partition's running maximum."""
    verdict: Verdict = {"fit": [], "late": [], "future": []}
    for items in log.topics.values():
        clock = 0
        for item in items:
            clock = max(clock, item.arrival)
            if isinstance(item, Mark):
                continue
            live, late = item.pace is Pace.LIVE, clock - item.start > settings.horizon
            verdict["fit" if not live else "future" if item.end - clock > settings.skew else "late" if late else "fit"].append(item)
    return verdict


def reference(log: Log, settings: AlignSettings = SETTINGS) -> Manifests:
    """The reference for law 8: every window against every event that fits, the first of each identity."""
    fit = judge(log, settings)["fit"]
    starts = {
        k * settings.hop for event in fit for k in range((event.start - settings.length) // settings.hop, event.end // settings.hop + 2)
    }
    found: Manifests = {}
    for session in {event.track.session for event in fit}:
        for start in starts:
            end, lines = start + settings.length, dict[tuple[Track, str], EventRef]()
            for event in fit:
                overlaps = event.start < end and (event.end > start or event.start == event.end >= start)
                if event.track.session == session and overlaps:
                    lines.setdefault((event.track, event.id), ref(event))
            if lines:
                found[session, start] = frozenset(lines.values())
    return found


def final(written: Iterable[Window | SessionMark]) -> Manifests:
    """What a reader who keys by (id, revision), and keeps the first of each, ends with."""
    best: dict[tuple[SessionId, int], Window] = {}
    for record in written:
        if isinstance(record, Window):
            known = best.get((record.session, record.start))
            if known is None or record.revision > known.revision:
                best[record.session, record.start] = record
    return {key: frozenset(window.manifest) for key, window in best.items()}


@dataclass
class Saved:
    """A checkpoint."""

    low: dict[Modality, LowWater] = field(default_factory=lambda: {modality: LowWater(0, Micros(0)) for modality in Modality})
    oldest: int = 0


class Driver:
    """The source and the agent in small. `live`: records come to be as time goes on; else all of them stand there already."""

    def __init__(self, log: Log, settings: AlignSettings = SETTINGS, *, live: bool = True, expected: Sequence[Modality] = ()) -> None:
        self.log, self.settings, self.live = log, settings, live
        tape = tuple(sorted({item.track.modality for item in log.all if item.track.session == "tape"}))
        self.expected = {SessionId("hall"): tuple(expected), SessionId("tape"): tape}
        self.windows: list[Window | SessionMark] = []
        self.late: dict[Origin, Late] = {}
        self.rejected: dict[Origin, Rejected] = {}
        self.saved = Saved()
        self.gone: dict[Modality, int] = {}
        self.appended = 0 if live else len(log.all)
        self.now = log.all[0].arrival if live and log.all else max((item.arrival for item in log.all), default=Micros(0))
        self.resume()

    def resume(self) -> None:
        """A worker starts with nothing but the checkpoint and the log."""
        self.aligner = Aligner(self.settings, self.expected)
        self.position = {modality: self.saved.low[modality].offset for modality in Modality}
        self.clock = {modality: self.saved.low[modality].clock for modality in Modality}
        tail = list(enumerate(self.windows))[self.saved.oldest :]
        self.aligner.restore(tail, self.clock)
        for modality, first in self.gone.items():
            if self.position[modality] < first:
                self.aligner.gap(modality, self.position[modality])
                self.position[modality] = first

    def lose(self, modality: Modality, first: int) -> None:
        """Retention took that topic's records before offset `first`; whoever resumes learns of it."""
        self.gone[modality] = max(self.gone.get(modality, 0), min(first, self.available(modality)))

    def append(self, count: int) -> None:
        """Time goes on until `count` more records have come to be."""
        for item in self.log.all[self.appended : self.appended + count]:
            self.now = max(self.now, item.arrival)
        self.appended = min(self.appended + count, len(self.log.all))

    def wait(self, seconds: float) -> None:
        """Time goes on without a record; the next one may carry a timestamp up to a second behind."""
        upcoming = self.log.all[self.appended].arrival if self.appended < len(self.log.all) else self.now
        self.now = max(self.now, min(Micros(self.now + round(seconds * SECOND)), Micros(upcoming + SECOND)))

    def available(self, modality: Modality) -> int:
        """The end of that partition now."""
        if self.appended == len(self.log.all):
            return len(self.log.topics[modality])
        return sum(item.track.modality is modality for item in self.log.all[: self.appended])

    def read(self, modality: Modality, count: int) -> None:
        """Push up to `count` records of one topic."""
        end = min(self.position[modality] + count, self.available(modality))
        for item in self.log.topics[modality][self.position[modality] : end]:
            self.clock[modality] = max(self.clock[modality], item.arrival)
            for output in self.aligner.push(item, self.clock[modality]):
                if isinstance(output, Late):
                    self.late[output.origin] = output
                elif isinstance(output, Rejected):
                    self.rejected[output.item.origin] = output
        self.position[modality] = end

    def clocks(self) -> dict[Modality, Clock]:
        """How far each partition was read."""
        return {m: Clock(arrival=self.clock[m], caught_up=self.position[m] == self.available(m)) for m in Modality}

    def tick(self, writes: int | None = None) -> list[Window | SessionMark]:
        """End a batch; `writes`: only so many of the outputs reach the log (then comes a crash)."""
        outputs = [output for output in self.aligner.tick(self.clocks(), self.now) if isinstance(output, Window | SessionMark)]
        for output in outputs[:writes]:
            self.windows.append(output)
            self.aligner.written(output, len(self.windows) - 1)
        return outputs

    def checkpoint(self) -> None:
        """As it stands after a batch whose outputs are acknowledged."""
        oldest = self.aligner.oldest_out()
        low = {modality: self.aligner.low_water(modality, self.position[modality]) for modality in Modality}
        self.saved = Saved(low, len(self.windows) if oldest is None else oldest)

    def drain(self, step: int = 7) -> Iterator[list[Window | SessionMark]]:
        """Read everything in order of the topics, then let time pass until all is silent."""
        while self.appended < len(self.log.all) or any(self.position[m] < self.available(m) for m in Modality):
            self.append(step)
            for modality in Modality:
                self.read(modality, step)
            yield self.tick()
        for _ in range(3):
            self.now = Micros(self.now + self.settings.idle)
            yield self.tick()

    def run(self) -> Driver:
        """Drain; all outputs are in `windows`, `late` and `rejected`."""
        for _ in self.drain():
            self.checkpoint()
        return self


STEP: tuple[Sequence[Any], ...] = (
    ["event"] * 8 + ["again", "mark", "end", "back"],
    [FRAMES, FRAMES, AUDIO, AUDIO, TRANSCRIPTS],
    ["hall", "hall", "yard", "tape"],
    ["one", "one", "two"],
    [0, 1, 2, 3, 5, 5, 10, 40, 150],  # tenths until it arrives
    [0, 0, 1, 3, 8, 20, 60, 99, 110, -15, -40],  # tenths by which the arrival is behind the end
    range(13),  # tenths that it lasts
)
MOVE: tuple[Sequence[Any], ...] = (
    ["append", "read", "read", "tick", "save", "wait", "crash", "torn"],
    list(Modality),
    range(1, 10),
)


def rows(options: tuple[Sequence[Any], ...], count: int) -> st.SearchStrategy[list[tuple[Any, ...]]]:
    """So many picks of one out of each of `options`. One draw a pick: drawing is what such tests spend their time on."""

    def pick(code: int) -> tuple[Any, ...]:
        found = []
        for several in options:
            code, index = divmod(code, len(several))
            found.append(several[index])
        return tuple(found)

    code = st.integers(0, prod(map(len, options)) - 1)
    return st.lists(code, min_size=count, max_size=count).map(lambda codes: [pick(code) for code in codes])


@st.composite
def rules(draw: st.DrawFn) -> AlignSettings:
    """Any settings that are allowed, of the size of what `logs` draws."""

    def tenths(low: int, high: int) -> int:
        return draw(st.integers(low, high)) * TENTH

    length, idle = tenths(4, 40), tenths(5, 90)
    return SETTINGS.model_copy(
        update={
            "length": length,
            "hop": draw(st.sampled_from([length, length // 2, tenths(3, length // TENTH) if length > 3 * TENTH else length])),
            "bound_frames": tenths(0, 15),
            "bound_audio": tenths(0, 15),
            "bound_transcripts": tenths(0, 15),
            "wait_for": draw(st.sampled_from([(FRAMES, AUDIO), (FRAMES,), (AUDIO,), tuple(Modality), ()])),
            "patience": tenths(0, 60),
            "horizon": max(length, tenths(5, 150)),
            "idle": idle,
            "session_end": max(idle, tenths(50, 300)),
            "skew": tenths(0, 40),
        }
    )


@st.composite
def logs(draw: st.DrawFn, size: int = 50) -> Log:
    """Two live sessions and a recorded one: disorder, late and future records, duplicates, marks, ends, silences, clock steps."""
    log, clock = Log(), 0.0
    count = draw(st.integers(min_value=0, max_value=size))  # a list alone is mostly short
    for kind, modality, session, source, gap, delay, duration in draw(rows(STEP, count)):
        clock += gap / 10
        arrival = clock - 1 if kind == "back" else clock
        end = round(arrival - delay / 10, 1)
        pace = Pace.RECORDED if session == "tape" else Pace.LIVE
        if kind in ("mark", "end"):
            final_mark = kind == "end" and session != "tape"
            log.mark(modality, end, final=final_mark, arrival=arrival, session=session, source=source, pace=pace)
        elif kind == "again" and log.topics[modality]:
            old = log.topics[modality][len(log.topics[modality]) // 2]
            log._append(replace(old, arrival=at(arrival), origin=log._next(modality)))
        else:
            start = end if modality is FRAMES else round(end - duration / 10, 1)
            log.event(modality, start, end, arrival=arrival, session=session, source=source, pace=pace)
    for track in sorted({item.track for item in log.all if item.track.session == "tape"}, key=str):
        log.mark(track.modality, clock, final=True, arrival=clock, session="tape", source=track.source, pace=Pace.RECORDED)
    return log
