"""The topics of one partition number as one sequence, in the order in which their records arrived.

Fetches bring hours of small records beside minutes of large ones. What is ahead waits here until the others are as far.

Laws:
1. Every record that is put in is taken once, in its partition's order. It counts as arrived no earlier than those before it,
   so that order stays where timestamps step back.
2. No record is taken before one of another topic of its number that arrived earlier and can be read: what is taken reaches
   no further than any topic is known. A topic read to its end holds nobody back.
3. A topic that brings nothing for `PATIENCE` while others wait for it (its broker is away) holds nobody back until it does.
4. Where something is held of a partition it is not to be fetched (`full`): no more is held than one fetch of each.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from aiokafka.structs import TopicPartition

from streamer.kafka.readable import Raw

AT_ONCE = 1_000
"""Records that are handed over together: a whole fetch of small ones would keep the event loop for longer than a heartbeat may wait."""

PATIENCE = 5.0
"""Seconds that the topics of a number wait for one that brings nothing: else a dead partition leader would stop the others for good."""

LONGEST_LOOK = 1.0
"""Seconds that count at most as waited between two looks: while a batch is worked on, nobody could bring anything."""


@dataclass(slots=True)
class Queue:
    """What is held of one partition. `stamps`: when each record counts as arrived (ms), never falling; `top`: the last that came in."""

    tp: TopicPartition
    top: int
    stamps: list[int] = field(default_factory=list)
    records: list[Raw] = field(default_factory=list)
    waited: float = 0.0

    def put(self, records: Sequence[Raw]) -> None:
        """What a fetch brought: one record or more."""
        stamps = list(accumulate([max(self.top, records[0].timestamp), *[record.timestamp for record in records[1:]]], max))
        self.stamps += stamps
        self.records += records
        self.top, self.waited = stamps[-1], 0.0

    def take(self, limit: int | None) -> tuple[list[int], list[Raw]]:
        """What arrived up to `limit` (None: all), with its stamps."""
        count = len(self.stamps) if limit is None else bisect_right(self.stamps, limit)
        if count == len(self.stamps):
            taken = self.stamps, self.records
            self.stamps, self.records = [], []
            return taken
        taken = self.stamps[:count], self.records[:count]
        del self.stamps[:count], self.records[:count]
        return taken


class Merge:
    """Fetched records on their way to be handed over. Pure: time and what is read to its end come in. See the laws above."""

    def __init__(self, clocks: Mapping[TopicPartition, int]) -> None:
        """`clocks`: the partitions, and how far each is known to have arrived before its first record here (ms)."""
        self._queues = {tp: Queue(tp, clock) for tp, clock in clocks.items()}
        self._groups: dict[int, list[Queue]] = {}
        for tp, queue in self._queues.items():
            self._groups.setdefault(tp.partition, []).append(queue)
        self._holding: set[int] = set()  # partition numbers of which something is held

    def put(self, fetched: Mapping[TopicPartition, Sequence[Raw]]) -> None:
        """What a fetch brought. Partitions that are not ours are passed over."""
        for tp, records in fetched.items():
            if tp in self._queues and records:
                self._queues[tp].put(records)
                self._holding.add(tp.partition)

    def undecided(self) -> list[TopicPartition]:
        """The partitions of which `take` must know whether they are read to their end: something is held beside them."""
        groups = (self._groups[number] for number in self._holding)
        return [queue.tp for group in groups if len(group) > 1 for queue in group]

    def take(self, ended: Collection[TopicPartition] = (), elapsed: float = 0.0) -> list[Raw]:
        """All that may be handed over, by arrival. `ended`: read to their end; `elapsed`: seconds since the last look."""
        looked = min(elapsed, LONGEST_LOOK)
        chunks = [chunk for number in self._holding for chunk in _take(self._groups[number], ended, looked) if chunk[0]]
        self._holding = {number for number in self._holding if any(queue.records for queue in self._groups[number])}
        return _sorted(chunks)

    def full(self) -> set[TopicPartition]:
        """The partitions of which something is held."""
        return {queue.tp for number in self._holding for queue in self._groups[number] if queue.records}


def _take(group: list[Queue], ended: Collection[TopicPartition], looked: float) -> list[tuple[list[int], list[Raw]]]:
    """What one partition number may hand over now; whoever brings nothing while others wait is timed."""
    if len(group) == 1:
        return [group[0].take(None)]
    for queue in group:
        if queue.tp in ended:
            queue.waited = 0.0
    behind = [queue for queue in group if queue.tp not in ended and queue.waited < PATIENCE]
    limit = min((queue.top for queue in behind), default=None)
    taken = [queue.take(limit) for queue in group if queue.records]
    if any(queue.records for queue in group):
        for queue in behind:
            queue.waited += 0.0 if queue.records else looked
    return taken


def _sorted(chunks: list[tuple[list[int], list[Raw]]]) -> list[Raw]:
    """By arrival; of each chunk, in its order."""
    if len(chunks) == 1:
        return chunks[0][1]
    stamps = [stamp for chunk, _ in chunks for stamp in chunk]
    records = [record for _, chunk in chunks for record in chunk]
    return [records[at] for at in sorted(range(len(records)), key=stamps.__getitem__)]


def slices(raw: list[Raw], size: int = AT_ONCE) -> Iterator[tuple[list[Raw], frozenset[TopicPartition]]]:
    """`raw` in parts of at most `size`, each with the partitions of which more follows. An empty list is one empty part."""
    if len(raw) <= size:
        yield raw, frozenset()
        return
    last = {(record.topic, record.partition): at for at, record in enumerate(raw)}
    for start in range(0, len(raw), size):
        end = start + size
        yield raw[start:end], frozenset(TopicPartition(*tp) for tp, at in last.items() if at >= end)
