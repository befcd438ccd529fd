"""A broker in memory: append-only partitions that retention may shorten, group commits, and doors that fail when they are told to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from streamer.errors import Transient
from streamer.events import Message, Micros, Record, SessionMark, Window
from streamer.ids import partition_of
from streamer.kafka.client import Written
from streamer.stages.wire import read_window

T = TypeVar("T")
Place = tuple[str, int]
"""(topic, partition)."""


class Crashed(Exception):
    """The worker is dead: what it has not written it never will."""


def by_hand(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for nobody, without an event loop."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    raise AssertionError("a coroutine waits for something that the simulator does not have")


@dataclass
class Broker:
    """`first`: where a log begins, after retention; `order`: how many records of all logs stood before. What is written arrives `now`."""

    partitions: int
    now: Micros
    logs: dict[Place, list[Record]] = field(default_factory=lambda: defaultdict(list))
    first: dict[Place, int] = field(default_factory=lambda: defaultdict(int))
    commits: dict[Place, int] = field(default_factory=lambda: defaultdict(int))
    order: dict[tuple[str, int, int], int] = field(default_factory=dict)
    _windows: dict[tuple[int, int], Window | SessionMark] = field(default_factory=dict)

    def append(self, message: Message, arrival: Micros | None = None) -> Record:
        """Write one record; it stands in its key's partition unless the message names another."""
        home = partition_of(message.key, self.partitions) if message.partition is None else message.partition
        log = self.logs[message.topic, home]
        record = Record(
            topic=message.topic,
            partition=home,
            offset=len(log),
            arrival=self.now if arrival is None else arrival,
            key=message.key,
            value=message.value,
            headers=message.headers,
        )
        log.append(record)
        self.order[record.topic, home, record.offset] = len(self.order)
        return record

    def end(self, place: Place) -> int:
        """The offset after the last record."""
        return len(self.logs[place])

    def read(self, place: Place, offset: int, count: int | None = None) -> list[Record]:
        """Records from `offset` on; what retention took is left out."""
        start = max(offset, self.first[place])
        return self.logs[place][start : None if count is None else start + count]

    def window(self, number: int, offset: int) -> Window | SessionMark:
        """One record of `windows`, decoded once."""
        if (number, offset) not in self._windows:
            self._windows[number, offset] = read_window(self.logs["windows", number][offset])
        return self._windows[number, offset]

    def everything(self, topic: str) -> list[Record]:
        """All records of a topic that were ever written, partition by partition."""
        return [record for number in range(self.partitions) for record in self.logs[topic, number]]

    def reader(self, partition: int) -> Any:
        """`ReadLog` of one partition."""

        async def read(topic: str, offset: int) -> AsyncIterator[Record]:
            for record in self.read((topic, partition), offset):
                yield record

        return read


@dataclass(frozen=True, slots=True)
class Fault:
    """After so many more writes: `crash` (the worker is gone), or `lost` (they stand in the log, but no acknowledgement comes).

    `late`: no acknowledgement comes, and what was to follow is written with the worker's next step, or when it dies.
    """

    kind: str
    after: int


class Door:
    """What one worker writes through (`Producer`). `told` hears of each record that is written."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.fault: Fault | None = None
        self.records: list[Record] = []
        self._left = 0
        self._late: list[Message] = []

    def arm(self, fault: Fault | None) -> None:
        """The next writes are struck by `fault`; None: no more."""
        self.fault, self._left = fault, fault.after if fault else 0

    async def send(self, messages: Sequence[Message]) -> list[Written]:
        """Write all in order, or fail in the middle."""
        written = []
        for at, message in enumerate(messages):
            self._strike(messages[at:])
            record = self.broker.append(message)
            self.records.append(record)
            written.append(Written(record.partition, record.offset, record.arrival))
            self._left -= 1
        if messages:
            self._strike()
        return written

    def land(self) -> None:
        """What was on its way arrives."""
        self.records += [self.broker.append(message) for message in self._late]
        self._late = []

    def _strike(self, rest: Sequence[Message] = ()) -> None:
        if self.fault is None or self._left > 0:
            return
        kind, self.fault = self.fault.kind, None
        if kind == "late":
            self._late += rest
        raise Crashed if kind == "crash" else Transient("no acknowledgement came")
