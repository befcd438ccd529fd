"""Scenes: composed the same each time, and refused when something is missing. The demo's own scene is one of the tests."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from streamer.config import SourceSettings
from streamer.errors import ConfigError
from streamer.events import SECOND, Pace
from streamer.sources.scene import SceneSource, copies, load_scene
from streamer.stages.ingest import RATE
from tests.sources.media import START, film, pictures, recording, sounds, taken

DEMO = Path(__file__).parents[2] / "deploy" / "demo" / "scene.yaml"


def write(folder: Path, **changes: object) -> Path:
    """A black place for six seconds, a light clip in [2, 4), a tone in [3, 4.5)."""
    cv2.imwrite(str(folder / "empty.png"), np.zeros((240, 320, 3), np.uint8))
    film(folder / "clip.mp4", seconds=3)
    recording(folder / "tone.wav", seconds=2)
    scene = {
        "title": "a test",
        "duration": 6,
        "background": "empty.png",
        "clips": [{"file": "clip.mp4", "at": 2, "length": 2, "skip": 1}],
        "sounds": [{"file": "tone.wav", "at": 3, "gain_db": -6, "length": 1.5}],
        "expect": [{"rule": "person", "onset": 2}],
    }
    path = folder / "scene.yaml"
    path.write_text(yaml.safe_dump(scene | changes))
    return path


def scene(path: Path) -> SceneSource:
    return SceneSource(SourceSettings(name="street", url=f"scene:{path}", pace=Pace.RECORDED), start=START)


def test_clips_and_sounds_come_at_their_times(tmp_path: Path) -> None:
    takes = taken(scene(write(tmp_path)))
    light = [(p.at - START) / SECOND for p in pictures(takes) if p.rgb.mean() > 50]
    assert light == [2.0, 2.5, 3.0, 3.5]
    loud = [float(np.abs(c.samples).max()) for c in sounds(takes)]
    assert [level > 0.1 for level in loud] == [False, False, False, True, True, False]
    assert loud[3] == pytest.approx(0.25, abs=0.03)


def test_a_scene_has_every_picture_and_every_second_of_sound(tmp_path: Path) -> None:
    takes = taken(scene(write(tmp_path)))
    assert [p.at - START for p in pictures(takes)] == [n * SECOND // 2 for n in range(12)]
    assert [(c.start - START, len(c.samples)) for c in sounds(takes)] == [(n * SECOND, RATE) for n in range(6)]


@pytest.mark.parametrize("fps", [1, 3, 10, 20, 60])
def test_a_clip_plays_as_fast_as_it_was_taken_whatever_the_rate(tmp_path: Path, fps: float) -> None:
    """The clip grows lighter from 87 to 220 between its seconds 1 and 3, and is shown from 2 to 4."""
    path = write(tmp_path, sounds=[])
    takes = taken(SceneSource(SourceSettings(name="street", url=f"scene:{path}", pace=Pace.RECORDED, fps=fps, audio=False), start=START))
    shown = {(p.at - START) / SECOND: p.rgb.mean() for p in pictures(takes)}
    seen = [second for second, light in shown.items() if light > 50]
    assert seen == pytest.approx([n / fps for n in range(int(6 * fps)) if 2 <= n / fps < 4], abs=1e-6)
    for second, light in shown.items():
        if 2 <= second < 4:
            assert light == pytest.approx(20 + 200 * (second - 1) / 3, abs=12)


def test_a_clip_that_is_shorter_than_its_place_gives_way_to_the_background(tmp_path: Path) -> None:
    takes = taken(scene(write(tmp_path, sounds=[], clips=[{"file": "clip.mp4", "at": 1, "length": 4, "skip": 1}])))
    assert [(p.at - START) / SECOND for p in pictures(takes) if p.rgb.mean() > 50] == [1.0, 1.5, 2.0, 2.5]


def test_a_scene_is_the_same_each_time(tmp_path: Path) -> None:
    first, second = taken(scene(path := write(tmp_path))), taken(scene(path))
    assert [p.rgb.tobytes() for p in pictures(first)] == [p.rgb.tobytes() for p in pictures(second)]
    assert [c.samples.tobytes() for c in sounds(first)] == [c.samples.tobytes() for c in sounds(second)]


def test_the_noise_floor_has_its_level(tmp_path: Path) -> None:
    quiet = sounds(taken(scene(write(tmp_path, sounds=[], noise={"level_db": -40}))))
    rms = np.sqrt(np.mean(np.concatenate([c.samples for c in quiet]) ** 2))
    assert 20 * np.log10(rms) == pytest.approx(-40, abs=0.1)


def test_a_scene_without_its_media_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not there: gone\.jpg"):
        scene(write(tmp_path, background="gone.jpg")).check()
    with pytest.raises(ConfigError, match="duration"):
        scene(write(tmp_path, duration=-1)).check()
    with pytest.raises(ConfigError, match="cannot read the scene"):
        scene(tmp_path / "none.yaml").check()


def test_the_demo_is_a_minute_of_pictures_and_sound() -> None:
    demo = load_scene(DEMO)
    takes = taken(scene(DEMO))
    assert (demo.duration, len(pictures(takes)), len(sounds(takes))) == (60, 120, 60)
    assert {expected.rule for expected in demo.expect} == {"person", "glass-break", "call-for-help", "siren"}
    assert sum(path.stat().st_size for path in DEMO.parent.iterdir()) < 6_000_000


def test_every_file_of_the_demo_has_its_origin() -> None:
    origins = (DEMO.parent / "ORIGINS.md").read_text()
    media = [path for path in DEMO.parent.iterdir() if path.suffix in {".jpg", ".mp4", ".flac"}]
    assert len(media) >= 6
    import hashlib

    for path in media:
        assert f"`{path.name}` | {path.stat().st_size} | `{hashlib.sha256(path.read_bytes()).hexdigest()}`" in origins


def test_copies_are_sessions_of_their_own() -> None:
    sessions = copies(DEMO, 8, pace=Pace.LIVE)
    assert len({session.id for session in sessions}) == 8
    assert {session.sources[0].url for session in sessions} == {f"scene:{DEMO}"}
