"""infer on both brokers, with the tiny engine: order, encoding once, fetching, bad media."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from streamer.config import InferSettings, KafkaSettings
from streamer.events import Modality, Scores, SessionId, SessionMark
from streamer.kafka.client import Kafka, Producer
from streamer.stages.wire import write_silence
from tests.agents.infer_room import Scene, committed, dead_letters, picture, running, scores_of
from tests.builders import a_silence, at
from tests.kafka.apache import delete_before


@pytest.fixture
async def scene(broker: KafkaSettings) -> AsyncIterator[Scene]:
    async with Producer(Kafka(broker)) as producer:
        yield Scene(producer)


async def test_scores_come_in_the_order_of_windows_and_marks_keep_their_place(broker: KafkaSettings, scene: Scene) -> None:
    await scene.seconds(0, 6)
    async with running(broker) as infer:
        windows = [await scene.window(start) for start in range(4)]
        await scene.producer.send([write_silence("windows", a_silence(6))])
        windows.append(await scene.window(4))
        found = await infer.scored(6)
    assert [one.window if isinstance(one, Scores) else one for one in found] == [
        *(window.id for window in windows[:4]),
        a_silence(6),
        windows[4].id,
    ]
    assert all(one.sources and not one.absent for one in found if isinstance(one, Scores))


async def test_overlapping_windows_encode_each_event_once(broker: KafkaSettings, scene: Scene) -> None:
    async with running(broker) as infer:
        for second in range(8):
            await scene.seconds(second, second + 1)
            if second:
                await scene.window(second - 1)
        await infer.scored(7)
        assert infer.encoded(Modality.FRAMES) == 16
        assert infer.encoded(Modality.AUDIO) == 8


async def test_windows_from_before_the_start_are_scored_with_all_their_events_encoded_once(broker: KafkaSettings, scene: Scene) -> None:
    await scene.seconds(0, 20)
    for start in range(19):
        await scene.window(start)
    async with running(broker) as infer:
        found = await infer.scored(19)
        assert infer.encoded(Modality.FRAMES) == 40
    assert all(isinstance(one, Scores) and len(one.sources) == 6 for one in found[:18])


async def test_words_that_were_never_read_are_encoded_from_their_quotation(broker: KafkaSettings, scene: Scene) -> None:
    await scene.seconds(0, 2)
    async with running(broker) as infer:
        await scene.window(0)
        await scene.window(0, revision=1, more=[scene.words(0.5, "help me")])
        first, second = await infer.scored(2)
        assert infer.encoded(Modality.TRANSCRIPTS) == 1
    assert isinstance(first, Scores)
    assert isinstance(second, Scores)
    assert (second.revision, second.window) == (1, first.window)
    assert Modality.TRANSCRIPTS in second.classes["call_for_help"].contributions


async def test_a_restart_goes_on_and_fetches_what_an_old_revision_needs(broker: KafkaSettings, scene: Scene) -> None:
    await scene.seconds(0, 6)
    async with running(broker) as infer:
        for start in range(5):
            await scene.window(start)
        await infer.scored(5)
    assert await committed(Kafka(broker)) == 5
    await scene.seconds(6, 8)
    async with running(broker) as infer:
        await scene.window(5)
        await scene.window(6)
        await infer.until(lambda: infer.count("streamer_scores_total") == 2, "2 scores more")
        assert infer.encoded(Modality.FRAMES) <= 8
        before = infer.encoded(Modality.FRAMES)
        await scene.window(0, revision=1)
        await infer.until(lambda: infer.count("streamer_scores_total") == 3, "the revision's score")
        assert infer.refetched(Modality.FRAMES) >= 4
        assert infer.encoded(Modality.FRAMES) == before + 4
    await scene.window(1, revision=1)
    async with running(broker) as infer:
        await infer.until(lambda: infer.written >= 1, "the new revision's score")
    found = await scores_of(Kafka(broker))
    assert len(found) == 9
    assert isinstance(found[-1], Scores)
    assert (found[-1].start, found[-1].revision) == (at(1), 1)


async def test_an_expired_event_is_absent_and_says_so(apache_kafka: KafkaSettings) -> None:
    kafka = Kafka(apache_kafka)
    async with Producer(kafka) as producer:
        scene = Scene(producer)
        await scene.seconds(0, 3)
        await scene.window(1)
        async with running(apache_kafka) as infer:
            await infer.scored(1)
        await delete_before(kafka, kafka.partition("frames", scene.refs[Modality.FRAMES, 0].origin.partition), 2)
        async with running(apache_kafka) as infer:
            await scene.window(0, revision=1)
            await infer.until(lambda: infer.written == 1, "the score")
    found = [one for one in await scores_of(kafka) if isinstance(one, Scores) and one.revision == 1]
    assert [(one.ref.origin.offset, one.reason) for one in found[0].absent] == [(0, "expired"), (1, "expired")]
    assert len(found[0].sources) == 4
    assert not await dead_letters(kafka)


async def test_an_event_too_large_to_be_read_ahead_is_fetched(broker: KafkaSettings, scene: Scene) -> None:
    noise = [b"\xff" * 3_000_000]  # 3 MB that are no picture: larger than half of a lane's 4 MB
    await scene.frame(0, noise[0])
    await scene.seconds(1, 4)
    async with running(broker, settings=InferSettings(profile="tiny", cache_mb=16)) as infer:
        for start in range(3):
            await scene.window(start)
        found = await infer.scored(3)
    assert [[one.reason for one in score.absent] for score in found if isinstance(score, Scores)] == [["bad_payload"], [], []]


async def test_several_sessions_share_partitions_and_batches(broker: KafkaSettings) -> None:
    async with Producer(Kafka(broker)) as producer, running(broker) as infer:
        scenes = [Scene(producer, session=SessionId(f"yard-{number}")) for number in range(6)]
        for scene in scenes:
            await scene.seconds(0, 3)
        for scene in scenes:
            await scene.window(0)
            await scene.window(1)
        found = await infer.scored(12)
        assert infer.encoded(Modality.FRAMES) == 36
    for scene in scenes:
        assert [one.start for one in found if one.session == scene.session and isinstance(one, Scores)] == sorted(
            one.start for one in found if one.session == scene.session and isinstance(one, Scores)
        )


async def test_a_codec_bug_costs_one_event(broker: KafkaSettings, scene: Scene) -> None:
    async with running(broker, poison=185) as infer:  # picture(5) is 185
        await scene.seconds(0, 3)
        await scene.frame(2.9, picture(5))
        await scene.window(0)
        await scene.window(1)
        found = await infer.scored(2)
    letters = await dead_letters(Kafka(broker))
    assert [(one.reason, one.stage) for one in letters] == [("unexpected", "infer")] * 2
    assert found[0].absent[0].ref.start == scene.refs[Modality.FRAMES, 0.5].start  # type: ignore[union-attr]
    assert isinstance(found[1], Scores)
    assert not isinstance(found[1], SessionMark)
