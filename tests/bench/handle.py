"""`make bench NAME=handle`: what the align role itself costs per record, by part, in one process and without a broker.

The records of `make bench NAME=align` go through `Aligning.handle` in the batches that a source gives; the producer only counts. Parts
are measured apart, over the same records: `record` (aiokafka's record as ours), `read_head`, `push`, `tick`, `write` (nouns as JSON).
`rest` is what `handle` takes beside them (metrics, acknowledgements, the list of what is written). Processor time, the least of some runs.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import pstats
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

from aiokafka.structs import ConsumerRecord

from streamer.agents.align import Aligning, Lane
from streamer.config import AlignSettings, Config, KafkaSettings
from streamer.events import SECOND, Clock, Event, Mark, Message, Micros, Modality, Record, Window
from streamer.ids import partition_of
from streamer.kafka.client import Kafka, Producer, Written
from streamer.kafka.stateful import Batch
from streamer.metrics import Metrics
from streamer.runtime import settle
from streamer.stages.align import Aligner
from streamer.stages.envelope import read_head
from streamer.stages.wire import write_window
from tests.bench.align import LOAD, PARTITIONS
from tests.bench.report import report, table
from tests.builders import T0

RUNS, AT_ONCE = 7, 500
SETTINGS = AlignSettings(patience=120 * SECOND)  # as in `align`
KAFKA = KafkaSettings(bootstrap="127.0.0.1:1", prefix="bench.", partitions=PARTITIONS)
Raw = ConsumerRecord[bytes, bytes]
Aligners = dict[int, Aligner]
Fed = tuple[tuple[Record, ...], dict[tuple[str, int], Clock]]


class Counting(Producer):
    """Acknowledges everything at once and keeps nothing."""

    def __init__(self) -> None:
        super().__init__(Kafka(KAFKA))
        self.next: dict[tuple[str, int], int] = {}
        self.bytes = 0

    async def send(self, messages: Sequence[Message]) -> list[Written]:
        """The next offset of each message's partition."""
        done = []
        for message in messages:
            where = message.topic, message.partition or 0
            offset = self.next[where] = self.next.get(where, -1) + 1
            self.bytes += len(message.value or b"")
            done.append(Written(partition=where[1], offset=offset, arrival=Micros(0)))
        return done


def raw_records() -> list[Raw]:
    """What the broker would give, in arrival order: every record arrives at its end."""
    kafka, offsets, found = Kafka(KAFKA), dict[tuple[str, int], int](), list[Raw]()
    for number in range(LOAD.seconds):
        at = Micros(T0 + number * SECOND)
        for message in LOAD.messages(at, number):
            topic, partition = kafka.physical(message.topic), partition_of(message.key, PARTITIONS)
            offset = offsets[topic, partition] = offsets.get((topic, partition), -1) + 1
            key, value, headers = message.key, message.value, cast(Any, message.headers)
            arrival = (at + SECOND) // 1_000
            found.append(ConsumerRecord(topic, partition, offset, arrival, 1, key, value, None, len(key), len(value or b""), headers))
    return found


def batches(raw: list[Raw]) -> Iterator[Fed]:
    """Records with each partition's clock after them."""
    kafka, clocks = Kafka(KAFKA), dict[tuple[str, int], Clock]()
    for start in range(0, len(raw), AT_ONCE):
        records = tuple(map(kafka.record, raw[start : start + AT_ONCE]))
        clocks = clocks | {(record.topic, record.partition): Clock(arrival=record.arrival) for record in records}
        yield records, clocks


async def nothing(topic: str, start: int) -> AsyncIterator[Record]:
    """An empty log."""
    for record in list[Record]():
        yield record


async def handle(fed: list[Fed]) -> tuple[float, Counting]:
    """Seconds of processor time for all of it."""
    producer = Counting()
    state = Aligning(config=Config(kafka=KAFKA, align=SETTINGS), producer=producer, metrics=Metrics("align"))
    for number in range(PARTITIONS):
        state.lanes[number] = Lane(aligner=Aligner(SETTINGS, {}), read=nothing, clocks={}, end=0)
    given = [Batch(records=records, clocks=clocks, now=records[-1].arrival) for records, clocks in fed]
    started = time.process_time()
    for batch in given:
        await state.handle(batch)
    return time.process_time() - started, producer


def parts(raw: list[Raw], fed: list[Fed]) -> dict[str, float]:
    """Seconds of processor time of each part alone."""
    took = dict.fromkeys(("record", "read_head", "push", "tick", "write"), 0.0)

    def timed(name: str, work: Callable[[], Any]) -> Any:
        started = time.process_time()
        done = work()
        took[name] += time.process_time() - started
        return done

    kafka, offset = Kafka(KAFKA), 0
    aligners = {number: Aligner(SETTINGS, {}) for number in range(PARTITIONS)}
    timed("record", lambda: [kafka.record(one) for one in raw])
    for records, clocks in fed:
        items = timed("read_head", partial(read_heads, records))
        timed("push", partial(push, aligners, items))
        outputs = timed("tick", partial(tick, aligners, clocks, records[-1].arrival))
        timed("write", partial(write, outputs))
        for number, output in outputs:
            offset += 1
            aligners[number].written(output, offset)
    return took


def read_heads(records: Sequence[Record]) -> list[Event | Mark]:
    """Part `read_head`."""
    return [read_head(record, PARTITIONS) for record in records]


def push(aligners: Aligners, items: list[Event | Mark]) -> None:
    """Part `push`."""
    for item in items:
        aligners[item.origin.partition].push(item, item.arrival)


def tick(aligners: Aligners, clocks: dict[tuple[str, int], Clock], now: Micros) -> list[tuple[int, Window]]:
    """Part `tick`. In this load nobody falls silent."""
    by_partition: dict[int, dict[Modality, Clock]] = {number: {} for number in aligners}
    for (topic, number), clock in clocks.items():
        by_partition[number][Modality(topic)] = clock
    found = ((number, one) for number, aligner in aligners.items() for one in aligner.tick(by_partition[number], now))
    return [(number, one) for number, one in found if isinstance(one, Window)]


def write(outputs: list[tuple[int, Window]]) -> list[Message]:
    """Part `write`."""
    return [write_window(window) for _, window in outputs]


def main() -> None:
    """Measure, report; with `--profile` show where the interpreter spends its time instead."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--profile", action="store_true")
    raw = raw_records()
    fed = list(batches(raw))
    settle()
    if options.parse_args().profile:
        with cProfile.Profile() as profile:
            asyncio.run(handle(fed))
        pstats.Stats(profile).sort_stats("tottime").print_stats(35)
        return
    whole, each = list[float](), list[dict[str, float]]()
    for _ in range(RUNS):
        gc.collect()
        took, producer = asyncio.run(handle(fed))
        whole.append(took)
        each.append(parts(raw, fed))
    count, least = len(raw), {name: min(run[name] for run in each) for name in each[0]}
    inside = sum(least.values()) - least["record"]
    cost = {name: round(took / count * 1e6, 2) for name, took in (least | {"rest": min(whole) - inside, "handle": min(whole)}).items()}
    print(table([{"part": name, "us/record": value} for name, value in cost.items()]))
    windows = sum(producer.next.values()) + len(producer.next)
    shape = {"records": count, "windows": windows, "window bytes": producer.bytes // windows, "batch": AT_ONCE}
    report("handle", cost["handle"], "us/record", None, None, parts=cost, load=shape)


if __name__ == "__main__":
    main()
