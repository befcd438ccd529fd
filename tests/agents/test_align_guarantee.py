"""What align promises when the world is wrong for a while, and when another worker writes where it writes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from streamer.agents.align import ALIGN, TOPICS, Aligning
from streamer.agents.host import host
from streamer.config import Config, KafkaSettings
from streamer.errors import Transient
from streamer.events import SECOND, ClosedBy, EventRef, Message, Micros, Modality, Origin, Window
from streamer.health import Health
from streamer.ids import event_id, partition_of, window_id
from streamer.kafka.client import Kafka, Producer, Written
from streamer.metrics import Metrics
from streamer.runtime import Runtime
from streamer.stages.wire import write_window
from tests.agents.test_align import SESSIONS, SETTINGS, Manifests, Tail, a_second, note, now, ready


class Failing(Producer):
    """A real producer whose broker is away for the first `failures` times, the second half of a batch unwritten."""

    def __init__(self, kafka: Kafka, failures: int) -> None:
        super().__init__(kafka)
        self.failures = failures

    async def send(self, messages: Sequence[Message]) -> list[Written]:
        if self.failures and any(message.topic == "windows" for message in messages):
            self.failures -= 1
            await super().send(messages[: len(messages) // 2])
            raise Transient("the broker is away")
        return await super().send(messages)


@asynccontextmanager
async def aligning(settings: KafkaSettings, producer: Producer) -> AsyncIterator[tuple[Runtime, Tail]]:
    """align with this producer, ready."""
    config = Config(kafka=settings, align=SETTINGS)
    runtime = Runtime(config=config, metrics=Metrics("align"), health=Health(), stop=asyncio.Event())
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(producer)
        tail = await stack.enter_async_context(Tail(settings))
        state = Aligning(config=config, producer=producer, metrics=runtime.metrics)
        task = asyncio.create_task(host(runtime, Kafka(settings), owner=ALIGN, topics=TOPICS, stateful=state, producer=producer))
        try:
            await ready(runtime, task)
            yield runtime, tail
        finally:
            runtime.stop.set()
            await task


async def test_a_write_that_fails_half_way_is_mended_and_nothing_is_counted_twice(tansu: KafkaSettings) -> None:
    wanted: Manifests = defaultdict(set)
    failing = Failing(Kafka(tansu), failures=3)
    async with Producer(Kafka(tansu)) as producer, aligning(tansu, failing) as (runtime, tail):
        base, count = Micros(now() // SECOND * SECOND - 20 * SECOND), 0
        for n in range(20):
            for session in SESSIONS:
                rows = a_second(session, Micros(base + n * SECOND))
                for row in rows:
                    note(wanted, session, *row)
                await producer.send([row[0] for row in rows])
                count += len(rows)
        await tail.until(lambda: tail.manifests() == wanted, seconds=40)
        assert failing.failures == 0
        read = sum(runtime.metrics.read.labels("align", topic)._value.get() for topic in TOPICS)
        assert read == count


async def test_what_another_worker_wrote_in_between_is_taken_over_and_completed(tansu: KafkaSettings) -> None:
    """A replaced worker that does not know it yet writes a window of its own: the owner reads it, merges, writes what differs."""
    session = SESSIONS[0]
    base = Micros(now() // SECOND * SECOND - 10 * SECOND)
    theirs = EventRef(
        modality=Modality.FRAMES,
        source="other-cam",
        id=event_id(Micros(base + 1)),
        start=Micros(base + 1),
        end=Micros(base + 1),
        arrival=Micros(base + 2),
        origin=Origin(topic="frames", partition=partition_of(session.encode(), tansu.partitions), offset=0),
    )
    foreign = Window(
        id=window_id(session, base, Micros(base + 2 * SECOND)),
        session=session,
        start=base,
        end=Micros(base + 2 * SECOND),
        revision=0,
        closed_by=ClosedBy.WATERMARK,
        manifest=(theirs,),
        completeness={},
        trigger=base,
    )
    async with Producer(Kafka(tansu)) as producer, aligning(tansu, Producer(Kafka(tansu))) as (_, tail):
        await producer.send([row[0] for row in a_second(session, base)])
        await tail.until(lambda: any(window.start == base for window in tail.windows()), seconds=20)
        ours = next(window for window in tail.windows() if window.start == base)
        await producer.send([write_window(replace(foreign, revision=ours.revision + 1))])
        for n in range(1, 4):
            await producer.send([row[0] for row in a_second(session, Micros(base + n * SECOND))])

        def whole() -> bool:
            """For a reader who keeps the first record of each revision."""
            kept: dict[int, Window] = {}
            for window in tail.windows():
                if window.start == base:
                    kept.setdefault(window.revision, window)
            latest = kept[max(kept)]
            return theirs in latest.manifest and set(ours.manifest) <= set(latest.manifest)

        await tail.until(whole, seconds=20)
