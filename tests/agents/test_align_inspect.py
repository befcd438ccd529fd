"""`streamer align inspect` on both brokers: it shows what the aligner holds and waits for, and leaves no trace."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import yaml
from structlog.testing import capture_logs

from streamer.agents import align
from streamer.agents.align_inspect import Inspector, Report
from streamer.agents.align_report import lines, plain
from streamer.config import AlignSettings, Config, KafkaSettings
from streamer.errors import ConfigError
from streamer.events import MILLISECOND, SECOND, AudioChunk, Message, Micros, Modality, SessionId, Silence, TrackState
from streamer.health import Health
from streamer.ids import partition_of
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.log import LogReader
from streamer.metrics import Metrics
from streamer.runtime import Runtime
from streamer.stages.align.shown import SessionShown, Wait, WhyNot, WindowShown
from streamer.stages.envelope import write_audio
from streamer.stages.times import format_time
from streamer.stages.wire import write_window
from streamer.topology import TOPICS
from tests.agents.test_align import a_frame, a_transcript, now, ready
from tests.builders import a_ref, a_window

GATE, HALL = SessionId("gate"), SessionId("hall")
SETTINGS = AlignSettings(idle="5min", patience="1min")
BOUND = 300 * MILLISECOND


@dataclass
class Room:
    """A session whose cam-2 is two seconds behind cam-1, with sound and words. `base` is long enough ago for all of it to be over."""

    name: SessionId = GATE
    base: Micros = field(default_factory=lambda: Micros(now() // SECOND * SECOND - 12 * SECOND))

    def after(self, seconds: float) -> Micros:
        return Micros(self.base + round(seconds * SECOND))

    def records(self) -> list[Message]:
        frames = [
            a_frame(self.name, self.after(n / 2), source=cam) for cam, until in (("cam-1", 20), ("cam-2", 16)) for n in range(until + 1)
        ]
        chunks = [
            AudioChunk(session=self.name, source="mic", start=self.after(n), end=self.after(n + 1), sound=b"fLaC not looked at")
            for n in range(9)
        ]
        return [*frames, *map(write_audio, chunks), a_transcript(self.name, self.after(3), self.after(4))]

    def wait(self, modality: Modality, source: str, progress: float, needs: float) -> Wait:
        return Wait(modality=modality, source=source, progress=self.after(progress), needs=Micros(self.after(needs) + BOUND))

    def open(self) -> list[WindowShown]:
        """Worked out by hand: cam-2 stands at 8.0, so the watermark at 7.7; cam-1 at 10.0, the microphone at 9.0."""
        cam_1 = {end: [self.wait(Modality.FRAMES, "cam-1", 10, end)] if end >= 10 else [] for end in (8, 9, 10, 11, 12)}
        mic = {end: [self.wait(Modality.AUDIO, "mic", 9, end)] if end >= 9 else [] for end in cam_1}
        frames = {8: 8, 9: 7, 10: 5, 11: 3, 12: 1}
        audio = {8: 2, 9: 2, 10: 1}
        return [
            WindowShown(
                start=self.after(end - 2),
                end=self.after(end),
                revision=0,
                events={Modality.FRAMES: frames[end]} | ({Modality.AUDIO: audio[end]} if end in audio else {}),
                waits=(self.wait(Modality.FRAMES, "cam-2", 8, end), *mic[end], *cam_1[end]),
            )
            for end in cam_1
        ]


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Runtime]:
    """The role in this process, ready."""
    runtime = Runtime(config=config, metrics=Metrics("align"), health=Health(), stop=asyncio.Event())
    task = asyncio.create_task(align.run(runtime))
    try:
        await ready(runtime, task)
        yield runtime
    finally:
        runtime.stop.set()
        await task


async def ends(kafka: Kafka) -> dict[tuple[str, int], int]:
    """Where every partition of every topic of ours ends."""
    places = [(topic.name, number) for topic in TOPICS for number in range(kafka.settings.partitions)]
    async with LogReader(kafka) as reader:
        return {(name, number): await reader.end(kafka.partition(name, number)) for name, number in places}


async def commits(kafka: Kafka) -> list[int]:
    """What the group has committed, of every input partition."""
    consumer = kafka.consumer(group="align")
    await consumer.start()
    try:
        places = [kafka.partition(topic.value, number) for topic in Modality for number in range(kafka.settings.partitions)]
        return [await consumer.committed(place) or 0 for place in places]
    finally:
        await consumer.stop()


async def write(kafka: Kafka, *rooms: Room) -> None:
    async with Producer(kafka) as producer:
        await producer.send([message for room in rooms for message in room.records()])


async def committed(kafka: Kafka, *rooms: Room) -> None:
    """Until the role has read all of these, and a checkpoint says so: the commit comes after it."""
    async with asyncio.timeout(30):
        while sum(await commits(kafka)) < sum(len(room.records()) for room in rooms):
            await asyncio.sleep(0.1)


def only(report: Report, session: SessionId) -> SessionShown:
    [found] = [one for partition in report.partitions for one in partition.sessions if one.session == session]
    return found


async def test_stopped_in_the_middle_of_windows_it_shows_exactly_those_and_what_they_wait_for(broker: KafkaSettings) -> None:
    config, kafka, room = Config(kafka=broker, align=SETTINGS), Kafka(broker), Room()
    with capture_logs() as logs:
        async with running(config):
            await write(kafka, room)
            await committed(kafka, room)
            before = await ends(kafka), await commits(kafka)
            beside = only(await Inspector(config, kafka).run(), GATE)
            assert (await ends(kafka), await commits(kafka)) == before
    assert [line["event"] for line in logs].count("partitions restored") == 1  # nobody joined the group
    report = await Inspector(config, kafka).run()
    assert (await ends(kafka), await commits(kafka)) == before
    found = only(report, GATE)
    assert list(found.windows) == list(beside.windows) == room.open()
    assert found.watermark == room.after(8) - BOUND
    assert found.silence is None
    state = {(track.modality.value, track.source): (track.state, track.progress, track.why_not) for track in found.tracks}
    assert state == {
        ("frames", "cam-1"): (TrackState.ACTIVE, room.after(10), None),
        ("frames", "cam-2"): (TrackState.ACTIVE, room.after(8), None),
        ("audio", "mic"): (TrackState.ACTIVE, room.after(9), None),
        ("transcripts", "mic"): (TrackState.ACTIVE, room.after(4), WhyNot.REVISING),
    }
    home = partition_of(GATE.encode(), broker.partitions)
    partition = report.partitions[home]
    assert (partition.owed, partition.cut) == ({}, False)
    assert partition.saved is not None and 0 <= report.now - partition.saved < 60 * SECOND
    assert {one.topic: (one.lag, one.end) for one in partition.inputs} == {"frames": (0, 38), "audio": (0, 9), "transcripts": (0, 1)}
    shown = "\n".join(lines(report, limit=5))
    needs = format_time(Micros(room.after(8) + BOUND))[11:23]
    assert f"waits for frames of cam-2: progress {format_time(room.after(8))[11:23]}, needs {needs}" in shown
    assert "1 sessions, 5 open windows" in shown and "not waited for: its modality revises" in shown


async def test_where_no_worker_runs_it_shows_what_one_would_write_and_that_all_is_silent(tansu: KafkaSettings) -> None:
    config, kafka, rooms = Config(kafka=tansu, align=SETTINGS), Kafka(tansu), [Room(), Room(HALL)]
    await write(kafka, *rooms)
    before = await ends(kafka)
    later = Micros(now() + 3_600 * SECOND)
    report = await Inspector(config, kafka, session=HALL, now=later).run()
    assert await ends(kafka) == before
    [partition] = report.partitions
    assert partition.number == partition_of(HALL.encode(), tansu.partitions)
    assert {one.session for one in partition.sessions} == {HALL}
    assert (partition.saved, {one.position for one in partition.inputs}) == (None, {None})
    found = only(report, HALL)
    assert (found.silence, found.windows) == (Silence.IDLE, ())
    assert {track.why_not for track in found.tracks} == {WhyNot.IDLE}
    homes = {partition_of(room.name.encode(), tansu.partitions) for room in rooms}
    assert partition.owed == {"windows": 13 * (3 - len(homes))}  # 12 windows and one mark a session
    assert "a worker would write now: 13 to windows" in "\n".join(lines(report, limit=5)) or len(homes) == 1


async def test_it_reads_no_more_than_it_is_told_to_and_says_so(tansu: KafkaSettings) -> None:
    config, kafka, room = Config(kafka=tansu, align=SETTINGS), Kafka(tansu), Room()
    await write(kafka, room)
    told: list[int] = []
    report = await Inspector(config, kafka, session=GATE, most=20, now=Micros(now() + 3_600 * SECOND), told=told.append).run()
    [partition] = report.partitions
    assert partition.cut and sum(told) == 20
    assert "read in part only" in "\n".join(lines(report, limit=1))
    whole = await Inspector(config, kafka, session=GATE, most=len(room.records())).run()
    assert not whole.partitions[0].cut


async def test_the_clocks_are_told_from_the_windows_that_are_out(tansu: KafkaSettings) -> None:
    config, kafka, begin = Config(kafka=tansu, align=SETTINGS), Kafka(tansu), Micros(now() - 400 * SECOND)
    ahead, written = {"cam-1": 0, "cam-2": 3, "cam-3": 0}, []
    for second in range(300):
        start = Micros(begin + second * SECOND)
        refs = [
            replace(a_ref(), source=cam, start=seen, end=seen, arrival=Micros(start + 80 * MILLISECOND))
            for cam, by in ahead.items()
            if (seen := Micros(start + by * SECOND))
        ]
        window = replace(a_window(), session=GATE, start=start, end=Micros(start + 2 * SECOND), manifest=tuple(refs))
        written.append(write_window(window))
    async with Producer(kafka) as producer:
        await producer.send(written)
    report = await Inspector(config, kafka).run()
    assert {track.source: round(estimate.offset / SECOND, 2) for track, estimate in report.clocks.items()} == ahead
    shown = "\n".join(lines(report, limit=5))
    assert "1 sensor clocks are off" in shown and "gate  frames  cam-2  +3.000 s" in shown
    first = plain(report, limit=5)["clocks"][0]
    assert (first["source"], first["beyond"]) == ("cam-2", True)
    assert (await Inspector(config, kafka, history=0).run()).clocks == {}


def streamer(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamer", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=60, check=False)


async def test_the_command_prints_for_people_and_for_programs_and_no_secret(tansu: KafkaSettings, tmp_path: Path) -> None:
    source = {"name": "cam-1", "url": "rtsp://viewer:hunter2@192.0.2.1/live"}
    settings = tansu.model_copy(update={"password_env": "BROKER_PASSWORD"})
    sessions = [{"id": "gate", "sources": [source], "expect": []}]
    file = tmp_path / "streamer.yaml"
    file.write_text(yaml.safe_dump(Config(kafka=settings, align=SETTINGS, sessions=sessions).model_dump(mode="json")))  # type: ignore[arg-type]
    rooms = [Room(), Room(HALL)]
    await write(Kafka(tansu), *rooms)

    async def inspect(*arguments: str) -> subprocess.CompletedProcess[str]:
        run = ("align", "inspect", "-c", str(file), *arguments)
        done = await asyncio.to_thread(streamer, *run, BROKER_PASSWORD="s3same")
        assert "hunter2" not in done.stdout + done.stderr and "s3same" not in done.stdout + done.stderr
        return done

    people = await inspect("--limit", "1")
    assert (people.returncode, people.stderr) == (0, "")
    assert "4 partitions, 2 sessions, 10 open windows" in people.stdout and "and 1 more sessions" in people.stdout
    program = json.loads((await inspect("--json", "--session", "gate")).stdout)
    [gate] = program["sessions"]
    assert [window["end"] for window in gate["windows"]] == [format_time(window.end) for window in rooms[0].open()]
    assert gate["windows"][0]["waits_for"] == [
        {
            "modality": "frames",
            "source": "cam-2",
            "progress": format_time(rooms[0].after(8)),
            "needs": format_time(Micros(rooms[0].after(8) + BOUND)),
        }
    ]


async def test_what_is_no_session_is_refused_before_anything_is_read() -> None:
    config = Config(kafka=KafkaSettings(bootstrap="127.0.0.1:1"))
    with pytest.raises(ConfigError, match="--session"):
        await Inspector(config, Kafka(config.kafka), session=SessionId("../gate")).run()
