"""The voice detector and Whisper on real recordings."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from ctranslate2 import StorageView
from faster_whisper import WhisperModel

from models import weights
from models.features import Array
from models.speech import CONTEXT, STEP, WHOLE, SileroVad, Spoken, Whisper

DEMO = Path(__file__).parents[2] / "deploy" / "demo"  # real voices; origins and licences beside the files


@pytest.fixture(scope="module")
def whisper(home: Path) -> Whisper:
    return Whisper.load(weights.locate(home, "whisper"))


class Noting(WhisperModel):
    """The real model, which notes how many frames it is given. `stuck`: where they are few it hears the first second over and over."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), device="cpu", compute_type="int8", cpu_threads=1, num_workers=1, local_files_only=True)
        self.frames, self.stuck = list[int](), False

    def encode(self, features: Array) -> StorageView:
        self.frames.append(features.shape[-1])
        if self.stuck and features.shape[-1] < WHOLE:
            features = np.tile(features[:, :100], CONTEXT // 100)
        return super().encode(features)


@pytest.fixture(scope="module")
def loaded(home: Path) -> Noting:
    return Noting(weights.locate(home, "whisper"))


@pytest.fixture
def model(loaded: Noting) -> Noting:
    loaded.frames, loaded.stuck = [], False
    return loaded


def heard(model: Noting, sound: np.ndarray, *, context: int = CONTEXT) -> tuple[Spoken, list[int]]:
    """What is made of it, and over how many frames each time."""
    model.frames = []
    return Whisper(model, language="en", context=context).transcribe(sound), model.frames


def speech(name: str = "help.flac") -> np.ndarray:
    sound, rate = soundfile.read(DEMO / name, dtype="float32")
    assert rate == 16_000
    return sound


def words(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter not in ",.!")


def steps(sound: np.ndarray) -> list[np.ndarray]:
    return [sound[at : at + STEP] for at in range(0, len(sound) - STEP + 1, STEP)]


def test_a_voice_is_told_from_noise_and_silence() -> None:
    vad = SileroVad()
    voice = [vad.probability(step) for step in steps(speech())]
    vad.reset()
    noise = [vad.probability(step) for step in steps((np.random.default_rng(0).normal(size=32_000) * 0.05).astype(np.float32))]
    vad.reset()
    silence = [vad.probability(step) for step in steps(np.zeros(16_000, np.float32))]
    assert max(voice) > 0.9
    assert max(noise + silence) < 0.4


def test_the_detector_remembers_until_it_is_reset() -> None:
    vad, sound = SileroVad(), steps(speech())
    first = [vad.probability(step) for step in sound]
    again = [vad.probability(step) for step in sound]
    vad.reset()
    afresh = [vad.probability(step) for step in sound]
    assert first == afresh != again


def test_two_detectors_share_nothing() -> None:
    one, other, sound = SileroVad(), SileroVad(), steps(speech())
    mixed = [(one.probability(step), other.probability(quiet)) for step, quiet in zip(sound, np.zeros((len(sound), STEP)), strict=True)]
    alone = SileroVad()
    assert [voice for voice, _ in mixed] == [alone.probability(step) for step in sound]


def test_a_step_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="512 samples"):
        SileroVad().probability(np.zeros(511, np.float32))


@pytest.mark.parametrize(("name", "said"), [("help.flac", "help"), ("moment.flac", "one moment please")])
def test_words_are_understood_and_twice_the_same(whisper: Whisper, name: str, said: str) -> None:
    first = whisper.transcribe(speech(name))
    assert said in words(first.text)
    assert first.language == "en"
    assert 0 < first.confidence <= 1
    assert first == whisper.transcribe(speech(name))


def test_text_that_whisper_makes_up_for_silence_is_known_by_its_numbers(whisper: Whisper) -> None:
    invented = whisper.transcribe(np.zeros(16_000, np.float32))
    assert invented.text == "" or invented.no_speech > 0.6


def test_a_short_sound_is_heard_over_a_short_context_in_the_same_words(model: Noting) -> None:
    near, frames = heard(model, speech("moment.flac"))
    whole, all_frames = heard(model, speech("moment.flac"), context=WHOLE)
    assert (frames, all_frames) == ([CONTEXT], [WHOLE])
    assert words(near.text) == words(whole.text)
    assert near.log_probability == pytest.approx(whole.log_probability, abs=0.2)


def test_words_that_go_round_in_circles_over_a_short_context_are_heard_again_over_the_whole(model: Noting) -> None:
    whole, _ = heard(model, speech("moment.flac"), context=WHOLE)
    model.stuck = True
    again, frames = heard(model, speech("moment.flac"))
    assert frames == [CONTEXT, WHOLE]
    assert again == whole


@pytest.mark.parametrize(("seconds", "first"), [(11.0, CONTEXT), (11.1, WHOLE), (20.0, WHOLE)])
def test_a_sound_that_needs_more_is_heard_whole_from_the_start(model: Noting, seconds: float, first: int) -> None:
    sound = speech("moment.flac")
    late = np.concatenate([np.zeros(round(seconds * 16_000) - len(sound), np.float32), sound])
    spoken, frames = heard(model, late)
    assert frames[0] == first
    assert "one moment please" in words(spoken.text)


def test_two_over_one_model_do_not_disturb_each_other(model: Noting) -> None:
    sounds = [speech("help.flac"), speech("moment.flac")] * 2
    near, whole = Whisper(model, language="en"), Whisper(model, language="en", context=WHOLE)
    alone = [[one.transcribe(sound) for sound in sounds] for one in (near, whole)]
    with ThreadPoolExecutor(2) as threads:
        beside = threads.submit(lambda: [whole.transcribe(sound) for sound in sounds])
        assert [[near.transcribe(sound) for sound in sounds], beside.result()] == alone
