"""The sessions bench without its broker: what it plays, and what it makes of a measurement."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import soundfile

from streamer.sources.scene import load_scene
from tests.bench.latency import Play, scene_of
from tests.bench.sessions import SHED, beginning, binds, borne, summary, talking, turned


def test_words_fill_a_fifth_of_the_scene_and_do_not_overlap(tmp_path: Path) -> None:
    scene = load_scene(talking(2, tmp_path))
    said = [cue for cue in scene.sounds if cue.file in ("moment.flac", "help.flac")]
    lengths = [soundfile.info(tmp_path / "scene" / cue.file).duration for cue in said]
    assert sum(lengths) / scene.duration == pytest.approx(0.2, abs=0.01)
    assert all(one.at + length < next_one.at for one, length, next_one in zip(said, lengths, said[1:], strict=False))


def test_a_quick_scene_is_its_beginning(tmp_path: Path) -> None:
    assert load_scene(beginning(1, tmp_path)).duration == 15


def test_what_happens_in_sessions_is_spread_over_their_scene(tmp_path: Path) -> None:
    scene = talking(1, tmp_path)
    begun = Play(sessions=4, compose=talking, turn=turned, spread=2.0).begun(scene, 1_795_435_200.0)
    scenes = [load_scene(Path(one.sources[0].url.removeprefix("scene:"))) for one in begun]
    glass = [next(cue.at for cue in one.sounds if cue.file == "glass.flac") for one in scenes]
    assert glass == pytest.approx([30.5, 45.5, 0.5, 15.5])
    assert {(one.duration, len(one.sounds), len(one.clips)) for one in scenes} == {(60.0, 9, 1)}


def test_sessions_begin_evenly_over_the_spread(tmp_path: Path) -> None:
    scene = scene_of(1, tmp_path)
    begun = Play(sessions=4, compose=scene_of, spread=2.0).begun(scene, 1_795_435_200.0)
    assert [one.id for one in begun] == ["street-1", "street-2", "street-3", "street-4"]
    assert [datetime.fromisoformat(one.sources[0].start).timestamp() - 1_795_435_200 for one in begun] == [0.0, 0.5, 1.0, 1.5]


@pytest.mark.parametrize(
    ("busy", "told"),
    [
        ({"infer": 0.5, "broker": 0.3, "machine": 0.9}, "nothing is full: 0.90 of 2 cores, most by infer, 0.50"),
        ({"infer": 0.95, "broker": 0.3, "machine": 1.4}, "infer: 0.95 cores"),
        ({"infer": 0.9, "broker": 0.8, "machine": 1.9}, "the machine: 1.90 of 2 cores, 0.20 by others; of ours most by infer, 0.90"),
    ],
)
def test_what_is_full_binds(busy: dict[str, float], told: str) -> None:
    assert binds(busy, 2) == told


@pytest.mark.parametrize(("p99", "shed", "fine"), [(250.0, 0, True), (251.0, 0, False), (100.0, 1, False)])
def test_a_step_is_borne_within_the_bound_and_with_no_frame_left_out(p99: float, shed: int, fine: bool) -> None:
    one = measured(4, p99=p99, shed=shed)
    told = summary(one, 60)
    assert told["borne"] is fine
    assert (told["infer"], told["encoding %"], told["lag"]) == (0.1, 50.0, 3)


def test_the_figure_is_the_last_step_before_the_first_that_was_too_much() -> None:
    rows = [summary(measured(sessions, p99=p99), 60) for sessions, p99 in ((2, 90.0), (4, 120.0), (8, 300.0), (12, 240.0))]
    assert [borne(rows), borne(rows[:2]), borne(rows[2:])] == [4, 4, 0]


def measured(sessions: int, *, p99: float, shed: int = 0) -> dict[str, Any]:
    return {
        "sessions": sessions,
        "windows": 60,
        "p50 ms": 50.0,
        "p99 ms": p99,
        "max ms": p99,
        "lag": {"infer": 3.0, "align": 0.0},
        "infer": {SHED: shed, 'streamer_encode_seconds_sum{modality="frames"}': 24.0, 'streamer_encode_seconds_sum{modality="audio"}': 6.0},
        "busy": {"infer": 0.1 * sessions, "broker": 0.2, "machine": 1.0},
    }
