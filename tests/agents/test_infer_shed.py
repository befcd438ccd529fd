"""infer with more frames than its engine can encode: it leaves out some, says so, waits for none of them, and comes back."""

from __future__ import annotations

from itertools import pairwise

import pytest

from streamer.config import InferSettings, KafkaSettings
from streamer.events import SECOND, Modality, Scores
from streamer.kafka.client import Kafka, Producer
from streamer.stages import shed
from tests.agents.infer_load import Load, frames_by_camera, scored, used
from tests.agents.infer_room import CountingEngine, Scene, running

SPEED = 3.0
CAMERAS, FPS = 2, 8
SLOW = 2 / (CAMERAS * FPS * SPEED)  # seconds for each frame: half of them can be encoded


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judge in tenths of a second."""
    monkeypatch.setattr(shed, "JUDGED", 0.5)
    monkeypatch.setattr(shed, "CALM", 1.0)


def settings(*, on: bool = True) -> InferSettings:
    return InferSettings(profile="tiny", batch=4, shed=on, shed_after="300ms")


async def test_too_many_frames_are_thinned_evenly_and_nothing_else_is(tansu: KafkaSettings) -> None:
    engine = CountingEngine(per_frame=SLOW)
    async with Producer(Kafka(tansu)) as producer, running(tansu, settings=settings(), engine=engine) as infer:
        load = Load(Scene(producer), cameras=CAMERAS, fps=FPS, speed=SPEED)
        await load.run(16)
        behind = []
        for _ in range(8):  # of which the machine may have slept through some
            await load.run(1)
            behind.append(len(load.windows) - infer.written)
        level = infer.count("streamer_shedding_level")
        found = await scored(infer, load)
        engine.per_frame = 0
        await infer.until(lambda: infer.count("streamer_shedding_level") == 0, "back to every frame")
        before = infer.count("streamer_frames_shed_total")
        await load.run(4)
        found = await scored(infer, load)
        assert infer.count("streamer_frames_shed_total") == before > 0
        assert infer.encoded(Modality.AUDIO) == 28
        assert infer.encoded(Modality.TRANSCRIPTS) == len(load.windows)
        assert infer.encoded(Modality.FRAMES) + before == 28 * CAMERAS * FPS
        assert infer.refetched(Modality.FRAMES) == 0
    assert level > 0
    assert min(behind) < 5
    scores = [found[window.id] for window in load.windows]
    assert {one.reason for score in scores for one in score.absent} == {"shed"}
    assert {one.ref.modality for score in scores for one in score.absent} == {Modality.FRAMES}
    for window, score in zip(load.windows, scores, strict=True):
        assert len(score.sources) + len(score.absent) == len(window.manifest)
        assert frames_by_camera(used(window, score)).keys() == {"cam-0", "cam-1"}
    assert not any(score.absent for score in scores[-3:])
    kept = {ref.id: ref for window, score in zip(load.windows, scores, strict=True) for ref in used(window, score)}
    for frames in frames_by_camera(list(kept.values())).values():
        assert max(after.start - before.start for before, after in pairwise(frames)) <= (2 + 1 / FPS) * SECOND
    same = {one.ref.origin for score in scores for one in score.absent} & {origin for score in scores for origin in score.sources}
    assert not same  # windows that share a frame agree on it


async def test_without_shedding_the_same_load_piles_up(tansu: KafkaSettings) -> None:
    async with (
        Producer(Kafka(tansu)) as producer,
        running(tansu, settings=settings(on=False), engine=CountingEngine(per_frame=SLOW)) as infer,
    ):
        load = Load(Scene(producer), cameras=CAMERAS, fps=FPS, speed=SPEED)
        await load.run(18)
        assert len(load.windows) - infer.written >= 6
        found = await scored(infer, load)
        assert infer.count("streamer_frames_shed_total") == 0
    assert not any(score.absent for score in found.values())


async def test_a_track_whose_frames_were_all_shed_gets_one_back(tansu: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is fetched by its offset: it was put aside when its turn came."""
    monkeypatch.setattr(shed.Shedding, "sheds", lambda *_: True)
    async with Producer(Kafka(tansu)) as producer, running(tansu) as infer:
        scene = Scene(producer)
        await scene.seconds(0, 3)
        await infer.until(lambda: infer.read("frames") == 6 and infer.encoded(Modality.AUDIO) == 3, "media read ahead")
        await scene.window(0)
        await scene.window(1)
        found = await infer.scored(2)
        assert infer.refetched(Modality.FRAMES) == 2 == infer.encoded(Modality.FRAMES)
    for start, score in enumerate(found):
        assert isinstance(score, Scores)
        assert [one.reason for one in score.absent] == ["shed"] * 3
        assert scene.refs[Modality.FRAMES, start].origin in score.sources


async def test_what_a_revision_needs_again_is_thinned_under_load_and_whole_without(tansu: KafkaSettings) -> None:
    async with Producer(Kafka(tansu)) as producer:
        scene = Scene(producer)
        for number in range(16):
            await scene.frame(number / 8)
        await scene.frame(9)
        await scene.window(8)
        async with running(tansu) as infer:
            await infer.scored(1)
        engine = CountingEngine()
        async with running(tansu, settings=settings(), engine=engine) as infer:  # it reads on behind the last window
            engine.gate.clear()
            await scene.frame(10)
            await scene.window(10)
            await infer.until(lambda: infer.count("streamer_shedding_level") == shed.LEVELS, "as few frames as can be")
            await scene.window(0, revision=1)
            engine.gate.set()
            await infer.until(lambda: infer.written == 2, "the revision's score")
            assert infer.refetched(Modality.FRAMES) == 1
        async with running(tansu) as infer:
            await scene.window(0, revision=2)
            await infer.until(lambda: infer.written == 1, "the next revision's score")
            assert infer.refetched(Modality.FRAMES) == 16
