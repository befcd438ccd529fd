"""The voice detector and Whisper on real recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from models import weights
from models.speech import STEP, SileroVad, Whisper

DEMO = Path(__file__).parents[2] / "deploy" / "demo"  # real voices; origins and licences beside the files


@pytest.fixture(scope="module")
def whisper(home: Path) -> Whisper:
    return Whisper.load(weights.locate(home, "whisper"))


def speech(name: str = "help.flac") -> np.ndarray:
    sound, rate = soundfile.read(DEMO / name, dtype="float32")
    assert rate == 16_000
    return sound


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


@pytest.mark.parametrize(("name", "words"), [("help.flac", "help"), ("moment.flac", "one moment please")])
def test_words_are_understood_and_twice_the_same(whisper: Whisper, name: str, words: str) -> None:
    first = whisper.transcribe(speech(name))
    assert words in first.text.lower()
    assert first.language == "en"
    assert 0 < first.confidence <= 1
    assert first == whisper.transcribe(speech(name))


def test_text_that_whisper_makes_up_for_silence_is_known_by_its_numbers(whisper: Whisper) -> None:
    invented = whisper.transcribe(np.zeros(16_000, np.float32))
    assert invented.text == "" or invented.no_speech > 0.6
