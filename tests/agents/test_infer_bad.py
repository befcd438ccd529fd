"""What is broken on a running infer: one dead letter within a second, a window without it that says so, and on it goes."""

from __future__ import annotations

import time
import zlib

import numpy as np
import pytest

from streamer.config import KafkaSettings
from streamer.events import Message, Modality, Scores
from streamer.kafka.client import Kafka, Producer
from streamer.stages.envelope import write_frame
from streamer.stages.media import encode_flac
from tests.agents.infer_room import Scene, dead_letters, hiss, picture, running
from tests.builders import SESSION, a_frame
from tests.stages.test_media import png_of

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
        bad = await (scene.frame(1, value) if modality is Modality.FRAMES else scene.audio(1, value))
        written = time.monotonic()
        await infer.until(lambda: infer.count("streamer_deadletters_total", stage="infer", reason=reason) == 1, "a dead letter")
        assert time.monotonic() - written < 1
        await scene.seconds(2, 4)
        await scene.window(0)
        await scene.window(2)
        first, second = await infer.scored(2)
    letters = await dead_letters(Kafka(tansu))
    assert [(one.origin, one.stage, one.reason, one.session) for one in letters] == [(bad.origin, "infer", reason, SESSION)]
    assert isinstance(first, Scores)
    assert isinstance(second, Scores)
    assert [(one.ref, one.reason) for one in first.absent] == [(bad, reason)]
    assert bad.origin not in first.sources
    assert len(first.sources) == 3
    assert not second.absent
    assert len(second.sources) == 6


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


async def test_a_window_that_cannot_be_read_is_buried_and_the_next_is_scored(tansu: KafkaSettings) -> None:
    async with Producer(Kafka(tansu)) as producer, running(tansu) as infer:
        scene = Scene(producer)
        await scene.seconds(0, 2)
        await producer.send([Message(topic="windows", key=SESSION.encode(), value=b"{", headers=())])
        await scene.window(0)
        await infer.scored(1)
        await infer.until(lambda: infer.count("streamer_lag_records", stage="infer", topic="windows") == 0, "all windows done")
    assert [one.origin.topic for one in await dead_letters(Kafka(tansu))] == ["windows"]
