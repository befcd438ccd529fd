"""models/evaluation/corruptions.py: every condition on a scene of real media, and what training draws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.evaluation.corrupt_words import Recognizer, edits, plain_words
from models.evaluation.corruptions import CONDITIONS, augment, corrupt
from models.evaluation.scenes import PEAK, Scene, rms
from models.fusion.windows import MODALITIES
from models.quality import PICTURE, SOUND, of_picture, of_sound
from tests.models.evaluation.demo import demo

SNR = {"snr_20": 20.0, "snr_10": 10.0, "snr_5": 5.0, "snr_0": 0.0, "snr_m5": -5.0}
SHIFT = {"shift_0_5": 0.5, "shift_1": 1.0, "shift_2": 2.0, "shift_5": 5.0}
NAMES = {
    *("clean", *SNR, "clipped", "packet_loss", "dark", "blurred", "frozen", "occluded"),
    *("wer_10", "wer_20", "wer_40", "invented", *SHIFT, "joint"),
}


def touched(before: Scene, after: Scene) -> set[str]:
    """The modalities that are not the same objects any more."""
    same = {
        "frames": len(before.pictures) == len(after.pictures)
        and all(one is other for one, other in zip(before.pictures, after.pictures, strict=True)),
        "audio": before.sound_N is after.sound_N,
        "transcripts": before.words == after.words,
    }
    return {name for name, kept in same.items() if not kept}


def alike(one: Scene, other: Scene) -> bool:
    return (
        np.array_equal(one.sound_N, other.sound_N)
        and one.words == other.words
        and all(np.array_equal(a, b) for a, b in zip(one.pictures, other.pictures, strict=True))
    )


def test_the_conditions_are_these_and_each_says_what_it_is() -> None:
    assert set(CONDITIONS) == NAMES and next(iter(CONDITIONS)) == "clean"
    for name, condition in CONDITIONS.items():
        assert condition.name == name and set(condition.touches) <= set(MODALITIES)
        assert condition.says.endswith(".") and not condition.says[0].islower()
    assert len({condition.says for condition in CONDITIONS.values()}) == len(NAMES)


def test_an_unknown_condition_is_refused_by_naming_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'fog'.*clean, snr_20.*joint"):
        corrupt(demo(), "fog", 0)


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_touches_what_it_says_and_does_so_again(name: str) -> None:
    scene, ever = demo(), set[str]()
    first = corrupt(scene, name, 0)
    for seed in range(8 if name in SHIFT else 2):
        spoilt = corrupt(scene, name, seed)
        ever |= touched(scene, spoilt)
        assert spoilt.script is scene.script
        assert spoilt.sound_N.shape == scene.sound_N.shape and spoilt.sound_N.dtype == np.float32
        assert np.abs(spoilt.sound_N).max() <= 1
        assert len(spoilt.pictures) == len(scene.pictures) and {one.shape for one in spoilt.pictures} == {(480, 640, 3)}
        assert not any(one.flags.writeable for one in spoilt.pictures)
        if name in SHIFT:
            assert len(touched(scene, spoilt)) <= 1
    assert ever == set(CONDITIONS[name].touches)
    assert alike(first, corrupt(scene, name, 0))


@pytest.mark.parametrize("name", ["snr_5", "packet_loss", "occluded", "wer_40", "invented"])
def test_another_seed_or_another_scene_is_spoilt_otherwise(name: str) -> None:
    scene = demo()
    other = replace(scene, script=replace(scene.script, seed=1))
    later = replace(scene, script=replace(scene.script, start=60.0))
    assert not alike(corrupt(scene, name, 0), corrupt(scene, name, 1))
    assert not alike(corrupt(scene, name, 0), corrupt(other, name, 0))
    assert not alike(corrupt(scene, name, 0), corrupt(later, name, 0))


def test_louder_noise_of_a_ladder_is_the_same_noise() -> None:
    scene = demo()
    found = []
    for name, snr_db in SNR.items():
        spoilt_N = corrupt(scene, name, 3).sound_N
        assert np.abs(spoilt_N).max() < PEAK - 0.01, "nothing was brought down, so that the noise is what is left"
        noise_N = spoilt_N - scene.sound_N
        assert 20 * np.log10(rms(scene.sound_N) / rms(noise_N)) == pytest.approx(snr_db, abs=0.05)
        found.append(noise_N / rms(noise_N))
    for noise_N in found[1:]:
        np.testing.assert_allclose(noise_N, found[0], atol=1e-2)


def test_a_longer_shift_moves_the_same_modality_in_the_same_direction() -> None:
    scene, seen = demo(), set[tuple[str, bool]]()
    for seed in range(30):
        moved = {name: touched(scene, corrupt(scene, name, seed)) for name in SHIFT}
        assert all(one <= moved["shift_2"] for one in moved.values()) and len(moved["shift_2"]) == 1
        (modality,) = moved["shift_2"]
        late = _late(scene, corrupt(scene, "shift_0_5", seed), modality)
        assert late == _late(scene, corrupt(scene, "shift_1", seed), modality)
        seen.add((modality, late))
    assert len(seen) == 6


def _late(scene: Scene, spoilt: Scene, modality: str) -> bool:
    if modality == "transcripts":
        return spoilt.words[-1].start > scene.words[-1].start
    if modality == "frames":
        return spoilt.pictures[8] is scene.pictures[0]
    return bool(
        np.array_equal(spoilt.sound_N[-8000:], scene.sound_N[-16000:-8000])
        or np.array_equal(spoilt.sound_N[-8000:], scene.sound_N[-24000:-16000])
    )


def test_quality_moves_as_it_should() -> None:
    scene = demo()

    def heard(name: str, feature: str) -> float:
        return float(of_sound(corrupt(scene, name, 0).sound_N)[SOUND.index(feature)])

    def seen(name: str, feature: str) -> float:
        return float(of_picture(corrupt(scene, name, 0).pictures[10])[PICTURE.index(feature)])

    flatness = [heard(name, "flatness") for name in ("clean", *SNR)]
    assert flatness == sorted(flatness) and flatness[-1] > flatness[0] + 0.02
    assert heard("clipped", "clipped") > 0.04 and heard("clean", "clipped") == 0
    assert heard("packet_loss", "silent") > 0.05 > heard("clean", "silent")
    assert seen("dark", "brightness") < seen("clean", "brightness") / 3
    assert seen("blurred", "sharpness") < seen("clean", "sharpness") / 2
    confidence = [np.mean([one.confidence for one in corrupt(scene, name, 0).words]) for name in ("clean", "wer_10", "wer_20", "wer_40")]
    assert confidence == sorted(confidence, reverse=True) and confidence[-1] < confidence[0] - 0.1


def test_joint_spoils_everything_at_once_dark_or_out_of_focus() -> None:
    scene = demo()
    pictures = {bool(corrupt(scene, "joint", seed).pictures[0].mean() < scene.pictures[0].mean() / 2) for seed in range(8)}
    assert pictures == {True, False}
    noise_N = corrupt(scene, "joint", 0).sound_N - scene.sound_N
    assert 20 * np.log10(rms(scene.sound_N) / rms(noise_N)) == pytest.approx(5, abs=0.05)


def test_training_draws_the_same_by_seed_and_leaves_what_came_in_alone() -> None:
    scene = replace(demo(), pictures=demo().pictures[6:10])
    before = scene.sound_N.copy()
    assert alike(augment(scene, 5), augment(scene, np.random.default_rng(5)))
    assert not alike(augment(scene, 5), augment(scene, 6))
    np.testing.assert_array_equal(scene.sound_N, before)


def test_training_spoils_words_in_about_a_third_of_all_cases_and_invents_only_its_own_sentences() -> None:
    scene = replace(demo(), pictures=tuple(one[::10, ::10] for one in demo().pictures[7:9]), sound_N=demo().sound_N[::12])
    train, test = Recognizer.load("train"), Recognizer.load("test")
    own, foreign = ({text for tone in (one.plain, one.alarming) for family in tone.values() for text in family} for one in (train, test))
    said = [one.sentence.text for one in scene.words]
    count, spoilt_words, new = 200, 0, set[str]()
    for seed in range(count):
        drawn = augment(scene, seed)
        assert drawn.script is scene.script and len(drawn.pictures) == 2 and np.abs(drawn.sound_N).max() <= 1
        assert drawn.sound_N.dtype == np.float32 and drawn.sound_N.shape == scene.sound_N.shape
        spoilt_words += drawn.words != scene.words
        new |= {one.sentence.text for one in drawn.words if one.sentence.template.startswith("invented/")}
    assert spoilt_words / count == pytest.approx(0.37, abs=0.1)
    assert new <= own and new.isdisjoint(foreign) and new.isdisjoint(said) and len(new) > 15


def test_an_error_of_a_condition_is_an_error_of_its_sentence() -> None:
    scene = demo()
    for seed in range(20):
        for one in corrupt(scene, "wer_20", seed).words:
            before = next(other for other in scene.words if other.start == one.start)
            assert edits(before.sentence.text, one.sentence.text) <= len(plain_words(before.sentence.text))
