"""`streamer align inspect`: the state of the aligner of a deployment, rebuilt from the log without touching it.

Laws:
1. The log is the state: each partition's checkpoint, then `windows`, then the inputs from the low-water to their present
   ends, by the code that the role runs. So what is shown is what a worker that took over now would hold.
2. Nothing is joined, committed or written: what the aligner would write is only counted (`owed`).
3. Bounded: at most `most` input records a partition are read, then the state is that of the last of them, and it says so.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from aiokafka.errors import KafkaError

from streamer.agents.align import ALIGN, TOPICS, WINDOWS, Aligning
from streamer.config import Config
from streamer.errors import BadRecord, ConfigError
from streamer.events import Clock, Event, Message, Micros, Pace, Record, SessionId, Track, Window
from streamer.ids import ID, partition_of
from streamer.kafka import checkpoints
from streamer.kafka.client import Kafka, Producer, Written
from streamer.kafka.log import LogReader
from streamer.kafka.restore import Restorer
from streamer.kafka.stateful import Batch, Position
from streamer.kafka.topics import check_topics
from streamer.metrics import Metrics
from streamer.stages.align.shown import SessionShown, show
from streamer.stages.clocks import Estimate
from streamer.stages.wire import read_window

AT_ONCE = 256
MOST = 100_000
HISTORY = 10_000
Told = Callable[[int], None]
"""Called with how many records were read since the last call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputShown:
    """One input of one partition. `low`: the checkpoint's low-water; `position`: the group's commit, None where there is none.

    `clock`: the arrival clock at the end of what was read; `lag`: records from the commit to the end.
    """

    topic: str
    low: int
    position: int | None
    end: int
    clock: Micros

    @property
    def lag(self) -> int | None:
        """Records that the role has not read yet, as far as it told."""
        return None if self.position is None else max(0, self.end - self.position)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionShown:
    """One partition number. `saved`: when its checkpoint was written, None without one. `owed`: by topic, what a worker would write now.

    `cut`: its inputs were not read to their ends.
    """

    number: int
    saved: Micros | None
    inputs: tuple[InputShown, ...]
    cut: bool
    owed: dict[str, int]
    sessions: tuple[SessionShown, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found. `now`: as of when silence was judged; `clocks`: an estimate for each track that has one."""

    now: Micros
    partitions: tuple[PartitionShown, ...]
    clocks: dict[Track, Estimate]


class Silent(Producer):
    """Writes nothing. Says of each message that it stands where the next one would, so the aligner goes on as if it did."""

    def __init__(self, kafka: Kafka) -> None:
        super().__init__(kafka)
        self.state: Aligning | None = None
        self.owed: Counter[tuple[int, str]] = Counter()

    async def send(self, messages: Sequence[Message]) -> list[Written]:
        """Count them."""
        lanes = self.state.lanes if self.state else {}
        ends = {number: lane.end for number, lane in lanes.items()}
        written = []
        for message in messages:
            home = message.partition
            number = partition_of(message.key, self._kafka.settings.partitions) if home is None else home
            offset = ends.get(number, 0) if message.topic == WINDOWS else 0
            ends[number] = ends.get(number, 0) + (message.topic == WINDOWS)
            self.owed[number, message.topic] += 1
            written.append(Written(partition=number, offset=offset, arrival=Micros(0)))
        return written


class Watching(LogReader):
    """A LogReader that notes when each partition's checkpoint was written."""

    def __init__(self, kafka: Kafka) -> None:
        super().__init__(kafka)
        self.saved: dict[int, Micros] = {}

    async def read(self, topic: str, offset: int, *, partition: int) -> AsyncIterator[Record]:
        """As LogReader does."""
        async for record in super().read(topic, offset, partition=partition):
            if topic == checkpoints.TOPIC and record.key == f"{ALIGN}/".encode():
                self.saved[partition] = record.arrival
            yield record


@dataclass(slots=True)
class Inspector:
    """Rebuilds the partitions one by one. `most`, `history`: records of a partition's inputs, and of `windows` for the clocks."""

    config: Config
    kafka: Kafka
    session: SessionId | None = None
    most: int = MOST
    history: int = HISTORY
    now: Micros | None = None
    told: Told = lambda _: None
    silent: Silent = field(init=False)
    state: Aligning = field(init=False)

    def __post_init__(self) -> None:
        self.silent = Silent(self.kafka)
        self.silent.state = self.state = Aligning(config=self.config, producer=self.silent, metrics=Metrics(ALIGN))

    async def run(self) -> Report:
        """Read, and say what is there. Raises Transient and ConfigError."""
        if self.session is not None and not ID.match(self.session):
            raise ConfigError("--session: is not an id of a session")
        await check_topics(self.kafka)
        partitions = self.kafka.settings.partitions
        numbers = range(partitions) if self.session is None else [partition_of(self.session.encode(), partitions)]
        committed = await self._committed(numbers)
        found = []
        async with AsyncExitStack() as stack:
            reader = Watching(self.kafka)
            await stack.enter_async_context(reader)
            inputs = [await stack.enter_async_context(LogReader(self.kafka)) for _ in TOPICS]
            for number in numbers:
                found.append(await self._partition(number, reader, inputs, committed))
        now = self.now or Micros(time.time_ns() // 1_000)
        return Report(now=now, partitions=tuple(found), clocks=dict(self.state.clocks.clocks.estimates()))

    async def _partition(
        self, number: int, reader: Watching, inputs: list[LogReader], committed: dict[tuple[str, int], int]
    ) -> PartitionShown:
        await self._look_back(number, reader)
        restorer = Restorer(self.kafka, reader, self.state, owner=ALIGN, topics=TOPICS, moved=lambda: self.told(1))
        positions = await restorer.positions([number], ours=lambda: True)
        places = {topic: positions[self.kafka.partition(topic, number)] for topic in TOPICS}
        ends = {topic: await reader.end(self.kafka.partition(topic, number)) for topic in TOPICS}
        clocks = {topic: place.clock for topic, place in places.items()}
        cut = await self._replay(number, places, inputs, clocks)
        await self._tick(number, clocks, caught_up=not cut)
        shown = show(self.state.lanes[number].aligner)
        return PartitionShown(
            number=number,
            saved=reader.saved.get(number),
            inputs=tuple(
                InputShown(
                    topic=topic,
                    low=places[topic].offset or 0,
                    position=committed.get((topic, number)),
                    end=ends[topic],
                    clock=clocks[topic],
                )
                for topic in TOPICS
            ),
            cut=cut,
            owed={topic: count for (home, topic), count in sorted(self.silent.owed.items()) if home == number},
            sessions=tuple(one for one in shown if self.session in (None, one.session)),
        )

    async def _look_back(self, number: int, reader: LogReader) -> None:
        """What windows that are out tell of the clocks: more than lies between low-water and end."""
        end = await reader.end(self.kafka.partition(WINDOWS, number))
        async for record in reader.read(WINDOWS, max(0, end - self.history), partition=number):
            self.told(1)
            for event in _events(record):
                self.state.clocks.see(event)

    async def _replay(self, number: int, places: dict[str, Position], inputs: list[LogReader], clocks: dict[str, Micros]) -> bool:
        """Align from the low-water to the end. Returns whether `most` cut it short."""
        batch: list[Record] = []
        left, cut = self.most, False
        logs = [reader.read(topic, places[topic].offset or 0, partition=number) for reader, topic in zip(inputs, TOPICS, strict=True)]
        async for record in in_order(logs):
            if cut := not left:
                break
            left -= 1
            batch.append(record)
            clocks[record.topic] = max(clocks[record.topic], record.arrival)
            if len(batch) == AT_ONCE:
                await self._hand_over(number, batch, clocks)
                batch = []
        await self._hand_over(number, batch, clocks)
        return cut

    async def _hand_over(self, number: int, records: list[Record], clocks: dict[str, Micros]) -> None:
        self.told(len(records))
        as_of = {(topic, number): Clock(arrival=clock) for topic, clock in clocks.items()}
        await self.state.handle(Batch(records=tuple(records), clocks=as_of, now=Micros(0)))

    async def _tick(self, number: int, clocks: dict[str, Micros], *, caught_up: bool) -> None:
        now = self.now or Micros(time.time_ns() // 1_000)
        as_of = {(topic, number): Clock(arrival=clock, caught_up=caught_up) for topic, clock in clocks.items()}
        await self.state.handle(Batch(records=(), clocks=as_of, now=now))

    async def _committed(self, numbers: Iterable[int]) -> dict[tuple[str, int], int]:
        """The group's commits. A consumer that neither subscribes nor assigns anything asks, and is no member."""
        consumer = self.kafka.consumer(group=ALIGN)
        try:
            await consumer.start()
            places = [(topic, number) for topic in TOPICS for number in numbers]
            found = {place: await consumer.committed(self.kafka.partition(*place)) for place in places}
        except KafkaError:
            return {}  # it is for showing the lag only
        finally:
            await consumer.stop()
        return {place: offset for place, offset in found.items() if offset is not None}


async def in_order(logs: Sequence[AsyncIterator[Record]]) -> AsyncIterator[Record]:
    """Several logs as one, by arrival; each keeps its own order."""
    heads: dict[int, Record] = {}
    for number, log in enumerate(logs):
        await _advance(heads, number, log)
    while heads:
        number = min(heads, key=lambda one: (heads[one].arrival, one))
        yield heads[number]
        await _advance(heads, number, logs[number])


async def _advance(heads: dict[int, Record], number: int, log: AsyncIterator[Record]) -> None:
    heads.pop(number, None)
    async for record in log:
        heads[number] = record
        return


def _events(record: Record) -> list[Event]:
    """What a window quotes of arrival and event time."""
    try:
        window = read_window(record)
    except BadRecord:
        return []
    if not isinstance(window, Window) or window.pace is not Pace.LIVE:
        return []
    return [
        Event(
            track=Track(session=window.session, modality=ref.modality, source=ref.source),
            id=ref.id,
            start=ref.start,
            end=ref.end,
            arrival=ref.arrival,
            origin=ref.origin,
        )
        for ref in window.manifest
    ]
