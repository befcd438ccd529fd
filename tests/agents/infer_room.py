"""What the tests of infer share: media and windows written by hand, a running infer, what it wrote."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np

from streamer.agents import infer
from streamer.config import Config, InferSettings, KafkaSettings
from streamer.engine import open_engine
from streamer.events import DeadLetter, EventRef, Message, Micros, Modality, Origin, Scores, SessionId, SessionMark, Window
from streamer.health import Health
from streamer.ids import event_id, window_id
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.log import LogReader
from streamer.metrics import Metrics
from streamer.runtime import Runtime
from streamer.stages.envelope import write_audio, write_frame
from streamer.stages.fuse import Engine, Features, FuseInput, Judgement, Rgb, Sound
from streamer.stages.media import encode_flac, encode_jpeg
from streamer.stages.wire import read_deadletter, read_scores, write_window
from tests.builders import SESSION, SOURCE, a_chunk, a_frame, a_window, at, some_words
from tests.integration.pipeline import until

TINY = InferSettings(profile="tiny")
PATIENCE = 60.0  # seconds


def picture(number: int) -> bytes:
    """A JPEG whose content depends on its number."""
    return encode_jpeg(np.full((48, 64, 3), number * 37 % 256, np.uint8), 90)


def hiss(number: int) -> bytes:
    """A second of FLAC whose content depends on its number."""
    return encode_flac(np.random.default_rng(number).normal(0, 0.1, 16_000).astype(np.float32))


@dataclasses.dataclass
class Scene:
    """Writes records of one session and keeps their lines for manifests."""

    producer: Producer
    session: SessionId = SESSION
    refs: dict[tuple[Modality, float], EventRef] = dataclasses.field(default_factory=dict)

    async def frame(self, when: float, image: bytes | None = None, *, source: str = SOURCE[Modality.FRAMES]) -> EventRef:
        frame = a_frame(when, image=image or picture(round(when * 10)), session=self.session, source=source)
        return await self._write(Modality.FRAMES, when, 0, write_frame(frame), source)

    async def audio(self, when: float, sound: bytes | None = None) -> EventRef:
        return await self._write(
            Modality.AUDIO, when, 1, write_audio(a_chunk(when, sound=sound or hiss(round(when * 10)), session=self.session))
        )

    async def seconds(self, first: int, last: int) -> None:
        """Two frames and one chunk for each second in [first, last)."""
        for second in range(first, last):
            for when in (second, second + 0.5):
                await self.frame(when)
            await self.audio(second)

    async def window(self, start: float, *, revision: int = 0, more: Sequence[EventRef] = (), **change: object) -> Window:
        """The window of 2 s that names what was written of it."""
        ref_end = start + 2
        inside = [ref for (_, when), ref in sorted(self.refs.items()) if start <= when < ref_end]
        window = a_window(start, session=self.session, id=window_id(self.session, at(start), at(ref_end)), revision=revision)
        window = dataclasses.replace(window, manifest=(*inside, *more), **change)  # type: ignore[arg-type]
        await self.producer.send([write_window(window)])
        return window

    async def _write(self, modality: Modality, when: float, length: float, message: Message, source: str | None = None) -> EventRef:
        place = (await self.producer.send([message]))[0]
        ref = EventRef(
            modality=modality,
            source=source or SOURCE[modality],
            id=event_id(at(when)),
            start=at(when),
            end=at(when + length),
            arrival=place.arrival or at(when),
            origin=Origin(topic=modality.value, partition=place.partition, offset=place.offset),
        )
        self.refs[modality, when] = ref
        return ref

    def words(self, when: float, text: str, offset: int = 0) -> EventRef:
        """A transcript as a window quotes it; none is written."""
        partition = next(iter(self.refs.values())).origin.partition
        return EventRef(
            modality=Modality.TRANSCRIPTS,
            source="mic-1",
            id=event_id(at(when)),
            start=at(when),
            end=at(when + 1),
            arrival=Micros(at(when + 1)),
            origin=Origin(topic="transcripts", partition=partition, offset=offset),
            words=some_words(text),
        )


class CountingEngine:
    """The tiny engine, counting what goes through it. Raises for a picture whose first pixel is `poison`, and for "poison".

    It works while its `gate` is open, and takes `pause` seconds for each fusion, `per_frame` for each picture.
    """

    def __init__(self, poison: int | None = None, *, pause: float = 0, per_frame: float = 0) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.seen = list[int]()
        self._pause = pause
        self.per_frame = per_frame
        self._engine: Engine = open_engine(TINY, None)
        self._poison = poison
        self.version, self.calibrated, self.may_alert = self._engine.version, False, False
        self.batches = Counter[str]()

    def encode_frames(self, images: Sequence[Rgb]) -> list[Features]:
        self.gate.wait(PATIENCE)
        time.sleep(self.per_frame * len(images))
        self.batches["frames"] += 1
        self.seen += [int(image[0, 0, 0]) for image in images]
        if any(abs(int(image[0, 0, 0]) - self._poison) < 3 for image in images if self._poison is not None):
            raise ZeroDivisionError("a bug in an encoder")
        return self._engine.encode_frames(images)

    def encode_audio(self, sounds: Sequence[Sound]) -> list[Features]:
        return self._engine.encode_audio(sounds)

    def encode_words(self, texts: Sequence[str]) -> list[Features]:
        if "poison" in texts:
            raise ZeroDivisionError("a bug in an encoder")
        return self._engine.encode_words(texts)

    def fuse(self, windows: Sequence[FuseInput]) -> list[Judgement]:
        self.batches["fuse"] += 1
        time.sleep(self._pause)
        return self._engine.fuse(windows)


@dataclasses.dataclass
class Running:
    """An infer in this process."""

    runtime: Runtime
    kafka: Kafka
    task: asyncio.Task[None]

    def count(self, name: str, **labels: str) -> float:
        return self.runtime.metrics.registry.get_sample_value(name, labels) or 0.0

    def read(self, topic: str) -> float:
        return self.count("streamer_records_read_total", stage="infer", topic=topic)

    def encoded(self, modality: Modality) -> float:
        return self.count("streamer_encoded_events_total", modality=modality.value)

    def refetched(self, modality: Modality) -> float:
        return self.count("streamer_refetched_events_total", modality=modality.value)

    async def scored(self, count: int) -> list[Scores | SessionMark]:
        """Wait until so many records stand in `scores`, and no more."""
        await self.until(lambda: self.written >= count, f"{count} scores")
        found = await scores_of(self.kafka)
        assert len(found) == count
        return found

    @property
    def written(self) -> float:
        """Records that this process wrote to `scores`."""
        return self.count("streamer_records_written_total", stage="infer", topic="scores")

    async def until(self, met: object, what: str, *, seconds: float = 30) -> None:
        async def look() -> bool:
            if self.task.done():
                self.task.result()
            return bool(met())  # type: ignore[operator]

        await until(look, what, seconds=seconds)

    async def stop(self) -> None:
        self.runtime.stop.set()
        await self.task


@asynccontextmanager
async def running(
    broker: KafkaSettings, *, poison: int | None = None, settings: InferSettings = TINY, engine: CountingEngine | None = None
) -> AsyncIterator[Running]:
    """An infer with the tiny engine, ready."""
    engine = engine or CountingEngine(poison)
    runtime = Runtime(config=Config(kafka=broker, infer=settings), metrics=Metrics("infer"), health=Health(), stop=asyncio.Event())
    task = asyncio.create_task(infer.serve(runtime, lambda: engine))
    room = Running(runtime=runtime, kafka=Kafka(broker), task=task)
    try:
        await room.until(lambda: runtime.health.why is None, "infer ready")
        yield room
    finally:
        engine.gate.set()
        await room.stop()


async def scores_of(kafka: Kafka) -> list[Scores | SessionMark]:
    """All of `scores`, partition by partition, in order."""
    async with LogReader(kafka) as reader:
        return [
            read_scores(record)
            for number in range(kafka.settings.partitions)
            async for record in reader.read("scores", 0, partition=number)
        ]


async def dead_letters(kafka: Kafka) -> list[DeadLetter]:
    """All of `deadletter`."""
    async with LogReader(kafka) as reader:
        return [
            read_deadletter(record)
            for number in range(kafka.settings.partitions)
            async for record in reader.read("deadletter", 0, partition=number)
        ]


async def committed(kafka: Kafka) -> int:
    """How many records of `windows` the group has done."""
    consumer = kafka.consumer(group="infer")
    await consumer.start()
    try:
        places = [await consumer.committed(kafka.partition("windows", number)) for number in range(kafka.settings.partitions)]
        return sum(place or 0 for place in places)
    finally:
        await consumer.stop()
