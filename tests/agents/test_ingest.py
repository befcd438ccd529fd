"""The running ingest role: files, a scene and a camera, through a broker."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from streamer.agents import ingest
from streamer.config import Config, KafkaSettings, SourceSettings, parse
from streamer.errors import BadRecord, ConfigError, Reason
from streamer.events import SECOND, Event, Mark, Micros, Modality, Pace, Record, SessionId, Track
from streamer.health import Health
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.embedded import free_port
from streamer.metrics import Metrics
from streamer.runtime import Runtime
from streamer.sources.feed import Source, State, Up
from streamer.stages.envelope import read_head, write_mark
from streamer.stages.ingest import Picture, Take
from streamer.stages.media import decode_image, decode_sound, encode_jpeg
from tests.conftest import fresh_settings
from tests.sources.media import START, film, recording
from tests.sources.test_rtsp import Camera

RECORDED: dict[str, Any] = {"pace": "recorded", "start": "2026-11-24T12:00:00Z"}


def config(kafka: KafkaSettings, **sessions: list[dict[str, Any]]) -> Config:
    plain = {"sessions": [{"id": name, "sources": sources} for name, sources in sessions.items()]}
    return parse(plain).model_copy(update={"kafka": kafka})


def runtime(settings: Config, **secrets: str) -> Runtime:
    return Runtime(config=settings, metrics=Metrics("ingest"), health=Health(), stop=asyncio.Event(), secrets=secrets)


async def records(settings: KafkaSettings, *topics: str) -> list[Record]:
    """All that stands in these topics now, each partition in order."""
    kafka = Kafka(settings)
    consumer = kafka.consumer(auto_offset_reset="earliest")
    await consumer.start()
    try:
        parts = [kafka.partition(topic, n) for topic in topics for n in range(settings.partitions)]
        consumer.assign(parts)
        ends = await consumer.end_offsets(parts)
        found: list[Record] = []
        while any([await consumer.position(part) < ends[part] for part in parts]):
            for batch in (await consumer.getmany(timeout_ms=100)).values():
                found += [kafka.record(raw) for raw in batch]
        return found
    finally:
        await consumer.stop()


async def heads(settings: KafkaSettings, *topics: str) -> list[Event | Mark]:
    return [read_head(record, settings.partitions) for record in await records(settings, *topics)]


def metric(of: Runtime, name: str, **labels: str) -> float:
    return of.metrics.registry.get_sample_value(name, labels) or 0.0


async def until(condition: Any, seconds: float = 40) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.1)


async def test_a_file_becomes_records_that_the_other_roles_can_read(broker: KafkaSettings, tmp_path: Path) -> None:
    role = runtime(config(broker, yard=[{"name": "door", "url": str(film(tmp_path / "film.mp4")), **RECORDED}]))
    await ingest.run(role)
    frames, audio = await records(broker, "frames"), await records(broker, "audio")
    shown = [head for record in frames if isinstance(head := read_head(record, broker.partitions), Event)]
    assert [head.start for head in shown] == sorted(head.start for head in shown)
    assert len(shown) == 6
    assert {head.pace for head in shown} == {Pace.RECORDED}
    assert decode_image(frames[0].value or b"", 10**6).shape == (240, 320, 3)
    assert len(decode_sound(audio[0].value or b"", "audio/flac", SECOND)) == 16_000
    ends = [read_head(topic[-1], broker.partitions) for topic in (frames, audio)]
    assert all(isinstance(end, Mark) and end.final and end.until >= START + 2_900_000 for end in ends)
    assert metric(role, "streamer_records_written_total", stage="ingest", topic="frames") == len(frames)
    assert metric(role, "streamer_sources_up") == 0


async def test_two_runs_with_the_same_start_write_the_same_records(broker: KafkaSettings, tmp_path: Path) -> None:
    settings = config(broker, yard=[{"name": "door", "url": str(film(tmp_path / "film.mp4")), **RECORDED}])
    await ingest.run(runtime(settings))
    await ingest.run(runtime(settings))
    for topic in ("frames", "audio"):
        found = [(record.key, record.headers, record.value) for record in await records(broker, topic)]
        assert len(found) >= 8 - 2 * (topic == "audio")
        assert found[: len(found) // 2] == found[len(found) // 2 :]


async def test_a_track_that_the_file_lacks_ends_at_once(tansu: KafkaSettings, tmp_path: Path) -> None:
    path = recording(tmp_path / "a.wav", seconds=2)
    await ingest.run(runtime(config(tansu, yard=[{"name": "mic", "url": str(path), **RECORDED}])))
    (mark,) = await heads(tansu, "frames")
    assert isinstance(mark, Mark)
    assert (mark.final, mark.track.modality, mark.until) == (True, Modality.FRAMES, START + 2 * SECOND)


async def test_a_source_that_fails_stops_no_other(tansu: KafkaSettings, tmp_path: Path) -> None:
    good, bad = film(tmp_path / "good.mp4"), film(tmp_path / "bad.mp4")
    role = runtime(config(tansu, yard=[{"name": "good", "url": str(good), **RECORDED}, {"name": "bad", "url": str(bad), **RECORDED}]))
    jobs = ingest.plan(role.config, {}, Micros(0))
    bad.unlink()  # gone between the check and the reading
    feeds = [ingest.Feed(ingest.partial(ingest.items, job), limit=ingest.WAITING, lossy=False, name=job.settings.name) for job in jobs]
    with capture_logs() as logs:
        await ingest.serve(role, jobs, feeds)
    assert [line["source"] for line in logs if line["log_level"] == "error"] == ["bad"]
    found = await heads(tansu, "frames", "audio")
    assert {head.track.source for head in found if isinstance(head, Event)} == {"good"}
    ended = {(head.track.source, head.track.modality) for head in found if isinstance(head, Mark) and head.final}
    assert len(ended) == 4


class Given:
    """A source that gives these takes and then fails."""

    def __init__(self, *takes: Take) -> None:
        self._takes = takes

    def check(self) -> None: ...

    def read(self, stop: threading.Event) -> Iterator[Take | State]:
        yield Up(again=False)
        yield from self._takes
        raise ValueError("nobody foresaw this")


def job(source: Source, **settings: Any) -> ingest.Job:
    plain = SourceSettings(name="gate", **({"url": "rtsp://gate/a"} | settings))
    return ingest.Job(session=SessionId("yard"), settings=plain, start=START, source=source)


async def worked(kafka: KafkaSettings, role: Runtime, one: ingest.Job) -> None:
    """The whole of one source, as the role does it."""
    feed = ingest.Feed(ingest.partial(ingest.items, one), limit=ingest.WAITING, lossy=False, name="t")
    async with Producer(Kafka(kafka)) as producer:
        await ingest.work(one, feed, producer, role.metrics)


async def test_the_error_of_a_camera_is_never_its_end(tansu: KafkaSettings) -> None:
    role, taken = runtime(config(tansu)), Picture(at=START, rgb=np.zeros((8, 8, 3), np.uint8))
    with capture_logs() as logs:
        await worked(tansu, role, job(Given(taken)))
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["the source failed"]
    found = await heads(tansu, "frames", "audio")
    assert [type(head) for head in found] == [Event]


async def test_a_picture_that_cannot_be_encoded_costs_itself_alone(tansu: KafkaSettings) -> None:
    """JPEG has no picture of more than 65,535 rows. A mark stands in its place: the camera lives."""
    role = runtime(config(tansu))
    shapes = (8, 70_000, 8)
    takes = [Picture(at=Micros(START + n * SECOND), rgb=np.zeros((height, 8, 3), np.uint8)) for n, height in enumerate(shapes)]
    await worked(tansu, role, job(Given(*takes)))
    found = await heads(tansu, "frames")
    assert [type(head) for head in found] == [Event, Mark, Event]
    assert isinstance(found[1], Mark)
    assert (found[1].final, found[1].until) == (False, START + SECOND)
    assert metric(role, "streamer_source_faults_total", fault="unencodable") == 1


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


def test_a_picture_too_large_for_a_record_loses_quality_until_it_fits() -> None:
    """The worst there is, 20 megapixels of noise, is 14 MiB at quality 85."""
    rgb = noise(4_320, 4_800)
    assert len(encode_jpeg(rgb, 85)) > ingest.LARGEST
    image = ingest.jpeg(rgb, 85)
    assert ingest.LARGEST // 3 < len(image) <= ingest.LARGEST
    assert decode_image(image, rgb.size).shape == rgb.shape


def test_a_picture_that_fits_keeps_its_quality() -> None:
    rgb = noise(240, 320)
    assert ingest.jpeg(rgb, 85) == encode_jpeg(rgb, 85)
    assert ingest.jpeg(rgb, 5) == encode_jpeg(rgb, 5)


def test_a_picture_too_large_at_every_quality_is_refused() -> None:
    with pytest.raises(BadRecord, match=r"320 x 240 pixels are \d+ bytes at quality 10, not 1000") as caught:
        ingest.jpeg(noise(240, 320), 85, most=1_000)
    assert caught.value.reason == Reason.TOO_LARGE


async def test_a_record_that_no_broker_takes_is_dropped_and_the_others_are_written(tansu: KafkaSettings) -> None:
    role, track = runtime(config(tansu)), Track(session=SessionId("yard"), modality=Modality.FRAMES, source="gate")
    marks = [write_mark(track, Micros(START + n * SECOND)) for n in range(3)]
    huge = dataclasses.replace(marks[1], value=bytes(11 << 20))
    async with Producer(Kafka(tansu)) as producer:
        with capture_logs() as logs:
            await asyncio.wait_for(ingest.write([marks[0], huge, marks[2]], producer, role.metrics), 30)
    assert [line["bytes"] for line in logs if line["event"] == "the broker refused a record"] == [11 << 20]
    assert metric(role, "streamer_source_faults_total", fault="too_large") == 1
    assert {head.until for head in await heads(tansu, "frames") if isinstance(head, Mark)} == {START, START + 2 * SECOND}


async def test_what_could_not_be_written_is_written_again_in_its_order(tansu: KafkaSettings) -> None:
    role, track = runtime(config(tansu)), Track(session=SessionId("yard"), modality=Modality.FRAMES, source="gate")
    producer = Producer(Kafka(tansu))  # not open yet: to its user the same as a broker that is away
    marks = [write_mark(track, Micros(START + n * SECOND)) for n in range(5)]
    writing = asyncio.create_task(ingest.write(marks, producer, role.metrics))

    async def tried_again() -> bool:
        return metric(role, "streamer_retries_total", stage="ingest") >= 1

    await until(tried_again)
    async with producer:
        await asyncio.wait_for(writing, 30)
    assert [head.until for head in await heads(tansu, "frames") if isinstance(head, Mark)] == [START + n * SECOND for n in range(5)]


async def test_a_broker_without_our_topics_is_refused(tansu_address: str, tmp_path: Path) -> None:
    bare = fresh_settings(tansu_address, idempotent=False)
    source = {"name": "mic", "url": str(recording(tmp_path / "a.wav", seconds=1)), **RECORDED}
    with pytest.raises(ConfigError, match="streamer topics create"):
        await ingest.run(runtime(config(bare, yard=[source])))


def test_a_source_that_starts_now_is_accepted_whatever_the_hop(tmp_path: Path) -> None:
    source = {"name": "mic", "url": str(recording(tmp_path / "a.wav", seconds=1))}
    plain = parse({"sessions": [{"id": "yard", "sources": [source]}], "align": {"length": "60s", "hop": "60s", "skew": "1s"}})
    for second in range(0, 60, 7):
        (one,) = ingest.plan(plain, {}, Micros(START + second * SECOND))
        assert one.start == START + (60 * SECOND if second else 0)


async def test_what_cannot_work_is_refused_before_anything_is_written(tansu: KafkaSettings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        await ingest.run(runtime(config(tansu, yard=[{"name": "door", "url": str(tmp_path / "none.mp4"), **RECORDED}])))
    with pytest.raises(ConfigError, match="nothing to ingest"):
        await ingest.run(runtime(config(tansu)))


async def relay(port: int, address: str) -> asyncio.Server:
    """A door to a broker that can be opened later than its clients."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
        writer.close()

    async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, number = address.split(":")
        back, forth = await asyncio.open_connection(host, int(number))
        await asyncio.gather(pump(reader, forth), pump(back, writer))

    return await asyncio.start_server(connect, "127.0.0.1", port)


async def test_a_broker_that_comes_late_is_waited_for(tansu: KafkaSettings, tmp_path: Path) -> None:
    door = free_port()
    closed = tansu.model_copy(update={"bootstrap": f"127.0.0.1:{door}"})
    role = runtime(config(closed, yard=[{"name": "mic", "url": str(recording(tmp_path / "a.wav", seconds=2)), **RECORDED}]))
    running = asyncio.create_task(ingest.run(role))

    async def tried() -> bool:
        return role.health.why == "no broker yet"

    await until(tried)
    async with await relay(door, tansu.bootstrap):
        await asyncio.wait_for(running, 40)
    assert len(await heads(tansu, "audio")) == 3


async def test_a_role_that_is_stopped_while_it_waits_for_a_broker_ends(tmp_path: Path) -> None:
    nowhere = fresh_settings(f"127.0.0.1:{free_port()}", idempotent=False)
    role = runtime(config(nowhere, yard=[{"name": "mic", "url": str(recording(tmp_path / "a.wav", seconds=2)), **RECORDED}]))
    running = asyncio.create_task(ingest.run(role))
    await asyncio.sleep(0)
    role.stop.set()
    await asyncio.wait_for(running, ingest.PATIENCE + 5)


async def test_a_camera_is_read_until_the_role_is_stopped(broker: KafkaSettings) -> None:
    camera = Camera("guard", "some-secret")
    try:
        source = {"name": "gate", "url": camera.url, "fps": 5, "stall": "20s", "username": "guard", "password_env": "GATE"}
        role = runtime(config(broker, yard=[source]), GATE="some-secret")
        running = asyncio.create_task(ingest.run(role))

        async def written() -> bool:
            return metric(role, "streamer_records_written_total", stage="ingest", topic="audio") >= 2

        await until(written)
        assert metric(role, "streamer_sources_up") == 1
        camera.stop()
        camera.start()

        async def back() -> bool:
            return metric(role, "streamer_source_reconnects_total") == 1

        await until(back)
        role.stop.set()
        await asyncio.wait_for(running, 10)
    finally:
        camera.stop()
    frames = await heads(broker, "frames")
    times = [head.start for head in frames if isinstance(head, Event)]
    assert times == sorted(set(times))
    assert not any(isinstance(head, Mark) and head.final for head in frames)
