"""Workers: the source in small around a real `Stateful` (align, decide), and infer's real lanes around a trivial scorer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from zlib import crc32

from streamer.errors import Transient
from streamer.events import (
    SECOND,
    ClassScore,
    Clock,
    Evidence,
    Message,
    Micros,
    Modality,
    QuoteEvidence,
    Record,
    Scores,
    SessionMark,
    Window,
)
from streamer.kafka import checkpoints
from streamer.kafka.stateful import START, Batch, Stateful
from streamer.stages.lane import Lane
from streamer.stages.shed import Shedding
from streamer.stages.wire import write_scores, write_silence
from tests.simulator.broker import Broker, Crashed, Door, Fault, Place, by_hand

CHECKPOINTS, WINDOWS, SCORES, ALERTS = "checkpoints", "windows", "scores", "alerts"
CALM = Shedding(length=SECOND, after=SECOND)  # no frame is left out: a score is a function of its manifest here


@dataclass(frozen=True, slots=True)
class Seen:
    """What a worker had read when it wrote something: for each input its next offset, its clock, and the time."""

    ends: Mapping[Place, int]
    clocks: Mapping[Place, Clock]
    now: Micros


class Host:
    """One process with a `Stateful`. `numbers`: the partitions it believes to have. `ahead`: by how much its own clock is wrong."""

    def __init__(
        self, name: str, owner: str, topics: tuple[str, ...], broker: Broker, build: Callable[[Door], Stateful], ahead: int
    ) -> None:
        self.name, self.owner, self.topics, self.broker, self.ahead = name, owner, topics, broker, ahead
        self.outputs = (WINDOWS,) if owner == "align" else (ALERTS,)
        self.build = build
        self.alive = False
        self.numbers: tuple[int, ...] = ()
        self.seen: dict[tuple[int, int], Seen] = {}
        """Partition and offset of what it wrote to `windows`, and what it had read then."""
        self._door = Door(broker)
        self.state = build(self._door)
        self._next: dict[Place, int] = {}
        self._clock: dict[Place, Micros] = {}
        self._owed: Batch | None = None

    @property
    def position(self) -> Mapping[Place, int]:
        """The next offset of each input."""
        return self._next

    def start(self, numbers: tuple[int, ...]) -> None:
        """A fresh process, or a new assignment: rebuild everything from the checkpoint and the log."""
        if not self.alive:
            self._door = Door(self.broker)
            self.state = self.build(self._door)
        self._forget()
        self.alive, self.numbers = True, numbers
        wanted = {}
        for number in numbers:
            saved = by_hand(checkpoints.fold(self.owner, self.broker.reader(number)(CHECKPOINTS, 0)))
            asked = by_hand(self.state.restore(number, saved, self.broker.reader(number)))
            wanted |= {(topic, number): asked.get(topic) for topic in self.topics}
        for place, position in wanted.items():
            offset = position.offset if position else None
            first = self.broker.first[place]
            assert (offset or 0) <= self.broker.end(place), f"the checkpoint of {self.owner} is beyond the end of {place}"
            if (offset or 0) < first:
                by_hand(self.state.gap(*place, offset or 0, first))
            self._next[place] = max(offset or 0, first)
            self._clock[place] = position.clock if position else START

    def step(self, counts: Mapping[str, int], order: int, fault: Fault | None) -> str:
        """One batch: up to so many records of each topic, and a tick. What failed without an acknowledgement goes first, alone."""
        self._door.land()
        if self._owed is None:
            if any(offset < self.broker.first[place] for place, offset in self._next.items()):
                self.start(self.numbers)  # retention overtook it: it starts over from the checkpoint, which tells of the gap
            self._owed = self._batch(counts, order)
        batch, before = self._owed, len(self._door.records)
        ends = self._next | {(record.topic, record.partition): record.offset + 1 for record in batch.records}
        self._door.arm(fault)
        try:
            by_hand(self.state.handle(batch))
        except Transient:
            return "no acknowledgement comes; it will try again"
        except Crashed:
            self.crash()
            return "it dies in the middle of it"
        finally:
            self._door.arm(None)
            seen = Seen(ends, batch.clocks, batch.now)
            self.seen |= {(one.partition, one.offset): seen for one in self._door.records[before:] if one.topic == WINDOWS}
        self._owed = None
        self._next = ends
        return ""

    def save(self, fault: Fault | None = None) -> str:
        """Write the checkpoints, unless half a batch is in the state."""
        self._door.land()
        if self._owed is not None:
            return "half a batch is in its state: nothing is saved"
        self._door.arm(fault)
        try:
            by_hand(self._save())
        except Transient:
            return "no acknowledgement comes"
        except Crashed:
            self.crash()
            return "it dies in the middle of it"
        finally:
            self._door.arm(None)
        return ""

    async def _save(self) -> None:
        found = []
        ends = {place: self.broker.end(place) for place in ((topic, number) for topic in self.outputs for number in self.numbers)}
        for number in self.numbers:
            positions = {topic: self._next[topic, number] for topic in self.topics}
            positions |= {topic: ends[topic, number] for topic in self.outputs}
            found.append(checkpoints.message(self.owner, number, await self.state.checkpoint(number, positions)))
        await self._door.send(found)

    def let_go(self, *, save: bool = True) -> None:
        """The partitions are somebody else's: save what is whole, and forget all of it."""
        self._door.land()
        if save and self._owed is None:
            self.save()
        if self.alive:
            self._forget()
            self.numbers = ()

    def crash(self) -> None:
        """kill -9."""
        self._door.land()
        self.alive, self.numbers = False, ()
        self._forget()

    def written(self) -> list[Record]:
        """What it wrote since it was asked last."""
        found, self._door.records = self._door.records, []
        return found

    def _forget(self) -> None:
        self.state.drop()
        self._next, self._clock, self._owed = {}, {}, None

    def _batch(self, counts: Mapping[str, int], order: int) -> Batch:
        found: list[list[tuple[Micros, Record]]] = []
        clocks = {}
        for place, offset in self._next.items():
            records = self.broker.read(place, offset, counts.get(place[0], 0))
            stamps = list(accumulate((record.arrival for record in records), max, initial=self._clock[place]))[1:]
            self._clock[place] = stamps[-1] if stamps else self._clock[place]
            ended = (records[-1].offset + 1 if records else offset) == self.broker.end(place)
            clocks[place] = Clock(arrival=self._clock[place], caught_up=ended)
            found.append(list(zip(stamps, records, strict=True)))
        shift = order % max(1, len(found))
        rows = [row for chunk in found[shift:] + found[:shift] for row in chunk]
        if order < 3:  # in the order of arrival, as the source hands them over
            rows.sort(key=lambda row: row[0])
        return Batch(records=tuple(record for _, record in rows), clocks=clocks, now=Micros(self.broker.now + self.ahead))


class Scorer:
    """infer in small: real lanes, features that are nothing, scores that `judged` makes of a manifest."""

    def __init__(self, name: str, broker: Broker, ours: Callable[[str, int], bool]) -> None:
        self.name, self.broker, self.ours = name, broker, ours
        self.alive = False
        self.numbers: tuple[int, ...] = ()
        self._door = Door(broker)
        self._lanes: dict[int, Lane] = {}
        self._at: dict[int, int] = {}

    def start(self, numbers: tuple[int, ...]) -> None:
        """Read `windows` from the last commit on."""
        self._door = Door(self.broker)
        self.alive, self.numbers = True, numbers
        self._at = {number: max(self.broker.commits[WINDOWS, number], self.broker.first[WINDOWS, number]) for number in numbers}
        self._lanes = {number: Lane(number, bound=1 << 16, next_offset=at) for number, at in self._at.items()}

    @property
    def position(self) -> Mapping[Place, int]:
        """The next offset of `windows`."""
        return {(WINDOWS, number): at for number, at in self._at.items()}

    def step(self, count: int, fault: Fault | None) -> str:
        """Read so many windows, score what is ready, write, commit."""
        self._door.arm(fault)
        try:
            for number, lane in self._lanes.items():
                for record in self.broker.read((WINDOWS, number), self._at[number], count):
                    lane.window(record.offset, record.arrival, self.broker.window(number, record.offset))
                    self._at[number] = record.offset + 1
                self._score(number, lane)
        except (Crashed, Transient):
            self.crash()  # infer writes the same again and again, or ends: here it ends
            return "it dies in the middle of it"
        finally:
            self._door.arm(None)
        return ""

    def _score(self, number: int, lane: Lane) -> None:
        while len(lane):
            for ref in lane.missing(CALM):
                lane.cache.put(ref.origin, 0)
            ready = lane.ready(4)
            told = [step.entry.what for step in lane.held(ready) if step.scored or isinstance(step.entry.what, SessionMark)]
            by_hand(self._door.send([_message(what) for what in told if what is not None]))
            lane.done(ready)
            if self.ours(self.name, number):  # the coordinator takes no commit of an older generation
                self.broker.commits[WINDOWS, number] = lane.next_offset

    def let_go(self, *, save: bool = True) -> None:
        """Everything that is written is committed already."""
        del save
        self._lanes, self._at, self.numbers = {}, {}, ()

    def crash(self) -> None:
        """kill -9."""
        self.alive = False
        self.let_go()

    def written(self) -> list[Record]:
        """What it wrote since it was asked last."""
        found, self._door.records = self._door.records, []
        return found


def _message(what: Window | SessionMark) -> Message:
    return write_silence(SCORES, what) if isinstance(what, SessionMark) else write_scores(judged(what))


def judged(window: Window) -> Scores:
    """A score that is a function of the manifest: loud stretches make a siren, more audio a scream, words calm both."""
    words = sum(ref.modality is Modality.TRANSCRIPTS for ref in window.manifest)
    loud = sum(ref.modality is not Modality.TRANSCRIPTS and _loud(window.session, ref.start) for ref in window.manifest)
    siren = 0.0 if words > 1 else min(0.95, 0.35 * loud)
    scream = min(0.9, 0.2 * sum(ref.modality is Modality.AUDIO for ref in window.manifest) + 0.1 * words)
    quotes = tuple(
        QuoteEvidence(text=ref.words.text, similarity=0.5, start=ref.start, end=ref.end) for ref in window.manifest if ref.words is not None
    )
    return Scores(
        window=window.id,
        revision=window.revision,
        session=window.session,
        start=window.start,
        end=window.end,
        closed_by=window.closed_by,
        classes={
            "siren": ClassScore(probability=siren, contributions={Modality.AUDIO: siren}),
            "scream": ClassScore(probability=scream, contributions={Modality.AUDIO: scream}),
        },
        evidence=Evidence(quotes=quotes[:1]),
        completeness=window.completeness,
        absent=(),
        sources=tuple(ref.origin for ref in window.manifest),
        model="sim-1",
        calibrated=False,
        trigger=window.trigger,
        pace=window.pace,
    )


def _loud(session: str, start: int) -> bool:
    return crc32(f"{session}{start // (3 * SECOND)}".encode()) % 5 < 2
