"""What retention takes from a worker that is running, on Apache Kafka: a lost position is told, never reset without a word."""

from __future__ import annotations

from functools import partial

import pytest

from streamer.config import KafkaSettings
from streamer.errors import Transient
from streamer.events import Message
from streamer.kafka.client import FETCH_BYTES, Kafka, Producer
from streamer.kafka.source import Batch
from tests.kafka.apache import delete_before
from tests.kafka.recorder import copied, saved, write
from tests.kafka.test_source import until, until_copied, working

LARGE, COUNT = 400_000, 30
AHEAD = 4 * FETCH_BYTES // LARGE
"""Records that a held source can have of them, with room to spare: those in its hand, those held beside them, and one fetch ahead."""
pytestmark = pytest.mark.kafka


async def test_a_running_source_that_retention_overtakes_reports_a_gap_and_passes_nothing_over(apache_kafka: KafkaSettings) -> None:
    """Its batch cannot be done for a while; meanwhile retention takes all but the last two of what came behind it."""
    kafka, wanted, held = Kafka(apache_kafka), await write(apache_kafka, 40), True

    def hold(batch: Batch) -> None:
        if batch.records and held:
            raise Transient("the disk is full")

    async with working(apache_kafka) as bench, Producer(kafka) as producer:
        await until_copied(apache_kafka, wanted)
        await until(partial(saved, apache_kafka, "recorder", 1))
        bench.recorder.before = hold
        for _ in range(COUNT):  # each a batch of its own: a fetch brings no more of them than it asks for
            [last] = await producer.send([Message(topic="frames", key=b"k", value=bytes(LARGE), partition=1)])

        async def holding() -> bool:
            return bench.metrics.retries.labels("recorder")._value.get() > 0

        async def at_the_end() -> bool:
            return f"frames/1/{last.offset}".encode() in await copied(apache_kafka)

        await until(holding)
        await delete_before(kafka, kafka.partition("frames", 1), last.offset - 1)
        held = False
        await until(at_the_end)
        places = [one.decode().rsplit("/", 1) for one in await copied(apache_kafka)]
        passed = set(range(last.offset + 1)) - {int(offset) for topic, offset in places if topic == "frames/1"}
        assert len(passed) > COUNT - AHEAD  # retention took what was not fetched yet
        [(topic, partition, first, found)] = bench.recorder.gaps
        assert (topic, partition, found) == ("frames", 1, last.offset - 1)
        assert passed <= set(range(first, found))
        assert len(places) == len({tuple(place) for place in places})
