"""Rendered scenes of tiny clips that are made here: loudness, peaks, pictures, and what a library finds in its media."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import soundfile

from models.evaluation.happenings import Happening
from models.evaluation.library import Item, Library
from models.evaluation.media import GREY, HEIGHT, LENT, RATE, WIDTH, Media, Rgb, audible, fitted, loudest
from models.evaluation.scenes import NOISE_DB, PEAK, back_and_forth, background, looped, mixed, render, rms
from models.evaluation.scripts import Script, draw
from models.features import Array
from models.packages import State
from models.recordings import Clip, Kind, Modality, Package, Row, Split
from tests.models.evaluation.builders import said, script

VIDEO_S = 80


def noise(seconds: float, *, rate: int = RATE, level: float = 0.1, seed: int = 0) -> Array:
    return (np.random.default_rng(seed).standard_normal(round(seconds * rate)) * level).astype(np.float32)


def row(folder: Path, label: str, name: str, modality: Modality, *, split: Split = Split.TRAIN, seconds: float = 0.0) -> Row:
    clip = Clip(
        path=f"tiny/{name}", member=name, size=1, sha256="", label=label, modality=modality, recording=name, split=split, seconds=seconds
    )
    package = Package(kind=Kind.DEBIAN, name="tiny", version="1", sha256="", size=1, licence="", origin="", clips=(clip,))
    return Row(package=package, clip=clip, path=folder / name, state=State.OK)


def sound(folder: Path, label: str, samples: Array, *, rate: int = RATE) -> Row:
    soundfile.write(folder / f"{label}.wav", samples, rate, subtype="FLOAT")
    return row(folder, label, f"{label}.wav", Modality.AUDIO, seconds=len(samples) / rate)


def still(folder: Path, label: str, colour: tuple[int, int, int], *, name: str = "") -> Row:
    name = name or f"{label}.png"
    cv2.imwrite(str(folder / name), np.full((30, 40, 3), colour[::-1], np.uint8))
    return row(folder, label, name, Modality.FRAMES)


def video(folder: Path) -> Row:
    """Two frames a second, each as bright as its second."""
    with av.open(str(folder / "vtest.avi"), "w") as container:
        stream = container.add_stream("mjpeg", rate=Fraction(2), options={"qscale": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number in range(2 * VIDEO_S):
            picture = np.full((48, 64, 3), number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return row(folder, "person", "vtest.avi", Modality.FRAMES, seconds=VIDEO_S)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Media:
    folder = tmp_path_factory.mktemp("clips")
    shot = np.concatenate([np.zeros(1600, np.float32), noise(0.3, level=0.5), noise(1.0, level=0.02)])
    heard = ("scream", "siren", "footsteps", "explosion", "glass_break", "door", "speech", "thunder")
    rows = [sound(folder, name, noise(1.5, seed=at)) for at, name in enumerate(heard)]
    rows += [
        sound(folder, "ambient", noise(3.0)),
        sound(folder, "gunshot", shot),
        sound(folder, "laugh", noise(1.0, rate=11_025), rate=11_025),
    ]
    rows += [still(folder, "street", (10, 200, 30)), still(folder, "photo", (200, 10, 30)), video(folder)]
    return Media(rows)


@pytest.fixture(scope="module")
def library(media: Media) -> Library:
    return media.library(Split.TRAIN)


def of(library: Library, label: str) -> Item:
    return next(item for item in library.items if item.label == label)


def playing(library: Library, label: str, *, snr_db: float, level_db: float = -40.0) -> Script:
    item = of(library, label)
    begin, end = item.parts[0]
    one = Happening(
        item=item, start=4.0, skip=begin, seconds=end - begin, counts=(4 + item.loud[0] - begin, 4 + item.loud[1] - begin), snr_db=snr_db
    )
    return replace(script(one), sound=of(library, "ambient"), level_db=level_db, picture=of(library, "street"))


def decibels(ratio: float) -> float:
    return float(20 * np.log10(ratio))


@pytest.mark.parametrize("label", ["siren", "gunshot", "laugh"])
@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.0, 20.0])
def test_a_sound_stands_over_the_background_as_the_script_says(media: Media, library: Library, label: str, snr_db: float) -> None:
    scene = playing(library, label, snr_db=snr_db)
    back_N = background(scene, media)
    start, end = (round(at * RATE) for at in scene.happenings[0].counts)
    piece_N = (mixed(scene, media) - back_N)[start:end]
    assert decibels(rms(back_N)) == pytest.approx(scene.level_db, abs=1)
    assert decibels(rms(piece_N) / rms(back_N)) == pytest.approx(snr_db, abs=1)


def test_a_mix_that_would_clip_is_brought_down_as_a_whole(media: Media, library: Library) -> None:
    scene = playing(library, "gunshot", snr_db=24.0, level_db=-20.0)
    mix_N, quiet_N = mixed(scene, media), mixed(replace(scene, level_db=-60.0), media)
    assert np.abs(mix_N).max() == pytest.approx(PEAK, abs=1e-4)
    assert (np.abs(mix_N) > PEAK - 1e-3).sum() == 1
    np.testing.assert_allclose(mix_N / rms(mix_N), quiet_N / rms(quiet_N), atol=1e-3)


def test_a_scene_is_twelve_seconds_of_sound_and_twenty_four_pictures_and_the_same_again(media: Media, library: Library) -> None:
    for seed in range(12):
        drawn = draw(Split.TRAIN, seed, library)
        scene, again = render(drawn, media), render(drawn, media)
        assert scene.sound_N.dtype == np.float32 and scene.sound_N.shape == (12 * RATE,)
        assert 0 < np.abs(scene.sound_N).max() <= PEAK + 1e-6
        assert {picture.shape for picture in scene.pictures} == {(HEIGHT, WIDTH, 3)} and len(scene.pictures) == 24
        assert scene.words == drawn.words
        assert np.array_equal(scene.sound_N, again.sound_N)
        assert all(np.array_equal(one, other) for one, other in zip(scene.pictures, again.pictures, strict=True))


def brightness(pictures: tuple[Rgb, ...]) -> list[int]:
    return [round(float(picture.mean())) for picture in pictures]


def test_a_person_moves_while_seen_and_the_background_is_there_before_and_after(media: Media, library: Library) -> None:
    person = Happening(item=of(library, "person"), start=3.0, skip=40.0, seconds=2.0, counts=(3.0, 5.0))
    scene = replace(script(person, words=(said("neutral", (1, 2)),)), sound=of(library, "ambient"), picture=of(library, "street"))
    shown = brightness(render(scene, media).pictures)
    assert set(shown[:6] + shown[10:]) == {80}
    assert shown[6:10] == pytest.approx([80, 81, 82, 83], abs=1)


def test_the_empty_street_is_the_median_of_the_video(media: Media, library: Library) -> None:
    empty = next(item for item in library.items if item.empty)
    assert empty.label == "street" and empty.recording == of(library, "person").recording
    assert media.frames(empty, empty.parts[0])[0].mean() == pytest.approx(VIDEO_S, abs=12)


def test_a_short_stretch_runs_back_and_forth() -> None:
    frames = [np.full((1, 1, 3), value, np.uint8) for value in range(3)]
    assert [int(back_and_forth(frames, number)[0, 0, 0]) for number in range(8)] == [0, 1, 2, 1, 0, 1, 2, 1]
    assert all(back_and_forth(frames[:1], number) is frames[0] for number in range(3))


def test_a_picture_keeps_its_proportions_between_grey_bars() -> None:
    wide = fitted(np.full((100, 400, 3), 255, np.uint8))
    assert wide.shape == (HEIGHT, WIDTH, 3)
    assert (wide[[0, -1]] == GREY).all() and (wide[HEIGHT // 2] == 255).all()
    assert (wide[:, 0, 0] == 255).sum() == WIDTH / 4


def test_a_library_finds_where_a_sound_is_and_where_it_is_loudest(library: Library) -> None:
    shot = of(library, "gunshot")
    assert shot.parts[0] == pytest.approx((0.1, 0.55), abs=0.03)
    assert shot.loud == pytest.approx(shot.parts[0], abs=0.06)
    assert of(library, "ambient").parts == ((0.0, 3.0),)
    assert audible(np.zeros(800, np.float32)) == (0.0, 0.05)
    assert loudest(np.ones(RATE, np.float32), (0.2, 1.0)) == (0.2, 0.7)


def test_a_loop_is_no_click_where_it_begins_anew() -> None:
    tone_N = np.sin(2 * np.pi * 220.3 * np.arange(RATE) / RATE).astype(np.float32)
    twice_N = np.tile(looped(tone_N), 2)
    assert np.abs(np.diff(twice_N)).max() < 1.5 * np.abs(np.diff(tone_N)).max()


def test_a_stream_goes_on_where_it_was(media: Media, library: Library) -> None:
    base = replace(script(seconds=2.0), sound=of(library, "ambient"), picture=of(library, "street"))
    whole_N = background(replace(base, seconds=4.0), media)
    second_N = background(replace(base, start=2.0), media)
    assert decibels(rms(second_N - whole_N[2 * RATE :]) / rms(second_N)) < NOISE_DB + 4  # their noise is another
    assert decibels(rms(second_N - whole_N[: 2 * RATE]) / rms(second_N)) > 0


def test_no_moment_is_digital_silence(media: Media, library: Library) -> None:
    scene = replace(playing(library, "gunshot", snr_db=10.0), sound=of(library, "gunshot"))
    assert (media.sound("tiny/tiny/gunshot.wav")[:1600] == 0).all()
    assert (mixed(scene, media) == 0).mean() < 1e-3


def spans(media: Media, *, lend: bool) -> Iterator[tuple[Split, list[Item]]]:
    for split in Split:
        yield split, [item for item in media.library(split, lend=lend).items if item.label == "person"]


def test_no_split_has_another_ones_video_unless_it_is_lent(media: Media) -> None:
    assert {split: len(items) for split, items in spans(media, lend=False)} == {split: int(split is Split.TRAIN) for split in Split}
    lent = dict(spans(media, lend=True))
    assert lent[Split.TEST] == []
    assert {split: items[0].parts[0] for split, items in lent.items() if items} == LENT
    assert [split for split, items in lent.items() if items and items[0].lent] == [Split.VALIDATION, Split.CALIBRATION]
    stretches = sorted(LENT.values())
    assert all(other[0] - one[1] >= 5 for one, other in pairwise(stretches))
