"""transcribe on real brokers, with the real detector, the real recognizer and a real voice."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from streamer.agents import transcribe
from streamer.agents.transcribe import Transcriber, run
from streamer.config import AlignSettings, Config, KafkaSettings, SessionSettings
from streamer.demo import free_block
from streamer.errors import ConfigError
from streamer.events import (
    FRESH,
    SECOND,
    AudioChunk,
    Clock,
    DeadLetter,
    Event,
    Mark,
    Message,
    Micros,
    Modality,
    Pace,
    Record,
    SessionId,
)
from streamer.health import Health
from streamer.ids import partition_of
from streamer.kafka.checkpoints import TOPIC
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.log import LogReader
from streamer.kafka.stateful import Batch
from streamer.kafka.topics import create_topics
from streamer.metrics import Metrics
from streamer.runtime import Runtime
from streamer.sources.scene import whole_sound
from streamer.stages.envelope import read_head, write_audio, write_mark
from streamer.stages.media import encode_flac
from streamer.stages.transcribe import RATE, Checkpoint, Heard, Sound
from streamer.stages.wire import read_deadletter
from streamer.topology import ROLES
from tests.builders import T0, a_record, a_track
from tests.integration.pipeline import Pipeline, until
from tests.stages.test_transcribe import FragileVad, talk

DEMO = Path(__file__).parents[2] / "deploy" / "demo"
NOISES = ("glass.flac", "siren.flac")
HALL = SessionId("hall")
PATIENT = AlignSettings(idle="300s", horizon="600s")  # how long a worker takes to start says nothing about a microphone


def recently(seconds: float) -> Micros:
    """So long ago, at a full second."""
    return Micros(int(time.time() - seconds) * SECOND)


def flac_at(start: Micros, sound: bytes, *, pace: Pace = Pace.LIVE) -> Message:
    return write_audio(AudioChunk(session=HALL, source="mic", start=start, end=Micros(start + SECOND), sound=sound, pace=pace))


def chunks(sound: Sound, base: Micros, *, pace: Pace = Pace.LIVE) -> list[Message]:
    """One chunk a second."""
    pieces = (sound[at : at + RATE] for at in range(0, len(sound), RATE))
    return [flac_at(Micros(base + n * SECOND), encode_flac(piece), pace=pace) for n, piece in enumerate(pieces)]


def end(until_: Micros, *, pace: Pace = Pace.LIVE) -> Message:
    return write_mark(a_track(Modality.AUDIO, session=HALL, source="mic"), until_, final=True, pace=pace)


def silence(seconds: float) -> Sound:
    return np.random.default_rng(3).normal(0, 0.001, int(seconds * RATE)).astype(np.float32)


def placed(*parts: Sound) -> Sound:
    whole = np.concatenate(parts)
    return np.pad(whole, (0, -len(whole) % RATE))


def a_call_for_help() -> Sound:
    return placed(silence(1), whole_sound(DEMO / "help.flac"), silence(1.5))


def two_phrases() -> Sound:
    return placed(silence(3.5), whole_sound(DEMO / "help.flac"), silence(2), whole_sound(DEMO / "moment.flac"), silence(1))


async def write(broker: KafkaSettings, messages: list[Message]) -> None:
    async with Producer(Kafka(broker)) as producer:
        await producer.send(messages)


async def records(broker: KafkaSettings, topic: str) -> list[Record]:
    """All of a topic."""
    async with LogReader(Kafka(broker)) as reader:
        return [r for partition in range(broker.partitions) async for r in reader.read(topic, 0, partition=partition)]


async def transcripts(broker: KafkaSettings) -> list[Event | Mark]:
    """All of `transcripts`, in order."""
    return [read_head(record, broker.partitions) for record in await records(broker, "transcripts")]


async def dead_letters(broker: KafkaSettings) -> list[DeadLetter]:
    return [read_deadletter(record) for record in await records(broker, "deadletter")]


async def checkpoints(broker: KafkaSettings) -> list[Checkpoint]:
    """Every checkpoint of the hall's partition, in order."""
    found = await records(broker, TOPIC)
    home = partition_of(HALL.encode(), broker.partitions)
    return [msgspec.json.decode(r.value or b"", type=Checkpoint) for r in found if r.partition == home and r.key == b"transcribe/"]


async def ended(broker: KafkaSettings) -> bool:
    return any(isinstance(one, Mark) and one.final for one in await transcripts(broker))


def said(found: Iterable[Event | Mark]) -> list[tuple[str, int, int, str]]:
    return [(e.id, e.start, e.end, e.words.text) for e in found if isinstance(e, Event) and e.words]


@asynccontextmanager
async def transcribing(broker: KafkaSettings, home: Path, align: AlignSettings = PATIENT) -> AsyncIterator[Runtime]:
    """transcribe in this process."""
    config = Config(kafka=broker, home=home, align=align)
    runtime = Runtime(config=config, metrics=Metrics("transcribe"), health=Health(), stop=asyncio.Event())
    task = asyncio.create_task(run(runtime))
    try:
        yield runtime
    finally:
        runtime.stop.set()
        await task


async def heard_to_the_end(broker: KafkaSettings, home: Path) -> list[Event | Mark]:
    """What an undisturbed transcribe makes of what is in `audio`, which ends with an end mark."""
    async with transcribing(broker, home):
        await until(lambda: ended(broker), "the end mark in transcripts")
    return await transcripts(broker)


async def test_words_come_out_with_their_time_and_marks_never_pass_them(broker: KafkaSettings, weights_home: Path) -> None:
    sound, base = two_phrases(), recently(30)
    await write(broker, [*chunks(sound, base), end(Micros(base + 30 * SECOND))])
    found = await heard_to_the_end(broker, weights_home)
    words = said(found)
    assert "help" in " ".join(text for *_, text in words).lower()
    assert all(base + 3 * SECOND <= begin < finish for _, begin, finish, _ in words)
    promised = 0
    for one in found:
        if isinstance(one, Mark):
            promised = max(promised, one.until if not one.final else 0)
        else:
            assert one.start >= promised


async def test_noise_and_silence_give_no_text(tansu: KafkaSettings, weights_home: Path) -> None:
    noises = [whole_sound(DEMO / name) for name in NOISES]
    sound = placed(silence(3), *noises, silence(3))
    await write(tansu, [*chunks(sound, T0, pace=Pace.RECORDED), end(Micros(T0 + 60 * SECOND), pace=Pace.RECORDED)])
    assert said(await heard_to_the_end(tansu, weights_home)) == []


async def test_killed_in_mid_sentence_it_gives_the_transcripts_of_an_undisturbed_run(
    broker: KafkaSettings, weights_home: Path, tmp_path: Path
) -> None:
    base = recently(15)
    messages = [*chunks(two_phrases(), base), end(Micros(base + 15 * SECOND))]
    calm = broker.model_copy(update={"prefix": f"{broker.prefix}calm."})
    await create_topics(Kafka(calm))
    await write(calm, messages)
    expected = said(await heard_to_the_end(calm, weights_home))
    assert len(expected) >= 2

    config = Config(kafka=broker, home=weights_home, align=PATIENT, health={"port": free_block(len(ROLES))})
    pipeline = Pipeline(config, tmp_path)
    pipeline.start("transcribe")
    try:
        await pipeline.ready("transcribe")
        await write(broker, messages[:5])  # the call for help begins at 3.5 s
        await until(lambda: in_mid_sentence(broker, base), "a checkpoint in mid-sentence")
        pipeline.kill("transcribe")
        assert said(await transcripts(broker)) == []
        await write(broker, messages[5:])
        pipeline.start("transcribe")
        await until(lambda: ended(broker), "the end mark in transcripts")
    finally:
        pipeline.stop()
    assert said(await transcripts(broker)) == expected


async def in_mid_sentence(broker: KafkaSettings, base: Micros) -> bool:
    """All five chunks are heard, the last ones are held, and what is before them is done with."""
    marks = [one.until for one in await transcripts(broker) if isinstance(one, Mark)]
    saved = (await checkpoints(broker))[-1:]
    return len(marks) == 5 and bool(saved) and 0 < saved[0].offset < 4 and saved[0].tracks[0].at.boundary > base


async def test_a_backlog_is_worked_off_with_checkpoints_in_between(tansu: KafkaSettings, weights_home: Path) -> None:
    sound = np.concatenate([a_call_for_help() for _ in range(8)])
    messages = chunks(sound, T0, pace=Pace.RECORDED)
    await write(tansu, [*messages, end(Micros(T0 + len(messages) * SECOND), pace=Pace.RECORDED)])
    await heard_to_the_end(tansu, weights_home)
    assert any(0 < one.offset < len(messages) - 4 for one in await checkpoints(tansu))


async def test_a_microphone_that_dies_in_mid_sentence_gets_its_words_out(tansu: KafkaSettings, weights_home: Path) -> None:
    async with transcribing(tansu, weights_home, AlignSettings(idle="1s", skew="1s")):
        await write(tansu, chunks(placed(silence(1), whole_sound(DEMO / "help.flac"))[: 3 * RATE], recently(4)))
        await until(lambda: has_words(tansu), "the words", seconds=60)


async def has_words(broker: KafkaSettings) -> bool:
    return bool(said(await transcripts(broker)))


def changed(message: Message, header: str, value: str) -> Message:
    kept = tuple(pair for pair in message.headers if pair[0] != header)
    return replace(message, headers=(*kept, (header, value.encode())))


BUG = encode_flac(np.full(RATE, 0.25, np.float32))


def flac_bomb() -> bytes:
    """Ten minutes of silence in a small file."""
    return encode_flac(np.zeros(600 * RATE, np.float32))


def times(start: str, end: str) -> Callable[[Micros], Message]:
    return lambda at: changed(changed(flac_at(at, encode_flac(silence(1))), "ce_time", start), "ce_endtime", end)


BAD: dict[str, Callable[[Micros], Message]] = {
    "a broken FLAC": lambda at: flac_at(at, b"fLaC" + b"junk" * 50),
    "a truncated FLAC": lambda at: flac_at(at, encode_flac(whole_sound(DEMO / "help.flac"))[:2_000]),
    "a FLAC bomb": lambda at: flac_at(at, flac_bomb()),
    "an empty value": lambda at: flac_at(at, b""),
    "a wrong content type": lambda at: changed(flac_at(at, encode_flac(silence(1))), "content-type", "text/html"),
    "no time": times("yesterday", "today"),
    "the year 2100": times("2100-01-01T00:00:00Z", "2100-01-01T00:00:01Z"),
    "the year 9999": times("9999-12-31T23:59:59.9Z", "9999-12-31T23:59:59.95Z"),
    "the year 1970": times("1970-01-01T00:00:00Z", "1970-01-01T00:00:01Z"),
    "the year 1": times("0001-01-01T00:00:00Z", "0001-01-01T00:00:01Z"),
    "a bug in a codec": lambda at: flac_at(at, BUG),
}


async def test_after_each_bad_record_the_next_words_come_out(
    tansu: KafkaSettings, weights_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound_codec = transcribe.decode_sound

    def codec_with_a_bug(value: bytes, content_type: str, longest: Micros) -> Sound:
        if value == BUG:
            raise ZeroDivisionError
        return sound_codec(value, content_type, longest)

    monkeypatch.setattr(transcribe, "decode_sound", codec_with_a_bug)
    call, base = a_call_for_help(), recently(90)
    seconds = len(call) // RATE + 1
    cases = {case: Micros(base + n * seconds * SECOND) for n, case in enumerate(BAD)}
    messages: list[Message] = []
    for case, start in cases.items():
        messages += [BAD[case](start), *chunks(call, Micros(start + SECOND))]
    await write(tansu, [*messages, end(Micros(base + len(BAD) * seconds * SECOND))])
    words = said(await heard_to_the_end(tansu, weights_home))
    for case, start in cases.items():
        assert any("help" in text.lower() and start < begin < start + seconds * SECOND for _, begin, _, text in words), case
    letters = [(one.stage, one.reason, one.payload == BUG) for one in await dead_letters(tansu)]
    assert letters == [("transcribe", "unexpected", True)]


# -- faults of our own, with a recognizer that has them ---------------------------------------------------------------------


class Faulty:
    """Fails at the first segment; waits at each until it may go on."""

    def __init__(self, *, failures: int = 0) -> None:
        self.failures, self.may_go_on, self.waited = failures, threading.Event(), True
        self.may_go_on.set()

    def transcribe(self, sound: Sound) -> Heard:
        self.waited = self.may_go_on.wait(20)
        self.failures -= 1
        if self.failures >= 0:
            raise ZeroDivisionError
        return Heard(text="help", confidence=0.9, language="en", no_speech=0.0, log_probability=-0.1, compression_ratio=1.0)


def nothing_is_read(topic: str, offset: int) -> AsyncIterator[Record]:
    raise AssertionError(f"{topic} was read from {offset}")


@asynccontextmanager
async def a_transcriber(
    broker: KafkaSettings, recognizer: Faulty, sessions: tuple[SessionSettings, ...] = ()
) -> AsyncIterator[tuple[Transcriber, int]]:
    """The state behind the source, and the hall's partition."""
    with ThreadPoolExecutor(1) as worker:
        async with Producer(Kafka(broker)) as producer:
            config, metrics = Config(kafka=broker, sessions=sessions), Metrics("transcribe")
            parts = {"recognizer": recognizer, "new_vad": FragileVad, "worker": worker}
            state = Transcriber(config=config, producer=producer, metrics=metrics, **parts)
            home = partition_of(HALL.encode(), broker.partitions)
            await state.restore(home, {}, nothing_is_read)
            yield state, home


def batch(messages: list[Message], home: int) -> Batch:
    found = tuple(a_record(message, offset=n) for n, message in enumerate(messages))
    return Batch(records=found, clocks={("audio", home): Clock(arrival=T0)}, now=T0)


PHRASES = talk([(True, 40), (False, 60), (True, 30), (False, 90)])


async def test_a_recognizer_that_fails_costs_the_segment_and_its_chunk_is_buried(tansu: KafkaSettings) -> None:
    async with a_transcriber(tansu, Faulty(failures=1)) as (state, home):
        await state.handle(batch(chunks(PHRASES, T0, pace=Pace.RECORDED), home))
    assert len(said(await transcripts(tansu))) == 1
    assert [(one.stage, one.reason, one.origin.offset) for one in await dead_letters(tansu)] == [("transcribe", "unexpected", 1)]


async def test_a_detector_that_fails_costs_what_is_held_and_the_chunk_is_buried(tansu: KafkaSettings) -> None:
    messages = chunks(PHRASES, T0, pace=Pace.RECORDED)
    messages[1] = flac_at(Micros(T0 + SECOND), BUG, pace=Pace.RECORDED)
    async with a_transcriber(tansu, Faulty()) as (state, home):
        await state.handle(batch(messages, home))
    assert len(said(await transcripts(tansu))) == 1
    assert [(one.stage, one.reason, one.origin.offset) for one in await dead_letters(tansu)] == [("transcribe", "unexpected", 1)]


async def test_what_a_failing_recognizer_was_given_at_the_end_is_buried_with_its_last_chunk(tansu: KafkaSettings) -> None:
    messages = [*chunks(PHRASES[:RATE], T0, pace=Pace.RECORDED), end(Micros(T0 + SECOND), pace=Pace.RECORDED)]
    async with a_transcriber(tansu, Faulty(failures=1)) as (state, home):
        await state.handle(batch(messages, home))
    assert [(one.reason, one.origin.offset) for one in await dead_letters(tansu)] == [("unexpected", 0)]
    assert await ended(tansu)


async def test_words_of_a_microphone_with_a_configured_offset_are_those_of_one_whose_clock_is_right(tansu: KafkaSettings) -> None:
    behind = SessionSettings(id=HALL, offsets=[{"source": "mic", "offset": "3600s"}], expect=[])  # type: ignore[list-item, arg-type]
    right = tansu.model_copy(update={"prefix": f"{tansu.prefix}right."})
    await create_topics(Kafka(right))
    for broker, base, sessions in ((tansu, T0 - 3_600 * SECOND, (behind,)), (right, T0, ())):
        async with a_transcriber(broker, Faulty(), sessions) as (state, home):
            await state.handle(batch([*chunks(PHRASES, Micros(base), pace=Pace.RECORDED)], home))
    found: list[Event | Mark] = [replace(one, arrival=T0) for one in await transcripts(tansu)]
    assert found == [replace(one, arrival=T0) for one in await transcripts(right)]
    assert len(said(found)) == 2 and min(one.start for one in found if isinstance(one, Event)) >= T0


async def test_a_batch_that_comes_again_changes_nothing(tansu: KafkaSettings) -> None:
    async with a_transcriber(tansu, Faulty()) as (state, home):
        for _ in range(2):
            await state.handle(batch(chunks(PHRASES, T0, pace=Pace.RECORDED), home))
    assert len(said(await transcripts(tansu))) == 2


async def test_a_partition_read_to_its_end_is_silent_only_when_no_earlier_arrival_can_be_on_its_way(tansu: KafkaSettings) -> None:
    edge = T0 + AlignSettings().idle + AlignSettings().skew + FRESH
    async with a_transcriber(tansu, Faulty()) as (state, home):
        await state.handle(batch(chunks(PHRASES[:RATE], Micros(T0 - SECOND)), home))
        for now, caught_up, count in ((edge + SECOND, False, 0), (edge, True, 0), (edge + 1, True, 1)):
            clock = Clock(arrival=T0, caught_up=caught_up)
            await state.handle(Batch(records=(), clocks={("audio", home): clock}, now=Micros(now)))
            assert len(said(await transcripts(tansu))) == count


async def test_the_loop_goes_on_while_whisper_works(tansu: KafkaSettings) -> None:
    recognizer = Faulty()
    recognizer.may_go_on.clear()
    async with a_transcriber(tansu, recognizer) as (state, home):
        work = asyncio.create_task(state.handle(batch(chunks(PHRASES, T0, pace=Pace.RECORDED), home)))
        asyncio.get_running_loop().call_later(0.1, recognizer.may_go_on.set)
        await work
    assert recognizer.waited


async def test_a_checkpoint_of_another_version_is_refused(tansu: KafkaSettings) -> None:
    async with a_transcriber(tansu, Faulty()) as (state, home):
        with pytest.raises(ConfigError, match="another version"):
            await state.restore(home, {"": b'{"offset":3}'}, nothing_is_read)
