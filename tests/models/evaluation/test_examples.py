"""Examples of scenes composed of the demo's real recordings: their windows are the truth's, encoded as live, kept as they were made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.evaluation.examples import Examples, bar, build, cached, encode, key
from models.evaluation.happenings import Happening, Words
from models.evaluation.library import Library
from models.evaluation.media import RATE, Media, Rgb
from models.evaluation.scenes import Scene, render, sent
from models.evaluation.scripts import Script
from models.evaluation.truth import label
from models.features import Array, Heard, Seen
from models.fusion.windows import Windows
from models.packages import State
from models.profiles import Encoders
from models.quality import PICTURE, of_picture, of_sound, of_words
from models.recordings import Clip, Kind, Modality, Package, Row, Split
from models.tokens import AUDIO_WIDTH, gather, windows_of
from models.yamnet import PATCH_SAMPLES
from streamer.config import InferSettings, SourceSettings
from streamer.engine import open_engine
from streamer.events import SECOND
from streamer.stages.media import decode_image, decode_sound, encode_flac, encode_jpeg
from tests.models.evaluation.builders import said, script

DEMO = Path(__file__).parents[3] / "deploy" / "demo"
CLIPS = {"glass_break": "glass.flac", "siren": "siren.flac", "ambient": "moment.flac", "street": "street.jpg", "person": "pedestrians.mp4"}
TINY = Encoders.tiny()


def row(name: str, path: str) -> Row:
    modality = Modality.AUDIO if path.endswith("flac") else Modality.FRAMES
    seconds = 2.0 if path.endswith("mp4") else 0.0
    clip = Clip(
        path=f"demo/{path}",
        member=path,
        size=1,
        sha256="",
        label=name,
        modality=modality,
        recording=path,
        split=Split.TRAIN,
        seconds=seconds,
    )
    package = Package(kind=Kind.DEBIAN, name="demo", version="1", sha256="", size=1, licence="", origin="", clips=(clip,))
    return Row(package=package, clip=clip, path=DEMO / path, state=State.OK)


@pytest.fixture(scope="module")
def media() -> Media:
    return Media([row(name, path) for name, path in CLIPS.items()])


@pytest.fixture(scope="module")
def library(media: Media) -> Library:
    return media.library(Split.TRAIN)


@pytest.fixture(scope="module")
def bundled(home: Path) -> Encoders:
    return Encoders.bundled(home)


def played(library: Library, name: str, start: float, *, words: tuple[Words, ...] = (), seed: int = 0, seconds: float = 6.0) -> Script:
    (item,) = (one for one in library.items if one.label == name)
    begin, end = item.parts[0]
    length = 2.0 if item.modality is Modality.FRAMES else min(end - begin, 2.0)
    one = Happening(item=item, start=start, skip=begin, seconds=length, counts=(start, start + length), snr_db=20.0)
    sound, picture = (next(item for item in library.items if item.label == label) for label in ("ambient", "street"))
    return replace(script(one, words=words, seconds=seconds), sound=sound, picture=picture, seed=seed)


def several(library: Library) -> list[Script]:
    return [
        played(library, "siren", 1.0, words=(said("neutral", (2.5, 3.5)),), seed=1),
        played(library, "person", 2.0, seed=2, seconds=8.0),
        replace(played(library, "glass_break", 3.0, seed=3), start=60.0),
    ]


def same(one: Windows, other: Windows) -> bool:
    return all(
        torch.equal(getattr(left, part), getattr(right, part))
        for (_, left), (_, right) in zip(one.streams(), other.streams(), strict=True)
        for part in ("tokens_BTD", "mask_BT", "quality_BQ", "present_B")
    )


def test_every_row_is_the_window_that_truth_labels(media: Media, library: Library) -> None:
    scripts = several(library)
    found, truth = build(scripts, media, TINY), label(scripts)
    assert len(found) == len(truth.start_B) == 5 + 7 + 5
    np.testing.assert_array_equal(found.truth.truth_BC, truth.truth_BC)
    assert found.truth.recordings == truth.recordings
    for at, one in enumerate(scripts):
        rows_ = np.flatnonzero(truth.script_B == at)
        events = encode(render(one, media), TINY)
        slow = [gather(number * SECOND, (number + 2) * SECOND, events) for number in range(len(rows_))]
        assert same(found.take(rows_).windows, windows_of(slow))
    assert [int(many) for many in found.windows.frames.mask_BT.sum(1)] == [4] * 17
    assert [int(many) for many in found.windows.audio.mask_BT.sum(1)] == [2] * 17


def test_words_are_in_the_windows_that_they_touch_and_nowhere_else(media: Media, library: Library) -> None:
    found = build(several(library), media, TINY)
    assert np.flatnonzero(found.windows.transcripts.present_B).tolist() == [1, 2, 3]
    np.testing.assert_array_equal(found.windows.transcripts.quality_BQ[1], of_words("words", 0.9))


class Counted:
    """Tiny encoders that keep what they were asked."""

    def __init__(self) -> None:
        self.pictures: list[Rgb] = []
        self.sounds: list[Array] = []

    def seen(self, images: list[Rgb]) -> list[Seen]:
        self.pictures += images
        return TINY.images(images)

    def heard(self, sounds: list[Array]) -> list[Heard]:
        self.sounds += sounds
        return TINY.sounds(sounds)

    def encoders(self) -> Encoders:
        return Encoders(images=self.seen, sounds=self.heard, words=TINY.words, fingerprint="counted")  # type: ignore[arg-type]


def test_sound_is_encoded_in_chunks_of_a_second_and_what_was_encoded_is_remembered(media: Media, library: Library) -> None:
    counted, one = Counted(), played(library, "person", 2.0)
    longer = replace(one, seconds=5.5)
    build([one, longer, one], media, counted.encoders())
    assert [len(sound) / RATE for sound in counted.sounds] == [1.0] * 6 + [0.5]
    np.testing.assert_array_equal(np.concatenate(counted.sounds[:6]), sent(render(one, media)).sound_N)
    assert len(counted.pictures) == len({picture.tobytes() for picture in counted.pictures}) == 1 + 4


def darker(scene: Scene, seed: int) -> Scene:
    """Each picture a new array; how dark depends on the seed."""
    share = np.random.default_rng(seed).uniform(0.1, 0.9)
    return replace(scene, pictures=tuple((picture * share).astype(np.uint8) for picture in scene.pictures))


def test_a_corrupted_scene_is_what_is_encoded_and_its_seed_is_its_own(media: Media, library: Library) -> None:
    scripts = several(library)
    clean = build(scripts, media, TINY)
    first, again, other = (build(scripts, media, TINY, corrupt=darker, seed=seed) for seed in (1, 1, 2))
    assert same(first.windows, again.windows)
    brightness = [one.windows.frames.quality_BQ[:, PICTURE.index("brightness")] for one in (clean, first, other)]
    assert (brightness[1] < brightness[0]).all() and not torch.isclose(brightness[1], brightness[2], atol=0.01).any()
    assert len({round(float(value), 3) for value in (brightness[1] / brightness[0])[[0, 5, 12]]}) == 3
    assert torch.equal(clean.windows.audio.tokens_BTD, first.windows.audio.tokens_BTD)


def test_each_segment_of_a_stream_has_a_seed_of_its_own(media: Media, library: Library) -> None:
    one, seeds = played(library, "siren", 1.0), list[int]()

    def kept(scene: Scene, seed: int) -> Scene:
        seeds.append(seed)
        return scene

    build([one, replace(one, start=60.0), one], media, TINY, corrupt=kept)
    assert seeds[0] == seeds[2] != seeds[1]


def test_a_scene_is_the_same_whatever_stands_beside_it(media: Media, library: Library) -> None:
    scripts = several(library)
    together = build(scripts, media, TINY, corrupt=darker, seed=5)
    for at, one in enumerate(scripts[1:], start=1):
        alone = build([one], media, TINY, corrupt=darker, seed=5)
        rows_ = np.flatnonzero(together.truth.script_B == at)
        taken = together.take(rows_).windows
        assert torch.equal(alone.windows.frames.tokens_BTD, taken.frames.tokens_BTD)
        assert torch.equal(alone.windows.audio.tokens_BTD, taken.audio.tokens_BTD)


def test_taken_rows_are_those_rows_in_that_order(media: Media, library: Library) -> None:
    found = build(several(library), media, TINY)
    taken = found.take([11, 0, 11])
    assert len(taken) == 3 and taken.truth.script_B.tolist() == [1, 0, 1] and taken.truth.groups == found.truth.groups
    assert taken.truth.recordings == tuple(found.truth.recordings[at] for at in (11, 0, 11))
    assert torch.equal(taken.windows.audio.tokens_BTD[1], found.windows.audio.tokens_BTD[0])
    assert same(found.take(np.arange(len(found))).windows, found.windows)
    assert len(found.take([])) == 0


def test_what_was_saved_comes_back_to_the_bit(media: Media, library: Library, tmp_path: Path) -> None:
    found = build(several(library), media, TINY)
    found.save(tmp_path / "new" / "one.safetensors")
    back = Examples.load(tmp_path / "new" / "one.safetensors")
    assert same(back.windows, found.windows)
    for name in ("truth_BC", "script_B", "start_B", "conflict_B", "single_B", "group_B"):
        saved, made = getattr(back.truth, name), getattr(found.truth, name)
        assert saved.dtype == made.dtype and np.array_equal(saved, made)
    assert (back.truth.groups, back.truth.recordings) == (found.truth.groups, found.truth.recordings)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["one.safetensors"]


def test_another_format_and_another_file_are_refused(
    media: Media, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.safetensors"
    path.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="holds no examples"):
        Examples.load(path)
    monkeypatch.setattr("models.evaluation.examples.FORMAT", 0)
    build([played(library, "siren", 1.0)], media, TINY).save(path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="has format 0"):
        Examples.load(path)


def test_a_key_changes_with_whatever_examples_are_made_of(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = several(library)
    before = key(scripts, TINY)
    assert key(several(library), Encoders.tiny()) == before
    moved = replace(scripts[0], happenings=(replace(scripts[0].happenings[0], snr_db=20.5),))
    others = [
        key([moved, *scripts[1:]], TINY),
        key(scripts[::-1], TINY),
        key(scripts[:-1], TINY),
        key(scripts, replace(TINY, fingerprint="another")),
        key(scripts, TINY, corruption="dark"),
        key(scripts, TINY, seed=1),
    ]
    monkeypatch.setattr("models.evaluation.examples.FORMAT", 0)
    others.append(key(scripts, TINY))
    monkeypatch.undo()
    clips = [SimpleNamespace(clips=(SimpleNamespace(sha256="0"),))]
    monkeypatch.setattr("models.evaluation.examples.recordings.manifest", lambda: clips)
    others.append(key(scripts, TINY))
    assert len({before, *others}) == 9


def test_what_is_cached_is_made_once_and_never_used_for_another_key(media: Media, library: Library, tmp_path: Path) -> None:
    made: list[str] = []

    def make(name: str, start: float) -> Examples:
        made.append(name)
        return build([played(library, "siren", start)], media, TINY)

    first = cached(tmp_path, "a", lambda: make("a", 1.0))
    again = cached(tmp_path, "a", lambda: make("a again", 1.0))
    other = cached(tmp_path, "b", lambda: make("b", 4.0))
    assert made == ["a", "b"]
    assert same(first.windows, again.windows) and not same(first.windows, other.windows)


def test_progress_counts_scenes(media: Media, library: Library) -> None:
    with bar() as progress:
        build(several(library), media, TINY, progress=progress)
        (task,) = progress.tasks
        assert (task.completed, task.total) == (3, 3)


@pytest.fixture(scope="module")
def real(media: Media, library: Library, bundled: Encoders) -> tuple[list[Script], Examples]:
    scripts = several(library)
    return scripts, build(scripts, media, bundled)


def test_real_encoders_notice_what_is_there(real: tuple[list[Script], Examples]) -> None:
    _, found = real
    siren, person = (found.truth.truth_BC[:, at] for at in (5, 0))
    assert siren.any() and person.any() and found.windows.audio.tokens_BTD.shape == (17, 2, AUDIO_WIDTH)
    chance_B = found.windows.frames.tokens_BTD[:, :, 0].amax(1).numpy()
    assert chance_B[person].min() > 0.0 > chance_B[~person].max()
    loudness_B = found.windows.audio.quality_BQ[:, 0].numpy()
    assert loudness_B[:5][siren[:5]].mean() > loudness_B[:5][~siren[:5]].mean()


def test_a_scene_is_encoded_as_the_engine_encodes_it_live(
    media: Media, home: Path, bundled: Encoders, real: tuple[list[Script], Examples]
) -> None:
    scene = render(real[0][0], media)
    engine = open_engine(InferSettings(device="cpu"), home)
    events = encode(scene, bundled)
    jpegs = [encode_jpeg(picture, SourceSettings(name="a", url="scene:a").quality) for picture in scene.pictures]
    flacs = [encode_flac(chunk) for chunk in scene.sound_N.reshape(-1, RATE)]
    live = [
        *engine.encode_frames([decode_image(jpeg, 34_000_000) for jpeg in jpegs]),
        *(engine.encode_audio([decode_sound(flac, "audio/flac", SECOND)])[0] for flac in flacs),
        *engine.encode_words([one.sentence.text for one in scene.words]),
    ]
    alike = windows_of([gather(0, 12 * SECOND, [replace(one, features=features) for one, features in zip(events, live, strict=True)])])
    for (_, one), (_, other) in zip(windows_of([gather(0, 12 * SECOND, events)]).streams(), alike.streams(), strict=True):
        torch.testing.assert_close(one.tokens_BTD, other.tokens_BTD, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(one.quality_BQ, other.quality_BQ, atol=1e-6, rtol=1e-5)


def test_quality_is_of_each_event_alone_and_of_no_padding(bundled: Encoders) -> None:
    noise_N = (np.random.default_rng(0).normal(size=RATE // 2) * 0.1).astype(np.float32)
    picture = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    for encoders in (bundled, TINY):
        _, short = encoders.sounds([np.ones(RATE, np.float32), noise_N])
        (two,) = encoders.sounds([np.tile(noise_N, 3)])
        np.testing.assert_allclose(short.quality_PQ, [of_sound(noise_N)], rtol=1e-5)
        np.testing.assert_allclose(two.quality_PQ[0], of_sound(np.tile(noise_N, 3)[:PATCH_SAMPLES]), rtol=1e-5)
        _, seen = encoders.images([np.zeros_like(picture), picture])
        np.testing.assert_array_equal(seen.quality_Q, of_picture(picture))
