"""What is broken on a running infer: one dead letter within a second, a window without it that says so, and on it goes."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from structlog.testing import capture_logs

from streamer.config import KafkaSettings
from streamer.events import Evidence, Message, Micros, Modality, Scores, SessionId, SoundEvidence
from streamer.kafka.batches import Written
from streamer.kafka.client import Kafka, Producer
from streamer.stages.envelope import write_frame
from streamer.stages.fuse import FuseInput, Judgement
from streamer.stages.media import encode_flac
from streamer.stages.times import LATEST
from streamer.stages.wire import write_window
from streamer.topology import TOPIC
from tests.agents.infer_room import CountingEngine, Scene, dead_letters, hiss, picture, running
from tests.builders import PARTITIONS, SESSION, a_frame, a_window, at
from tests.stages.test_media import png_of

OTHER = SessionId("gate")  # in another partition than SESSION
HUGE = 30_720  # pixels each way: 943 megapixels in 115 KB


def bomb() -> bytes:
    """Two hours of silence in a small file."""
    return encode_flac(np.zeros(16_000 * 7_200, np.float32))


def huge_png() -> bytes:
    return png_of(HUGE, HUGE, zlib.compress(bytes(HUGE * (HUGE // 8 + 1)), 9))


BROKEN = {
    "a broken JPEG": (Modality.FRAMES, lambda: picture(1)[:20] + b"junk" * 50, "bad_payload"),
    "a truncated JPEG": (Modality.FRAMES, lambda: picture(1)[:-30], "bad_payload"),
    "a truncated FLAC": (Modality.AUDIO, lambda: hiss(1)[:2_000], "bad_payload"),
    "a FLAC bomb": (Modality.AUDIO, bomb, "too_long"),
    "a PNG of 943 megapixels": (Modality.FRAMES, huge_png, "too_many_pixels"),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_what_is_broken_is_buried_within_a_second(tansu: KafkaSettings, what: str) -> None:
    modality, make, reason = BROKEN[what]
    value = make()
    async with Producer(Kafka(tansu)) as producer, running(tansu) as infer:
        scene = Scene(producer)
        await scene.seconds(0, 1)
        bad, took = [], []
        for n in range(3):  # of which one is fast enough, whatever else the machine does
            at_ = 1 + n / 10
            bad.append(await (scene.frame(at_, value) if modality is Modality.FRAMES else scene.audio(at_, value)))
            written = time.monotonic()
            await infer.until(lambda n=n: infer.count("streamer_deadletters_total", stage="infer", reason=reason) == n + 1, "a dead letter")
            took.append(time.monotonic() - written)
        assert min(took) < 1
        await scene.seconds(2, 4)
        await scene.window(0)
        await scene.window(2)
        first, second = await infer.scored(2)
    letters = await dead_letters(Kafka(tansu))
    assert [(one.origin, one.stage, one.reason, one.session) for one in letters] == [(one.origin, "infer", reason, SESSION) for one in bad]
    assert isinstance(first, Scores)
    assert isinstance(second, Scores)
    assert [(one.ref, one.reason) for one in first.absent] == [(one, reason) for one in bad]
    assert not {one.origin for one in bad} & set(first.sources)
    assert len(first.sources) == 3
    assert not second.absent
    assert len(second.sources) == 6


async def test_a_score_waits_until_the_dead_letters_of_its_events_are_acknowledged(
    tansu: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a crash between the two would leave a broken event that nobody was told of. Another session's window shows that infer works."""
    send, held, acknowledge = Producer.send, asyncio.Event(), asyncio.Event()

    async def slow(self: Producer, messages: Sequence[Message]) -> list[Written]:
        if any(message.topic == "deadletter" for message in messages):
            held.set()
            await acknowledge.wait()
        return await send(self, messages)

    monkeypatch.setattr(Producer, "send", slow)
    async with Producer(Kafka(tansu)) as producer, running(tansu) as infer:
        scene, other = Scene(producer), Scene(producer, OTHER)
        await scene.seconds(0, 2)
        await scene.frame(1.3, b"\xff\xd8 no picture")
        await asyncio.wait_for(held.wait(), 30)
        await scene.window(0)
        await other.seconds(0, 2)
        await other.window(0)
        assert [score.session for score in await infer.scored(1)] == [OTHER]
        acknowledge.set()
        assert {score.session for score in await infer.scored(2)} == {SESSION, OTHER}


async def test_what_infer_buried_is_buried_once_though_it_is_fetched_again(tansu: KafkaSettings) -> None:
    async with Producer(Kafka(tansu)) as producer:
        scene = Scene(producer)
        await scene.frame(0, b"\xff\xd8 no picture")
        await scene.seconds(1, 3)
        async with running(tansu) as infer:
            await scene.window(0)
            await scene.window(1)
            await infer.scored(2)
        async with running(tansu) as infer:
            for revision in (1, 2):
                await scene.window(0, revision=revision)
                await infer.until(lambda revision=revision: infer.written == revision, "the revision's score")
            assert infer.count("streamer_deadletters_total", stage="infer", reason="bad_payload") == 1
    ids = {one.id for one in await dead_letters(Kafka(tansu))}
    assert len(ids) == 1


def without(message: Message, name: str) -> Message:
    headers = tuple(header for header in message.headers if header[0] != name)
    return Message(topic=message.topic, key=message.key, value=message.value, headers=headers, partition=message.partition)


async def test_bad_headers_are_left_to_align(tansu: KafkaSettings) -> None:
    async with Producer(Kafka(tansu)) as producer, running(tansu) as infer:
        scene = Scene(producer)
        good = write_frame(a_frame(0, image=picture(0)))
        await producer.send([without(good, "ce_time"), without(good, "content-type"), without(good, "ce_id")])
        await scene.seconds(0, 2)
        await scene.window(0)
        await infer.scored(1)
        assert infer.encoded(Modality.FRAMES) == 4
    assert not await dead_letters(Kafka(tansu))


async def test_windows_that_cannot_be_fetched_or_scored_cost_nothing_but_themselves(tansu: KafkaSettings) -> None:
    async with Producer(Kafka(tansu)) as producer, running(tansu) as infer:
        scene = Scene(producer)
        await scene.seconds(0, 3)
        home = (ref := scene.refs[Modality.FRAMES, 0]).origin.partition
        for change in ({"topic": "scores"}, {"topic": "nosuch"}, {"topic": "audio"}, {"partition": 99}, {"partition": -1}, {"offset": -5}):
            await scene.window(0, more=[replace(ref, origin=replace(ref.origin, **change))])  # type: ignore[arg-type]
        await scene.window(0, end=LATEST)
        await scene.window(0, revision=-1)
        await producer.send([replace(write_window(a_window()), partition=(home + 1) % PARTITIONS)])
        await scene.window(0)
        await infer.scored(1)
        await infer.until(lambda: infer.count("streamer_lag_records", stage="infer", topic="windows") == 0, "all windows done")
    letters = await dead_letters(Kafka(tansu))
    assert [one.origin.topic for one in letters] == ["windows"] * 9
    assert sorted(one.reason for one in letters) == ["bad_payload"] * 8 + ["wrong_partition"]


async def test_what_never_was_in_the_log_is_absent(broker: KafkaSettings) -> None:
    async with Producer(Kafka(broker)) as producer:
        scene = Scene(producer)
        await scene.seconds(0, 4)
        ref = scene.refs[Modality.FRAMES, 0]
        beyond = [replace(ref, id=f"t{offset}", origin=replace(ref.origin, offset=offset)) for offset in (8, 60, 10**12)]
        async with running(broker) as infer:
            await scene.window(0, more=beyond)
            await scene.window(1)
            first, second = await infer.scored(2)
        async with running(broker) as infer:  # what it named does not say where to read on
            await scene.seconds(4, 6)
            await infer.until(lambda: infer.read("frames") == 4, "the new frames read ahead")
            await scene.window(4)
            await infer.until(lambda: infer.written == 1, "the next score")
            assert infer.refetched(Modality.FRAMES) == 0
    assert isinstance(first, Scores)
    assert isinstance(second, Scores)
    assert [(one.ref, one.reason) for one in first.absent] == [(one, "expired") for one in beyond]
    assert len(first.sources) == 6
    assert len(second.sources) == 6
    assert not second.absent


class NoScore(CountingEngine):
    """Its judgement of one window cannot be written."""

    def fuse(self, windows: Sequence[FuseInput]) -> list[Judgement]:
        never = SoundEvidence(label="siren", probability=1.0, start=LATEST, end=Micros(LATEST + 10**9))
        return [
            replace(one, evidence=Evidence(sounds=(never,))) if each.window.start == at(0) else one
            for each, one in zip(windows, super().fuse(windows), strict=True)
        ]


async def test_a_score_that_cannot_be_written_buries_its_window(tansu: KafkaSettings) -> None:
    async with Producer(Kafka(tansu)) as producer, running(tansu, engine=NoScore()) as infer:
        scene = Scene(producer)
        await scene.seconds(0, 3)
        await scene.window(0)
        good = await scene.window(1)
        (score,) = await infer.scored(1)
        await infer.until(lambda: infer.count("streamer_lag_records", stage="infer", topic="windows") == 0, "both windows done")
    assert isinstance(score, Scores)
    assert score.window == good.id
    assert [(one.origin.topic, one.origin.offset, one.reason) for one in await dead_letters(Kafka(tansu))] == [("windows", 0, "unexpected")]


async def test_a_score_larger_than_its_topic_takes_buries_its_window(tansu: KafkaSettings) -> None:
    async with Producer(Kafka(tansu)) as producer, running(tansu) as infer:
        scene = Scene(producer)
        ref = await scene.frame(0, b"\xff\xd8 no picture")
        many = [replace(ref, source="c" * 64, id=f"{number:064}") for number in range(11_500)]  # quoted whole where absent
        window = replace(a_window(0), manifest=tuple(many))
        message = write_window(window)
        assert len(message.value or b"") < TOPIC["windows"].limit
        await producer.send([message])
        await scene.frame(1)
        await scene.window(1)
        (score,) = await infer.scored(1)
    assert isinstance(score, Scores)
    assert score.start == at(1)
    assert [(one.origin.topic, one.reason) for one in await dead_letters(Kafka(tansu))] == [
        ("frames", "bad_payload"),
        ("windows", "too_large"),
    ]


async def test_a_bug_in_the_word_encoder_is_logged_and_costs_its_words(tansu: KafkaSettings) -> None:
    with capture_logs() as logs:
        async with Producer(Kafka(tansu)) as producer, running(tansu) as infer:
            scene = Scene(producer)
            await scene.seconds(0, 2)
            quoted = scene.words(0.5, "poison")
            await scene.window(0, more=[quoted])
            (score,) = await infer.scored(1)
    assert isinstance(score, Scores)
    assert [(one.ref, one.reason) for one in score.absent] == [(quoted, "unexpected")]
    (line,) = [line for line in logs if "a bug in an encoder" in str(line)]
    assert line["log_level"] == "warning"


async def test_a_window_that_cannot_be_read_is_buried_and_the_next_is_scored(tansu: KafkaSettings) -> None:
    async with Producer(Kafka(tansu)) as producer, running(tansu) as infer:
        scene = Scene(producer)
        await scene.seconds(0, 2)
        await producer.send([Message(topic="windows", key=SESSION.encode(), value=b"{", headers=())])
        await scene.window(0)
        await infer.scored(1)
        await infer.until(lambda: infer.count("streamer_lag_records", stage="infer", topic="windows") == 0, "all windows done")
    assert [one.origin.topic for one in await dead_letters(Kafka(tansu))] == ["windows"]
