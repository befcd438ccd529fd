"""align on both brokers: events in, windows out, bad records aside, and a killed process that leaves no trace."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import yaml
from aiokafka import AIOKafkaConsumer

from streamer.agents import align
from streamer.config import AlignSettings, Config, KafkaSettings
from streamer.errors import Reason
from streamer.events import (
    SECOND,
    AudioChunk,
    Event,
    Frame,
    Mark,
    Message,
    Micros,
    Modality,
    Record,
    SessionId,
    Track,
    Transcript,
    Window,
    Words,
)
from streamer.health import Health
from streamer.ids import partition_of
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.embedded import free_port
from streamer.metrics import Metrics
from streamer.runtime import Runtime
from streamer.stages.envelope import write_audio, write_frame, write_mark, write_transcript
from streamer.stages.wire import read_deadletter, read_late, read_window

SESSIONS = tuple(SessionId(name) for name in ("gate", "hall", "yard", "dock"))
SETTINGS = AlignSettings(idle="1s")
Manifests = dict[tuple[SessionId, Micros], set[tuple[Modality, str]]]


def now() -> Micros:
    return Micros(time.time_ns() // 1_000)


def a_frame(session: SessionId, at: Micros, *, source: str = "cam") -> Message:
    return write_frame(Frame(session=session, source=source, at=at, image=b"\xff\xd8 not looked at"))


def a_transcript(session: SessionId, start: Micros, end: Micros) -> Message:
    words = Words(text="help", confidence=0.9, language="en")
    return write_transcript(Transcript(session=session, source="mic", start=start, end=end, words=words))


def a_second(session: SessionId, start: Micros) -> list[tuple[Message, Modality, Micros, Micros]]:
    """Two frames, a chunk, and some words, as messages with what they are."""
    half = Micros(start + SECOND // 2)
    end = Micros(start + SECOND)
    sound = write_audio(AudioChunk(session=session, source="mic", start=start, end=end, sound=b"fLaC not looked at"))
    return [
        (a_frame(session, start), Modality.FRAMES, start, start),
        (a_frame(session, half), Modality.FRAMES, half, half),
        (sound, Modality.AUDIO, start, end),
        (a_transcript(session, half, end), Modality.TRANSCRIPTS, half, end),
    ]


def name(message: Message) -> str:
    return (dict(message.headers)["ce_id"] or b"").decode()


def note(wanted: Manifests, session: SessionId, message: Message, modality: Modality, start: Micros, end: Micros) -> None:
    """Law 8, the slow way: this event is in every window that it overlaps."""
    first = (start - SETTINGS.length) // SETTINGS.hop
    for n in range(first, max(start, end) // SETTINGS.hop + 1):
        opens = Micros(n * SETTINGS.hop)
        if opens <= start < opens + SETTINGS.length or start < opens < end:
            wanted[session, opens].add((modality, name(message)))


class Tail:
    """Reads whole topics as they grow."""

    def __init__(self, settings: KafkaSettings) -> None:
        self.kafka = Kafka(settings)
        self.consumer: AIOKafkaConsumer = self.kafka.consumer(fetch_max_wait_ms=20)
        self.seen: list[Record] = []

    async def __aenter__(self) -> Tail:
        await self.consumer.start()
        tps = [self.kafka.partition(t, n) for t in ("windows", "late", "deadletter") for n in range(self.kafka.settings.partitions)]
        self.consumer.assign(tps)
        for tp in tps:
            self.consumer.seek(tp, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.consumer.stop()

    async def until(self, condition: Callable[[], bool], *, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                raw = await self.consumer.getmany(timeout_ms=20)
                self.seen += [self.kafka.record(record) for records in raw.values() for record in records]

    async def one(self, topic: str, wanted: Callable[[Record], bool], *, seconds: float = 20.0) -> Record:
        """The one record of `topic` that is wanted, within `seconds`."""
        await self.until(lambda: any(r.topic == topic and wanted(r) for r in self.seen), seconds=seconds)
        return next(r for r in self.seen if r.topic == topic and wanted(r))

    def windows(self) -> list[Window]:
        found = [read_window(record) for record in self.seen if record.topic == "windows"]
        return [window for window in found if isinstance(window, Window)]

    def manifests(self) -> Manifests:
        """The latest revision of each window."""
        latest: dict[tuple[SessionId, Micros], Window] = {}
        for window in self.windows():
            old = latest.get((window.session, window.start))
            if window.manifest and (old is None or window.revision >= old.revision):
                latest[window.session, window.start] = window
        return {key: {(ref.modality, ref.id) for ref in window.manifest} for key, window in latest.items()}


async def ready(runtime: Runtime, task: asyncio.Task[None]) -> None:
    """Until the role is ready, or has ended."""
    async with asyncio.timeout(30):
        while runtime.health.why is not None and not task.done():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def aligning(settings: KafkaSettings, align_settings: AlignSettings = SETTINGS) -> AsyncIterator[tuple[Producer, Tail, Runtime]]:
    """align in this process, ready; a producer to feed it and a tail of what it writes."""
    config = Config(kafka=settings, align=align_settings)
    runtime = Runtime(config=config, metrics=Metrics("align"), health=Health(), stop=asyncio.Event())
    async with AsyncExitStack() as stack:
        producer = await stack.enter_async_context(Producer(Kafka(settings)))
        tail = await stack.enter_async_context(Tail(settings))
        task = asyncio.create_task(align.run(runtime))
        try:
            await ready(runtime, task)
            yield producer, tail, runtime
        finally:
            runtime.stop.set()
            await task


async def test_events_become_windows_with_exactly_what_overlaps_them(broker: KafkaSettings) -> None:
    wanted: Manifests = defaultdict(set)
    async with aligning(broker) as (producer, tail, runtime):
        base = Micros(now() // SECOND * SECOND - 20 * SECOND)
        for n in range(20):
            for session in SESSIONS:
                rows = a_second(session, Micros(base + n * SECOND))
                for row in rows:
                    note(wanted, session, *row)
                await producer.send([row[0] for row in rows])
        await tail.until(lambda: tail.manifests() == wanted, seconds=30)
        assert all(record.partition == partition_of(record.key or b"", 4) for record in tail.seen)
        assert {window.closed_by.value for window in tail.windows()} >= {"watermark"}
        stopped = time.monotonic()
    took = [time.monotonic() - stopped]
    while took[-1] >= 1 and len(took) < 3:  # a pause of the machine is not ours
        async with aligning(broker):
            stopped = time.monotonic()
        took.append(time.monotonic() - stopped)
    assert min(took) < 1
    read = runtime.metrics.read.labels("align", "frames")._value.get()
    assert read == 20 * 2 * len(SESSIONS)


def edit(message: Message, header: str, value: bytes | None) -> Message:
    """`message` with one header changed; None takes it away."""
    kept = [(key, old) for key, old in message.headers if key != header]
    return replace(message, headers=(*kept, *([(header, value)] if value is not None else [])))


def bad_input(at: Micros) -> Mapping[str, tuple[Message, Reason]]:
    """What align must put aside, and why."""
    frame, words = a_frame(SESSIONS[0], at), a_transcript(SESSIONS[0], at, at)
    home = partition_of(frame.key, 4)
    return {
        "missing header": (edit(frame, "ce_time", None), Reason.MISSING_HEADER),
        "malformed header": (edit(frame, "ce_time", b"yesterday"), Reason.BAD_HEADER),
        "header that is not UTF-8": (edit(frame, "ce_source", b"\xff\xfe"), Reason.BAD_HEADER),
        "bad session id": (replace(frame, key=b"../etc/passwd"), Reason.BAD_KEY),
        "key that is not UTF-8": (replace(frame, key=b"\xff\xfe"), Reason.BAD_KEY),
        "wrong partition": (replace(frame, partition=(home + 1) % 4), Reason.WRONG_PARTITION),
        "wrong content type": (edit(frame, "content-type", b"text/html"), Reason.CONTENT_TYPE),
        "empty value": (replace(frame, value=b""), Reason.EMPTY),
        "null value": (replace(frame, value=None), Reason.EMPTY),
        "words that are no JSON": (replace(words, value=b'{"text": "he'), Reason.BAD_PAYLOAD),
        "words that are not UTF-8": (replace(words, value=b'{"text": "\xff\xfe"}'), Reason.BAD_PAYLOAD),
        "oversize": (replace(words, value=b'{"text": "' + b"x" * 70_000 + b'"}'), Reason.TOO_LARGE),
        "the year 2100": (edit(frame, "ce_time", b"2100-01-01T00:00:00Z"), Reason.FUTURE),
        "a bug in a codec": (a_frame(SESSIONS[0], at, source="bug"), Reason.UNEXPECTED),
    }


async def test_each_bad_record_is_put_aside_within_a_second_and_the_next_is_processed(
    broker: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound_codec = align.read_head

    def codec_with_a_bug(record: Record, partitions: int) -> Event | Mark:
        head = sound_codec(record, partitions)
        return head if head.track.source != "bug" else head.no_such_field  # type: ignore[union-attr, no-any-return]

    monkeypatch.setattr(align, "read_head", codec_with_a_bug)
    async with aligning(broker) as (producer, tail, runtime):
        for case, (message, reason) in bad_input(now()).items():
            took: list[float] = []
            while not took or (took[-1] >= 1 and len(took) < 3):  # a pause of the machine is not ours
                written, began = (await producer.send([message]))[0], time.monotonic()
                where = (message.topic, written.partition, written.offset)
                record = await tail.one("deadletter", lambda r, where=where: origin_of(r) == where)
                took.append(time.monotonic() - began)
            assert min(took) < 1, case
            letter = read_deadletter(record)
            assert (letter.stage, letter.reason) == ("align", reason.value), case
            assert (letter.payload is None) == (message.value is None or reason is Reason.TOO_LARGE), case
            assert letter.payload_size == len(message.value or b""), case
            assert runtime.metrics.dead.labels("align", reason.value)._value.get() >= 1
        old = edit(a_frame(SESSIONS[0], now()), "ce_time", b"1970-01-01T00:00:00Z")
        written = (await producer.send([old]))[0]
        late = read_late(await tail.one("late", lambda _: True))
        assert (late.origin.topic, late.origin.partition, late.origin.offset) == ("frames", written.partition, written.offset)
        good = a_frame(SESSIONS[0], now())
        await producer.send([good])
        await tail.until(lambda: any(name(good) == ref.id for window in tail.windows() for ref in window.manifest), seconds=20)


def origin_of(record: Record) -> tuple[str, int, int]:
    origin = read_deadletter(record).origin
    return origin.topic, origin.partition, origin.offset


@asynccontextmanager
async def align_process(file: Path) -> AsyncIterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen([sys.executable, "-m", "streamer", "role", "align", "--config", str(file)])
    try:
        yield child
    finally:
        child.terminate()
        assert await asyncio.to_thread(child.wait, 15) in (0, -9)


async def test_killed_in_the_middle_of_a_window_gives_the_manifests_of_an_undisturbed_run(broker: KafkaSettings, tmp_path: Path) -> None:
    config = Config(kafka=broker, align=SETTINGS, health={"port": free_port() - 2})
    file = tmp_path / "streamer.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    wanted: Manifests = defaultdict(set)
    base = Micros(now() // SECOND * SECOND - 30 * SECOND)

    async def feed(producer: Producer, seconds: range) -> None:
        for n in seconds:
            for session in SESSIONS:
                rows = a_second(session, Micros(base + n * SECOND))
                for row in rows:
                    note(wanted, session, *row)
                await producer.send([row[0] for row in rows])

    async with Producer(Kafka(broker)) as producer, Tail(broker) as tail:
        async with align_process(file) as child:
            await feed(producer, range(12))
            await tail.until(lambda: len(tail.windows()) > 20, seconds=30)
            listening = {c.laddr for c in psutil.Process(child.pid).net_connections() if c.status == psutil.CONN_LISTEN}
            assert [(a.ip, a.port) for a in listening] == [("127.0.0.1", config.health.port + 2)]
            await feed(producer, range(12, 15))
            child.kill()
        await feed(producer, range(15, 30))
        async with align_process(file):
            await tail.until(lambda: tail.manifests() == wanted, seconds=60)


async def test_an_end_mark_closes_what_is_open(tansu: KafkaSettings) -> None:
    async with aligning(tansu) as (producer, tail, _):
        start = now()
        track = Track(session=SESSIONS[0], modality=Modality.FRAMES, source="cam")
        await producer.send([a_frame(SESSIONS[0], start), write_mark(track, Micros(start + 1), final=True)])
        await tail.until(lambda: any(window.closed_by.value in ("end", "idle") for window in tail.windows()), seconds=20)
