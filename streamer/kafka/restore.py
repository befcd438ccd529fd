"""Where a source reads on after an assignment: what the Stateful wants, made to fit what the log still has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from aiokafka.structs import TopicPartition

from streamer.errors import ConfigError
from streamer.events import Record
from streamer.kafka import checkpoints
from streamer.kafka.client import Kafka
from streamer.kafka.log import LogReader
from streamer.kafka.stateful import Position, Stateful


class Restorer:
    """Rebuilds a Stateful, partition by partition. `moved` is told of every record that is read back."""

    def __init__(
        self, kafka: Kafka, reader: LogReader, stateful: Stateful, *, owner: str, topics: Sequence[str], moved: Callable[[], None]
    ) -> None:
        self._kafka, self._reader, self._stateful = kafka, reader, stateful
        self._owner, self._topics, self._moved = owner, topics, moved

    async def positions(self, numbers: Sequence[int], *, ours: Callable[[], bool]) -> dict[TopicPartition, Position]:
        """Restore the state of these partitions; where to read each input on. Empty once they are not `ours` any more.

        Raises Transient, and ConfigError where a checkpoint does not belong to the log that is there.
        """
        wanted: dict[TopicPartition, Position] = {}
        for number in numbers:
            if not ours():
                return {}
            read = partial(self._read, partition=number)
            saved = await checkpoints.fold(self._owner, read(checkpoints.TOPIC, 0))
            asked = await self._stateful.restore(number, saved, read)
            wanted |= {self._kafka.partition(topic, number): asked.get(topic, Position()) for topic in self._topics}
        starts = await self._reader.starts(wanted)
        return {tp: await self._fitted(tp, position, starts[tp]) for tp, position in wanted.items()}

    async def _fitted(self, tp: TopicPartition, position: Position, first: int) -> Position:
        """Not before the log's `first` record, which would be a gap, nor behind its end, which would be another log."""
        topic = self._kafka.logical(tp.topic)
        offset = first if position.offset is None else position.offset
        if offset > first and offset > (end := await self._reader.end(tp)):
            raise ConfigError(
                f"the checkpoint of {self._owner} is at {topic}/{tp.partition}@{offset}, but that log ends at {end}: "
                f"the topic was made anew; make `checkpoints` anew too, or use another prefix"
            )
        if offset < first:
            await self._stateful.gap(topic, tp.partition, offset, first)
        return Position(offset=max(offset, first), clock=position.clock)

    async def _read(self, topic: str, offset: int, *, partition: int) -> AsyncIterator[Record]:
        async for record in self._reader.read(topic, offset, partition=partition):
            self._moved()
            yield record
