"""What align promises when the world is wrong for a while, and when another worker writes where it writes."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from streamer.agents.align import ALIGN, TOPICS, WINDOWS, Aligning
from streamer.agents.host import host
from streamer.config import AlignSettings, Config, KafkaSettings
from streamer.errors import Transient
from streamer.events import SECOND, Clock, ClosedBy, EventRef, Message, Micros, Modality, Origin, Record, SessionId, SessionMark, Window
from streamer.health import Health
from streamer.ids import event_id, partition_of, window_id
from streamer.kafka.client import Kafka, Producer, Written
from streamer.kafka.log import LogReader
from streamer.kafka.stateful import Batch
from streamer.metrics import Metrics
from streamer.runtime import Runtime
from streamer.stages.wire import read_window, write_window
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
async def aligning(settings: KafkaSettings, producer: Producer, align: AlignSettings = SETTINGS) -> AsyncIterator[tuple[Runtime, Tail]]:
    """align with this producer, ready."""
    config = Config(kafka=settings, align=align)
    runtime = Runtime(config=config, metrics=Metrics("align"), health=Health(), stop=asyncio.Event())
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(producer)
        tail = await stack.enter_async_context(Tail(settings))
        state = Aligning(config=config, producer=producer, metrics=runtime.metrics)
        places = {"topics": TOPICS, "outputs": (WINDOWS,)}
        task = asyncio.create_task(host(runtime, Kafka(settings), owner=ALIGN, **places, stateful=state, producer=producer))
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


async def stored(producer: Producer, message: Message, home: int) -> Record:
    """A message as it is read back."""
    [at] = await producer.send([message])
    return Record(
        topic=message.topic,
        partition=home,
        offset=at.offset,
        arrival=at.arrival,
        key=message.key,
        value=message.value,
        headers=message.headers,
    )


def foreign(settings: KafkaSettings, session: SessionId, base: Micros) -> tuple[EventRef, Window]:
    """A window as another worker writes it, with an event that we never saw."""
    theirs = EventRef(
        modality=Modality.FRAMES,
        source="other-cam",
        id=event_id(Micros(base + 1)),
        start=Micros(base + 1),
        end=Micros(base + 1),
        arrival=Micros(base + 2),
        origin=Origin(topic="frames", partition=partition_of(session.encode(), settings.partitions), offset=0),
    )
    window = Window(
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
    return theirs, window


def silent(tail: Tail, session: SessionId) -> bool:
    """The record that says so stands in `windows`."""
    marks = (read_window(record) for record in tail.seen if record.topic == "windows")
    return any(isinstance(mark, SessionMark) and mark.session == session for mark in marks)


def latest(tail: Tail, start: Micros) -> Window:
    """A window's last revision, for a reader who keeps the first record of each revision."""
    kept: dict[int, Window] = {}
    for window in tail.windows():
        if window.start == start:
            kept.setdefault(window.revision, window)
    return kept[max(kept)]


async def test_what_another_worker_wrote_in_between_is_taken_over_and_completed(tansu: KafkaSettings) -> None:
    """A replaced worker that does not know it yet writes a window of its own: the owner reads it, merges, writes what differs."""
    session = SESSIONS[0]
    base = Micros(now() // SECOND * SECOND - 10 * SECOND)
    theirs, window = foreign(tansu, session, base)
    async with Producer(Kafka(tansu)) as producer, aligning(tansu, Producer(Kafka(tansu))) as (_, tail):
        await producer.send([row[0] for row in a_second(session, base)])
        await tail.until(lambda: any(window.start == base for window in tail.windows()), seconds=20)
        ours = next(window for window in tail.windows() if window.start == base)
        await producer.send([write_window(replace(window, revision=ours.revision + 1))])
        for n in range(1, 4):
            await producer.send([row[0] for row in a_second(session, Micros(base + n * SECOND))])

        def whole() -> bool:
            manifest = latest(tail, base).manifest
            return theirs in manifest and set(ours.manifest) <= set(manifest)

        await tail.until(whole, seconds=20)


async def test_what_another_worker_wrote_while_we_write_nothing_is_taken_over_at_a_checkpoint(apache_kafka: KafkaSettings) -> None:
    """No offset of ours tells it: the partition's end does. On Apache Kafka alone: the embedded broker lists its ends too low."""
    session = SESSIONS[0]
    base = Micros(now() // SECOND * SECOND - 10 * SECOND)
    theirs, window = foreign(apache_kafka, session, base)
    async with Producer(Kafka(apache_kafka)) as producer, aligning(apache_kafka, Producer(Kafka(apache_kafka))) as (runtime, tail):
        await producer.send([row[0] for row in a_second(session, base)])
        await tail.until(lambda: silent(tail, session), seconds=30)  # everything is out, and there is nothing more to write
        ours = latest(tail, base)
        written = runtime.metrics.written.labels("align", "windows")
        before = written._value.get()
        await producer.send([write_window(replace(window, revision=ours.revision + 1))])
        await tail.until(
            lambda: theirs in latest(tail, base).manifest and set(ours.manifest) <= set(latest(tail, base).manifest), seconds=20
        )
        assert latest(tail, base).revision == ours.revision + 2
        await tail.until(lambda: written._value.get() - before >= 1, seconds=20)  # it counts what is acknowledged; who reads may be faster


async def test_a_gap_that_cannot_be_read_for_a_while_leaves_nothing_unacknowledged(tansu: KafkaSettings) -> None:
    """What was written is not told to the aligner until the gap before it is read: not lost, not written again."""
    session = SESSIONS[0]
    base = Micros(now() // SECOND * SECOND - 10 * SECOND)
    _, window = foreign(tansu, session, base)
    config = Config(kafka=tansu, align=SETTINGS)
    home = partition_of(session.encode(), tansu.partitions)
    async with Producer(Kafka(tansu)) as producer, LogReader(Kafka(tansu)) as reader:
        broken = True

        async def read(topic: str, offset: int) -> AsyncIterator[Record]:
            async for record in reader.read(topic, offset, partition=home):
                yield record
                if broken:
                    raise Transient("the broker is away")

        state = Aligning(config=config, producer=producer, metrics=Metrics("align"))
        await state.restore(home, {}, read)
        records = [await stored(producer, row[0], home) for n in range(4) for row in a_second(session, Micros(base + n * SECOND))]
        await producer.send([write_window(window), write_window(replace(window, revision=1))])
        clocks = {(topic, home): Clock(arrival=now(), caught_up=True) for topic in TOPICS}
        batch = Batch(records=tuple(records), clocks=clocks, now=now())
        with pytest.raises(Transient):
            await state.handle(batch)
        assert state.told
        broken = False
        await state.handle(batch)
        assert not state.told
        written = state.metrics.written.labels("align", "windows")._value.get()
        standing = [record async for record in reader.read("windows", 0, partition=home)]
        assert len(standing) == written + 2 > 3
        assert state.lanes[home].end == len(standing)
