"""A tiny stage behind a real source: it copies each record's place to `windows`, once. Runs in a process of its own, too.

python -m tests.kafka.recorder SETTINGS_AS_JSON
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

from streamer.config import KafkaSettings
from streamer.events import Message, Record
from streamer.kafka.checkpoints import Checkpoint, Place, decode, encode, fold
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.log import LogReader
from streamer.kafka.source import Batch, Position, ReadLog, Source
from streamer.metrics import Metrics

INPUTS = ("frames", "audio")


class Recorder:
    """What was copied stands in `windows`; a record that is read again and stands there is not copied again."""

    def __init__(self, producer: Producer) -> None:
        self.producer = producer
        self.copied: dict[int, set[bytes]] = {}
        self.clocks: dict[tuple[str, int], int] = {}
        self.batches: list[Batch] = []
        self.gaps: list[tuple[str, int, int, int]] = []
        self.restored: list[tuple[int, Mapping[str, bytes]]] = []
        self.before: Callable[[Batch], None] = lambda _: None

    async def restore(self, partition: int, saved: Mapping[str, bytes], read: ReadLog) -> Mapping[str, Position]:
        self.restored.append((partition, dict(saved)))
        self.copied[partition] = {place(record) async for record in read("windows", 0)}
        if "" not in saved:
            return {}
        return {topic: Position(offset=at.offset, clock=at.clock) for topic, at in decode(saved[""]).inputs.items()}

    async def handle(self, batch: Batch) -> None:
        self.before(batch)
        self.batches.append(batch)
        new = [record for record in batch.records if origin(record) not in self.copied[record.partition]]
        await self.producer.send([Message(topic="windows", key=b"k", value=origin(r), partition=r.partition) for r in new])
        for record in new:
            self.copied[record.partition].add(origin(record))
        self.clocks |= {where: clock.arrival for where, clock in batch.clocks.items()}

    async def checkpoint(self, partition: int, positions: Mapping[str, int]) -> bytes:
        inputs = {topic: Place(offset=at, clock=batch_clock(self.clocks, topic, partition)) for topic, at in positions.items()}
        return encode(Checkpoint(inputs=inputs))

    async def gap(self, topic: str, partition: int, wanted: int, found: int) -> None:
        self.gaps.append((topic, partition, wanted, found))

    def drop(self) -> None:
        self.copied.clear()
        self.clocks.clear()


def batch_clock(clocks: Mapping[tuple[str, int], int], topic: str, partition: int) -> int:
    return clocks.get((topic, partition), 0)


def origin(record: Record) -> bytes:
    return f"{record.topic}/{record.partition}/{record.offset}".encode()


def place(record: Record) -> bytes:
    return record.value or b""


async def copied(settings: KafkaSettings) -> list[bytes]:
    """Everything in `windows` now, in each partition's order."""
    async with LogReader(Kafka(settings)) as reader:
        return [place(record) for n in range(settings.partitions) async for record in reader.read("windows", 0, partition=n)]


async def saved(settings: KafkaSettings, owner: str, partition: int) -> bool:
    """Whether this partition has a checkpoint of this owner."""
    async with LogReader(Kafka(settings)) as reader:
        return "" in await fold(owner, reader.read("checkpoints", 0, partition=partition))


async def write(settings: KafkaSettings, count: int, *, start: int = 0) -> set[bytes]:
    """`count` records over all inputs and partitions. Returns their places."""
    messages = [
        Message(topic=INPUTS[n % 2], key=b"k", value=str(n).encode(), partition=n // 2 % settings.partitions)
        for n in range(start, start + count)
    ]
    async with Producer(Kafka(settings)) as producer:
        done = await producer.send(messages)
    return {f"{m.topic}/{m.partition}/{w.offset}".encode() for m, w in zip(messages, done, strict=True)}


class Bench:
    """A source around a recorder, in this process. Use as `async with`."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.settings, self.stack = settings, AsyncExitStack()
        self.why: list[str | None] = []
        self.metrics = Metrics("recorder")

    async def __aenter__(self) -> Bench:
        kafka = Kafka(self.settings)
        self.recorder = Recorder(await self.stack.enter_async_context(Producer(kafka)))
        self.source = Source(
            kafka,
            owner="recorder",
            topics=INPUTS,
            stateful=self.recorder,
            producer=self.recorder.producer,
            metrics=self.metrics,
            ready=self.why.append,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()


async def main(settings: KafkaSettings) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Bench(settings) as bench:
        await bench.source.run_until(stop)


if __name__ == "__main__":
    asyncio.run(main(KafkaSettings.model_validate_json(sys.argv[1])))
