"""transcribe on both brokers, with the real detector, the real recognizer and a real voice."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from streamer.agents.transcribe import run
from streamer.config import Config, KafkaSettings
from streamer.events import SECOND, AudioChunk, Event, Mark, Message, Micros, Modality
from streamer.health import Health
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.log import LogReader
from streamer.metrics import Metrics
from streamer.runtime import Runtime
from streamer.sources.scene import whole_sound
from streamer.stages.envelope import read_head, write_audio, write_mark
from streamer.stages.media import encode_flac
from streamer.stages.transcribe import RATE, Sound
from tests.builders import T0, a_track
from tests.integration.pipeline import until

DEMO = Path(__file__).parents[2] / "deploy" / "demo"
NOISES = ("glass.flac", "siren.flac")


def chunk(sound: Sound, second: int) -> Message:
    start = Micros(T0 + second * SECOND)
    piece = sound[second * RATE : (second + 1) * RATE]
    return write_audio(AudioChunk(session="hall", source="mic", start=start, end=Micros(start + SECOND), sound=encode_flac(piece)))


def silence(seconds: float) -> Sound:
    return np.random.default_rng(3).normal(0, 0.001, int(seconds * RATE)).astype(np.float32)


def placed(*parts: Sound) -> Sound:
    whole = np.concatenate(parts)
    return np.pad(whole, (0, -len(whole) % RATE))


async def write(broker: KafkaSettings, messages: list[Message]) -> None:
    async with Producer(Kafka(broker)) as producer:
        await producer.send(messages)


async def transcripts(broker: KafkaSettings) -> list[Event | Mark]:
    """All of `transcripts`, in order."""
    door = Kafka(broker)
    async with LogReader(door) as reader:
        found = []
        for partition in range(broker.partitions):
            found += [read_head(r, broker.partitions) async for r in reader.read("transcripts", 0, partition=partition)]
    return found


async def ended(broker: KafkaSettings) -> bool:
    return any(isinstance(one, Mark) and one.final for one in await transcripts(broker))


def start(broker: KafkaSettings, home: Path) -> tuple[asyncio.Task[None], Runtime]:
    runtime = Runtime(config=Config(kafka=broker, home=home), metrics=Metrics("transcribe"), health=Health(), stop=asyncio.Event())
    return asyncio.create_task(run(runtime)), runtime


def said(found: list[Event | Mark]) -> list[tuple[str, int, int, str]]:
    return [(e.id, e.start, e.end, e.words.text) for e in found if isinstance(e, Event) and e.words]


def whole_phrase() -> tuple[Sound, Message]:
    sound = placed(silence(1.5), whole_sound(DEMO / "help.flac"), silence(2), whole_sound(DEMO / "moment.flac"), silence(1))
    end = Micros(T0 + len(sound) // RATE * SECOND)
    return sound, write_mark(a_track(Modality.AUDIO, session="hall", source="mic"), end, final=True)


async def test_words_come_out_with_their_time_and_marks_never_pass_them(broker: KafkaSettings, weights_home: Path) -> None:
    sound, end = whole_phrase()
    await write(broker, [*(chunk(sound, second) for second in range(len(sound) // RATE)), end])
    task, runtime = start(broker, weights_home)
    await until(lambda: ended(broker), "the end mark in transcripts")
    runtime.stop.set()
    await task
    found = await transcripts(broker)
    words = said(found)
    assert "help" in " ".join(text for *_, text in words).lower()
    assert all(T0 + SECOND <= begin < finish for _, begin, finish, _ in words)
    promised = 0
    for one in found:
        if isinstance(one, Mark):
            promised = max(promised, one.until if not one.final else 0)
        else:
            assert one.start >= promised


async def test_killed_in_mid_sentence_it_gives_the_same_segments_with_the_same_ids(broker: KafkaSettings, weights_home: Path) -> None:
    sound, end = whole_phrase()
    seconds = len(sound) // RATE
    await write(broker, [chunk(sound, second) for second in range(3)])
    task, _ = start(broker, weights_home)
    await until(lambda: some(broker), "progress before the crash")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await write(broker, [*(chunk(sound, second) for second in range(3, seconds)), end])
    task, runtime = start(broker, weights_home)
    await until(lambda: ended(broker), "the end mark in transcripts")
    runtime.stop.set()
    await task
    disturbed = said(await transcripts(broker))
    assert len({key for key, *_ in disturbed}) == len(set(disturbed))
    assert "help" in " ".join(text for *_, text in disturbed).lower()


async def some(broker: KafkaSettings) -> bool:
    return bool(await transcripts(broker))


async def test_noise_and_silence_give_no_text(tansu: KafkaSettings, weights_home: Path) -> None:
    noises = [whole_sound(DEMO / name) for name in NOISES]
    sound = placed(silence(3), *noises, silence(3))
    end = write_mark(a_track(Modality.AUDIO, session="hall", source="mic"), Micros(T0 + 60 * SECOND), final=True)
    await write(tansu, [*(chunk(sound, second) for second in range(len(sound) // RATE)), end])
    task, runtime = start(tansu, weights_home)
    await until(lambda: ended(tansu), "the end mark in transcripts")
    runtime.stop.set()
    await task
    assert said(await transcripts(tansu)) == []
