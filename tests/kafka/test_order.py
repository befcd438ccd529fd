"""The topics of a partition number in arrival order, on both brokers: over many fetches of a backlog, and with no delay when live."""

from __future__ import annotations

import itertools

from streamer.config import KafkaSettings
from streamer.events import Message
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.merge import Merge
from streamer.kafka.stateful import Batch
from tests.kafka.recorder import Bench
from tests.kafka.test_source import until, working

FRAME = bytes(60_000)
EACH = 120  # frames in one partition: more than one fetch (the embedded broker gives 5 MB at a time), where the small records need one


def held(bench: Bench) -> int:
    """Records that the source holds back."""
    merge: Merge = bench.source._intake._merge
    return sum(len(queue.records) for queue in merge._queues.values())


def read(bench: Bench) -> int:
    return sum(len(batch.records) for batch in bench.recorder.batches)


async def write_in_turn(settings: KafkaSettings, count: int) -> None:
    """A frame and a small record, each acknowledged before the next is written, so that arrivals rise over both topics."""
    async with Producer(Kafka(settings)) as producer:
        for _ in range(count):
            await producer.send([Message(topic="frames", key=b"k", value=FRAME, partition=1)])
            await producer.send([Message(topic="audio", key=b"k", value=b"small", partition=1)])


async def test_a_backlog_is_handed_over_in_arrival_order_over_all_fetches(broker: KafkaSettings) -> None:
    await write_in_turn(broker, EACH)
    async with working(broker) as bench:
        waiting: list[int] = []
        bench.recorder.before = lambda _: waiting.append(held(bench))

        async def all_read() -> bool:
            return read(bench) == 2 * EACH

        await until(all_read)
    records = [record for batch in bench.recorder.batches for record in batch.records]
    assert [record.arrival for record in records] == sorted(record.arrival for record in records)
    ahead = [record.offset for record in records if record.topic == "audio"]
    assert ahead == list(range(EACH))
    assert max(waiting) > 10  # the small records came with one fetch, and waited for the frames
    batches = [batch for batch in bench.recorder.batches if sum(1 for record in batch.records if record.topic == "frames") < EACH]
    done = list(itertools.accumulate(sum(record.topic == "audio" for record in batch.records) for batch in batches))
    for batch, count in zip(batches, done, strict=True):
        assert count == EACH or not batch.clocks["audio", 1].caught_up  # what is held back is still to come: nobody falls silent


async def test_the_lag_counts_what_is_held_back(tansu: KafkaSettings) -> None:
    await write_in_turn(tansu, EACH)
    found: list[tuple[int, int, int]] = []
    async with working(tansu) as bench:

        async def handle(batch: Batch) -> None:
            done = sum(record.topic == "audio" for earlier in bench.recorder.batches for record in earlier.records)
            found.append((held(bench), await bench.source._intake.lag("audio"), EACH - done))
            await bench.recorder.handle(batch)

        bench.source._deliver = handle

        async def all_read() -> bool:
            return read(bench) == 2 * EACH

        async def none_left() -> bool:
            return await bench.source._intake.lag("audio") == 0

        await until(all_read)
        await until(none_left)  # what is in hand counts until it is dealt with
    waiting = [(counted, undone) for held_back, counted, undone in found if held_back]
    assert waiting
    assert all(counted == undone for counted, undone in waiting)


async def test_a_live_record_waits_for_no_other_topic(broker: KafkaSettings) -> None:
    """Once all is read to its end, each record is handed over in the step whose fetch brings it: nothing is ever held."""
    await write_in_turn(broker, 1)
    async with working(broker) as bench, Producer(Kafka(broker)) as producer:

        async def caught_up() -> bool:
            batches = bench.recorder.batches
            return read(bench) == 2 and all(clock.caught_up for clock in batches[-1].clocks.values())

        await until(caught_up)
        found: list[int] = []
        bench.recorder.before = lambda _: found.append(held(bench))
        for number in range(10):
            await producer.send([Message(topic="frames", key=b"k", value=b"live", partition=1)])

            async def come(wanted: int = 3 + number) -> bool:
                return read(bench) == wanted

            await until(come)
        assert len(found) >= 10
        assert not any(found)
