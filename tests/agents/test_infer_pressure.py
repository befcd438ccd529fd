"""infer where something is too much, too slow or breaks off: what is held up, what goes first, and that nothing is lost."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import CorruptRecordException
from aiokafka.structs import ConsumerRecord, TopicPartition

from streamer.agents import infer as agent
from streamer.config import Config, InferSettings, KafkaSettings
from streamer.errors import Transient
from streamer.events import Modality, Scores, SessionId, Silence
from streamer.health import Health
from streamer.kafka.client import Kafka, Producer
from streamer.metrics import Metrics
from streamer.runtime import Runtime
from streamer.stages.envelope import write_mark
from streamer.stages.lane import MOST_WAITING
from streamer.stages.media import encode_jpeg
from streamer.stages.stall import Stall, Stalls
from streamer.stages.wire import write_silence, write_window
from tests.agents.infer_room import TINY, CountingEngine, Scene, committed, running
from tests.builders import a_silence, a_track, a_window, at
from tests.integration.pipeline import until

SMALL = InferSettings(profile="tiny", cache_mb=16)  # 4 MB for each of the lanes


def noise(number: int) -> bytes:
    """A JPEG of about 130 KB whose first pixel is near to its number."""
    image = np.random.default_rng(number).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    image[:16, :16] = number
    return encode_jpeg(image, 95)


async def test_a_full_cache_holds_up_reading_ahead_until_there_is_room(broker: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, given = AIOKafkaConsumer.getmany, Counter[str]()

    async def getmany(self: AIOKafkaConsumer, *tps: TopicPartition, **more: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        batches: dict[TopicPartition, list[ConsumerRecord]] = await whole(self, *tps, **more)
        given.update({tp.topic.rpartition(".")[2]: len(batch) for tp, batch in batches.items()})
        return batches

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", getmany)
    engine = CountingEngine()
    async with Producer(Kafka(broker)) as producer, running(broker, settings=SMALL, engine=engine) as infer:
        scene = Scene(producer)
        engine.gate.clear()
        for number in range(60):  # twice what the lane has room for
            await scene.frame(number / 20, noise(number))
        await infer.until(lambda: infer.read("frames") >= 20, "many frames read")
        await producer.send([write_silence("windows", a_silence(9, Silence.IDLE))])
        await infer.scored(1)
        assert infer.read("frames") < 40
        before = given["frames"]
        for count in (2, 3, 4):
            await producer.send([write_silence("windows", a_silence(9, Silence.IDLE))])
            await infer.scored(count)
        assert given["frames"] == before  # paused, it is not given and sought back over and over
        engine.gate.set()
        await infer.until(lambda: infer.encoded(Modality.FRAMES) == 60, "all frames encoded")
        assert infer.read("frames") == 60
        await scene.window(1)
        score = (await infer.scored(5))[-1]
        assert isinstance(score, Scores)
        assert len(score.sources) == 40
        assert infer.refetched(Modality.FRAMES) == 0


async def test_no_more_than_a_thousand_windows_wait_and_all_are_scored(tansu: KafkaSettings) -> None:
    engine = CountingEngine()
    async with Producer(Kafka(tansu)) as producer, running(tansu, engine=engine) as infer:
        scene = Scene(producer)
        engine.gate.clear()
        await scene.frame(0)
        await scene.window(0)
        more = MOST_WAITING + 700
        await producer.send([write_window(a_window(second, manifest=())) for second in range(2, 2 + more)])
        newer = await scene.frame(10)  # no window that was read can name it
        await infer.until(lambda: infer.read("windows") >= MOST_WAITING, "a thousand windows read")
        await producer.send([write_mark(a_track(Modality.AUDIO, session=SessionId("another-lane")), at(0))])
        await infer.until(lambda: infer.read("audio") == 1, "what was written after them")
        assert infer.read("windows") == MOST_WAITING
        assert newer.origin.offset == 1
        assert infer.read("frames") == 1
        engine.gate.set()
        await infer.scored(1 + more)
        await infer.until(lambda: infer.read("frames") == 2, "the newer frame")
        assert infer.read("windows") == 1 + more


async def test_what_the_next_window_waits_for_goes_before_what_was_read_ahead(tansu: KafkaSettings) -> None:
    engine = CountingEngine()
    async with Producer(Kafka(tansu)) as producer:
        scene = Scene(producer)
        await scene.frame(0, noise(200))
        await scene.window(0)
        async with running(tansu) as infer:
            await infer.scored(1)
        async with running(tansu, engine=engine) as infer:
            engine.gate.clear()
            engine.seen.clear()
            for number in range(100):
                await scene.frame(10 + number / 20, noise(number))
            await infer.until(lambda: infer.read("frames") == 100, "frames read ahead")
            await scene.window(0, revision=1)
            await infer.until(lambda: infer.refetched(Modality.FRAMES) == 1, "the old frame fetched")
            engine.gate.set()
            await infer.until(lambda: infer.written == 1, "its score")
            assert [abs(one - 200) < 9 for one in engine.seen].index(True) < 50


async def test_a_failed_read_of_one_partition_loses_nothing_of_another(broker: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka has moved on in what it gives up when one partition's records turn out to be corrupt."""
    whole, lost = AIOKafkaConsumer.getmany, list[str]()

    async def getmany(self: AIOKafkaConsumer, *tps: TopicPartition, **more: int) -> dict[TopicPartition, list[ConsumerRecord]]:
        batches: dict[TopicPartition, list[ConsumerRecord]] = await whole(self, *tps, **more)
        topics = [tp.topic.rpartition(".")[2] for tp in batches]
        if self._group_id and any(topics.count(topic) > lost.count(topic) for topic in ("windows", "audio")):
            lost.extend(topics)
            raise CorruptRecordException
        return batches

    monkeypatch.setattr(AIOKafkaConsumer, "getmany", getmany)
    async with Producer(Kafka(broker)) as producer, running(broker) as infer:
        scene = Scene(producer)
        await scene.seconds(0, 4)
        for start in range(3):
            await scene.window(start)
        await infer.scored(3)
        assert {"windows", "audio"} <= set(lost)
        assert infer.read("audio") == 4
        assert infer.read("windows") == 3


async def test_a_stop_does_not_wait_for_the_backlog(tansu: KafkaSettings) -> None:
    async with Producer(Kafka(tansu)) as producer:
        await producer.send([write_window(a_window(second, manifest=())) for second in range(960)])
    async with running(tansu, engine=CountingEngine(pause=0.3)) as infer:
        await infer.until(lambda: infer.written > 0, "a first score")
    assert infer.written < 640
    assert await committed(infer.kafka) == infer.written


async def test_reading_a_backlog_leaves_others_their_turn(tansu: KafkaSettings) -> None:
    """Measured in this thread's own time, so that a busy machine does not matter."""
    async with Producer(Kafka(tansu)) as producer:
        marks = [write_mark(a_track(Modality.TRANSCRIPTS), at(number)) for number in range(20_000)]
        await producer.send(marks)
    engine, longest = CountingEngine(), 0.0

    async def look() -> None:
        nonlocal longest
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - began)

    gc.disable()  # what a collection takes depends on all that the tests before have loaded; `settle` has its own test
    try:
        async with running(tansu, engine=engine) as infer:
            looking = asyncio.create_task(look())
            await infer.until(lambda: infer.read("transcripts") == 20_000, "all marks")
            looking.cancel()
    finally:
        gc.enable()
    assert 0 < longest < 0.25


class Ahead(Stalls):
    """Its clock is put ahead, so that two minutes pass at once."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead, self.waiting = 0.0, set[str]()

    def look(self, waiting: Mapping[str, int], now: float) -> Stall | None:
        self.waiting = set(waiting)
        return super().look(waiting, now + self.ahead)


async def test_what_stands_still_makes_infer_unready_and_then_ends_it(tansu: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    stalls, engine = Ahead(), CountingEngine()
    monkeypatch.setattr(agent, "Stalls", lambda: stalls)
    runtime = Runtime(config=Config(kafka=tansu, infer=TINY), metrics=Metrics("infer"), health=Health(), stop=asyncio.Event())
    task = asyncio.create_task(agent.serve(runtime, lambda: engine))

    async def ready() -> bool:
        return runtime.health.why is None

    async def looked_at() -> bool:
        return "windows/3 to be scored" in stalls.waiting

    async def stalled() -> bool:
        return "windows/3 to be scored: stands at 0" in (runtime.health.why or "")

    async with Producer(Kafka(tansu)) as producer:
        await until(ready, "infer ready", seconds=30)
        engine.gate.clear()
        scene = Scene(producer)
        await scene.frame(0)
        await scene.window(0)
        try:
            await until(looked_at, "a look at the window", seconds=30)
            stalls.ahead = agent.STALLED / 2 + 1
            await until(stalled, "unready", seconds=30)
            assert not task.done()
            stalls.ahead = agent.STALLED + 1
            with pytest.raises(Transient, match="windows/3 to be scored"):
                await asyncio.wait_for(task, 30)
        finally:
            engine.gate.set()


async def test_what_moves_again_makes_infer_ready_again(tansu: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    stalls, engine = Ahead(), CountingEngine()
    monkeypatch.setattr(agent, "Stalls", lambda: stalls)
    async with Producer(Kafka(tansu)) as producer, running(tansu, engine=engine) as infer:
        engine.gate.clear()
        scene = Scene(producer)
        await scene.frame(0)
        await scene.window(0)
        await infer.until(lambda: "windows/3 to be scored" in stalls.waiting, "a look at the window")
        stalls.ahead = agent.STALLED / 2 + 1
        await infer.until(lambda: infer.runtime.health.why is not None, "unready")
        engine.gate.set()
        await infer.scored(1)
        await infer.until(lambda: infer.runtime.health.why is None, "ready again")


async def test_a_slow_engine_and_a_long_backlog_hold_no_more_than_their_bounds(
    tansu: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of frames and windows wait, and a camera died in the middle of them."""
    workers, most = list[agent.Worker](), Counter[str]()
    whole = agent.Worker.run

    async def run(self: agent.Worker) -> None:
        workers.append(self)
        await whole(self)

    def look() -> None:
        encoder, lanes = workers[0]._encoder, workers[0]._intake.lanes.values()
        held = {
            "pictures": encoder.slots.taken,
            "windows": max(map(len, lanes), default=0),
            "bytes": max((lane.cache.used - lane.cache.bound for lane in lanes), default=-1),
            "reserved": max((lane.cache.reserved for lane in lanes), default=0),
        }
        most.update({name: value - most[name] for name, value in held.items() if value > most[name] or name not in most})

    monkeypatch.setattr(agent.Worker, "run", run)
    image = noise(1)[:60_000]  # no picture to the end: it costs its bytes, and a dead letter
    async with Producer(Kafka(tansu)) as producer:
        scene = Scene(producer)
        for number in range(200):  # 12 MB before the camera dies: three times what a lane holds
            await scene.frame(number / 10, image)
        for start in range(19):
            await scene.window(start)
        await producer.send([write_window(a_window(second, manifest=())) for second in range(30, 30 + 2 * MOST_WAITING)])
        engine = CountingEngine(pause=0.01, per_frame=0.002)
        async with running(tansu, settings=SMALL, engine=engine) as infer:
            while infer.written < 19 + 2 * MOST_WAITING:
                look()
                infer.task.done() and infer.task.result()
                await asyncio.sleep(0.005)
            await infer.scored(19 + 2 * MOST_WAITING)
    assert 0 < most["pictures"] <= 2 * SMALL.batch
    assert 0 < most["windows"] <= MOST_WAITING
    assert most["bytes"] <= 0
    assert most["reserved"] <= 20 * 2_048
