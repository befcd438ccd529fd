"""The engine behind its seam, on the demo's real recordings."""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import soundfile
from ctranslate2 import StorageView
from faster_whisper import WhisperModel

from models import packages
from models.classes import LABELS
from models.evaluation.truth import WINDOW_S
from streamer.config import InferSettings, TranscribeSettings
from streamer.engine import (
    EXPLAINED,
    LENGTH,
    list_weights,
    open_engine,
    open_recognizer,
    open_vad,
    pull_weights,
    verify_weights,
    version_of,
)
from streamer.errors import ConfigError
from streamer.events import SECOND, EventRef, Micros, Modality
from streamer.rules import load_rules
from streamer.stages.fuse import Engine, Features, FuseInput, Judgement
from tests.builders import a_ref, a_window, at, some_words

DEMO = Path(__file__).parents[1] / "deploy" / "demo"
RATE = 16_000


@pytest.fixture(scope="session")
def home() -> Path:
    where = packages.resolve(Path(os.environ["STREAMER_HOME"]) if os.environ.get("STREAMER_HOME") else None)
    pull_weights(where)
    return where


@pytest.fixture(scope="module")
def bundled(home: Path) -> Engine:
    return open_engine(InferSettings(device="cpu"), home)


@pytest.fixture(params=["tiny", "bundled"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "tiny":
        return open_engine(InferSettings(profile="tiny"), None)
    found: Engine = request.getfixturevalue("bundled")
    return found


def street() -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(DEMO / "street.jpg")), cv2.COLOR_BGR2RGB)


def pedestrians() -> np.ndarray:
    with av.open(str(DEMO / "pedestrians.mp4")) as clip:
        return next(clip.decode(video=0)).to_ndarray(format="rgb24")


def chunks(name: str) -> list[np.ndarray]:
    sound, _ = soundfile.read(DEMO / name, dtype="float32")
    padded = np.pad(sound, (0, -len(sound) % RATE))
    return [padded[start : start + RATE] for start in range(0, len(padded), RATE)]


def judge(engine: Engine, manifest: list[EventRef], features: list[Features | None]) -> Judgement:
    (judgement,) = engine.fuse([FuseInput(window=a_window(manifest=tuple(manifest)), features=tuple(features))])
    return judgement


def threshold_of(rule: str) -> float:
    """Of the rules that ship."""
    return next(each.threshold for each in load_rules().rules if each.id == rule)


def noise(seconds: float = 1) -> np.ndarray:
    return (np.random.default_rng(0).normal(size=round(seconds * RATE)) * 0.01).astype(np.float32)


def test_every_input_gives_one_result_in_order(engine: Engine) -> None:
    images = [street(), np.zeros((40, 60, 3), np.uint8)]
    assert len(engine.encode_frames(images)) == len(engine.encode_audio([noise(), noise(0.1)])) == len(engine.encode_words(["a", "b"])) == 2
    assert engine.encode_frames([]) == engine.encode_audio([]) == engine.encode_words([]) == engine.fuse([]) == []


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def test_every_class_is_scored_and_contributions_are_of_what_is_there(engine: Engine) -> None:
    refs = [a_ref(Modality.FRAMES, 0.5), a_ref(Modality.AUDIO, 0), a_ref(Modality.TRANSCRIPTS, 0.2)]
    features = [*engine.encode_frames([street()]), *engine.encode_audio([noise()]), *engine.encode_words(["hello"])]
    judgement = judge(engine, refs, features)
    assert tuple(judgement.classes) == LABELS
    assert all(set(score.contributions) == set(Modality) for score in judgement.classes.values())
    without = judge(engine, refs, [features[0], None, features[2]])
    assert all(set(score.contributions) == {Modality.FRAMES, Modality.TRANSCRIPTS} for score in without.classes.values())


def test_contributions_and_an_empty_window_sum_to_the_log_odds() -> None:
    engine = open_engine(InferSettings(profile="tiny"), None)  # its temperatures are 1: an empty window's log-odds are the base of all
    refs = [a_ref(Modality.FRAMES, 0.5), a_ref(Modality.AUDIO, 0), a_ref(Modality.TRANSCRIPTS, 0.2)]
    features = [*engine.encode_frames([street()]), *engine.encode_audio([noise()]), *engine.encode_words(["hello"])]
    empty, whole = judge(engine, [], []), judge(engine, refs, features)
    for name, score in whole.classes.items():
        shift = logit(score.probability) - logit(empty.classes[name].probability)
        assert sum(score.contributions.values()) == pytest.approx(shift, abs=1e-3)  # of what is written, rounded


def test_what_is_likely_is_explained_in_words_by_the_clock_and_nothing_else(bundled: Engine) -> None:
    refs = [a_ref(Modality.FRAMES, 0.5), *(a_ref(Modality.AUDIO, second) for second in (0, 1))]
    judgement = judge(bundled, refs, [*bundled.encode_frames([pedestrians()]), *bundled.encode_audio(chunks("siren.flac")[1:3])])
    told = {name: score.explanation for name, score in judgement.classes.items() if score.explanation}
    assert {"person", "siren"} <= set(told) == {name for name, score in judgement.classes.items() if score.probability >= EXPLAINED}
    moment = datetime.fromtimestamp((a_window().start + SECOND // 2) / SECOND, UTC).strftime("%H:%M:%S.5 UTC")
    assert told["person"].startswith(f"Person: {judgement.classes['person'].probability:.0%}. ") and moment in told["person"]
    assert "Without the words: nothing came." in told["siren"] and "threshold" not in told["siren"]


def test_what_a_rule_that_ships_may_raise_is_explained() -> None:
    assert min(rule.threshold for rule in load_rules().rules) >= EXPLAINED


def test_a_window_scores_the_same_to_the_digit_whatever_it_is_batched_with(engine: Engine) -> None:
    pictures, sounds = engine.encode_frames([street(), pedestrians()]), engine.encode_audio(chunks("glass.flac")[:2])
    words = engine.encode_words(["somebody help me"])
    windows = [
        FuseInput(window=a_window(manifest=(a_ref(Modality.FRAMES, 0.5),)), features=(pictures[0],)),
        FuseInput(window=a_window(manifest=(a_ref(Modality.AUDIO, 0), a_ref(Modality.AUDIO, 1))), features=tuple(sounds)),
        FuseInput(window=a_window(manifest=(a_ref(Modality.TRANSCRIPTS, 0.2),)), features=tuple(words)),
        FuseInput(window=a_window(manifest=(a_ref(Modality.FRAMES, 1), a_ref(Modality.AUDIO, 0))), features=(pictures[1], sounds[0])),
        FuseInput(window=a_window(manifest=()), features=()),
    ]
    alone = [engine.fuse([each])[0] for each in windows]
    assert engine.fuse(windows) == alone
    assert engine.fuse([*windows[::-1], *windows])[: len(windows)] == alone[::-1]


def test_what_encoders_make_of_an_event_hardly_depends_on_the_batch(bundled: Engine) -> None:
    sounds, texts = chunks("glass.flac"), ["somebody help me", "one moment please, I will be with you in a minute or two", "hello"]
    refs = [a_ref(Modality.AUDIO, 0), a_ref(Modality.TRANSCRIPTS, 0.2)]
    alone = judge(bundled, refs, [*bundled.encode_audio(sounds[:1]), *bundled.encode_words(texts[:1])])
    among = judge(bundled, refs, [bundled.encode_audio([*sounds, *sounds])[0], bundled.encode_words(texts)[0]])
    for name, score in alone.classes.items():
        assert score.probability == pytest.approx(among.classes[name].probability, rel=1e-4)


def test_an_unusable_window_scores_as_an_empty_one(engine: Engine) -> None:
    unusable, empty = judge(engine, [a_ref(Modality.FRAMES), a_ref(Modality.AUDIO)], [None, None]), judge(engine, [], [])
    assert unusable == empty
    assert all(not score.contributions for score in empty.classes.values())
    assert empty.evidence.frame is None
    assert empty.evidence.sounds == empty.evidence.quotes == ()


def test_a_window_takes_the_patches_whose_midpoint_lies_in_it(engine: Engine) -> None:
    sound = engine.encode_audio([noise(1)])[0]  # one patch: its midpoint is 0.4875 s into the chunk
    inside = judge(engine, [a_ref(Modality.AUDIO, -0.48)], [sound])
    outside = judge(engine, [a_ref(Modality.AUDIO, -0.49)], [sound])
    assert inside.classes["siren"].contributions
    assert not outside.classes["siren"].contributions


def test_the_tiny_profile_never_alerts_and_says_that_it_is_uncalibrated() -> None:
    engine = open_engine(InferSettings(profile="tiny"), None)
    assert (engine.may_alert, engine.calibrated, engine.version) == (False, False, "tiny-2")


def test_an_empty_street_is_told_from_one_with_people(bundled: Engine) -> None:
    empty, busy = bundled.encode_frames([street(), pedestrians()])
    refs = [a_ref(Modality.FRAMES, 0.5), a_ref(Modality.FRAMES, 1)]
    alone = judge(bundled, refs[:1], [empty])
    assert alone.classes["person"].probability < 0.1
    both = judge(bundled, refs, [empty, busy])
    assert both.classes["person"].probability > threshold_of("person")
    assert both.evidence.frame is not None
    assert both.evidence.frame.ref == refs[1]
    assert all(0 <= box.left < box.right <= 1 and 0 <= box.top < box.bottom <= 1 for box in both.evidence.frame.boxes)


def test_a_person_alone_raises_no_intrusion_whatever_is_missing(bundled: Engine) -> None:
    rule = next(each for each in load_rules().rules if each.id == "intrusion")
    assert rule.needs == (Modality.AUDIO, Modality.FRAMES)
    refs = [a_ref(Modality.FRAMES, 0.5), a_ref(Modality.TRANSCRIPTS, 0.2), a_ref(Modality.AUDIO, 0)]
    features = [*bundled.encode_frames([pedestrians()]), *bundled.encode_words(["hello, how are you"]), *bundled.encode_audio([noise()])]
    for many in (1, 2, 3):
        found = judge(bundled, refs[:many], features[:many]).classes["intrusion"]
        assert found.probability < rule.threshold or not set(rule.needs) <= set(found.contributions)


def test_breaking_glass_is_heard_and_its_sound_is_evidence_with_its_time(bundled: Engine) -> None:
    judgement = judge(bundled, [a_ref(Modality.AUDIO, 0), a_ref(Modality.AUDIO, 1)], bundled.encode_audio(chunks("glass.flac"))[:2])
    assert judgement.classes["glass_break"].probability > threshold_of("glass-break")
    assert judgement.classes["siren"].probability < 0.1
    sound = judgement.evidence.sounds[0]
    assert sound.label == "Glass"
    assert at(0) <= sound.start < sound.end <= at(2)


def test_a_siren_is_heard(bundled: Engine) -> None:
    features = bundled.encode_audio(chunks("siren.flac"))[3:5]
    judgement = judge(bundled, [a_ref(Modality.AUDIO, 0), a_ref(Modality.AUDIO, 1)], features)
    assert judgement.classes["siren"].probability > threshold_of("siren")


def test_what_a_spoilt_modality_says_falls_the_more_it_is_spoilt(bundled: Engine) -> None:
    refs = [a_ref(Modality.AUDIO, 0), a_ref(Modality.AUDIO, 1), a_ref(Modality.FRAMES, 1)]
    siren, people = chunks("siren.flac")[3:5], pedestrians()
    hiss = np.random.default_rng(0).normal(size=RATE).astype(np.float32)
    said = []
    for level, light in ((0.0, 1.0), (0.05, 0.2), (0.1, 0.02), (0.5, 0.01)):  # of noise: as loud as the siren at 0.05
        heard = bundled.encode_audio([np.clip(chunk + level * hiss, -1, 1) for chunk in siren])
        classes = judge(bundled, refs, [*heard, *bundled.encode_frames([(people * light).astype(np.uint8)])]).classes
        said.append((classes["siren"].contributions[Modality.AUDIO], classes["person"].contributions[Modality.FRAMES]))
    drowned = said.pop()  # where nothing is left to hear, it says little
    assert all(before > after for row in zip(*said, strict=True) for before, after in pairwise(row)), said
    assert all(clean - 4 > spoilt for clean, spoilt in zip(said[0], drowned, strict=True)), drowned


def test_a_call_for_help_is_understood_and_quoted_whole(home: Path, bundled: Engine) -> None:
    heard = open_recognizer(TranscribeSettings(), home).transcribe(np.concatenate(chunks("help.flac")))
    ref = a_ref(Modality.TRANSCRIPTS, 0.2, words=some_words(heard.text))
    judgement = judge(bundled, [ref], bundled.encode_words([heard.text]))
    assert judgement.classes["call_for_help"].probability > threshold_of("call-for-help")
    assert judgement.classes["spoken_threat"].probability < threshold_of("spoken-threat")
    assert judgement.evidence.quotes[0].text == heard.text


@pytest.mark.parametrize(("context", "seconds"), [("12s", 12), ("7.51s", 7.5), ("30s", 30)])
def test_whisper_hears_as_much_as_it_is_told_to(home: Path, monkeypatch: pytest.MonkeyPatch, context: str, seconds: float) -> None:
    seen, encode = [], WhisperModel.encode

    def noting(model: WhisperModel, features: np.ndarray) -> StorageView:
        seen.append(features.shape[-1] / 100)
        return encode(model, features)

    monkeypatch.setattr(WhisperModel, "encode", noting)
    settings = TranscribeSettings.model_validate({"context": context})
    assert open_recognizer(settings, home).transcribe(np.concatenate(chunks("moment.flac"))).text
    assert seen[0] == seconds


def test_polite_words_raise_nothing(home: Path, bundled: Engine) -> None:
    heard = open_recognizer(TranscribeSettings(), home).transcribe(np.concatenate(chunks("moment.flac")))
    judgement = judge(bundled, [a_ref(Modality.TRANSCRIPTS)], bundled.encode_words([heard.text]))
    assert max(score.probability for score in judgement.classes.values()) < 0.2


def test_missing_weights_are_a_config_error_that_names_the_command(tmp_path: Path) -> None:
    for attempt in (
        lambda: open_engine(InferSettings(), tmp_path),
        lambda: open_recognizer(TranscribeSettings(), tmp_path),
        lambda: verify_weights(tmp_path),
    ):
        with pytest.raises(ConfigError, match="streamer weights pull"):
            attempt()
    assert {row.state.value for row in list_weights(tmp_path)} == {"missing"}


def test_the_version_repeats_and_names_the_profile(home: Path, bundled: Engine) -> None:
    assert bundled.version.startswith("bundled-")
    assert open_engine(InferSettings(device="cpu"), home).version == bundled.version == version_of("cpu")


def test_what_a_gpu_scores_has_another_version() -> None:
    assert version_of("cuda") != version_of("cpu")


def test_windows_of_another_length_than_the_head_was_trained_on_are_not_called_calibrated(home: Path, bundled: Engine) -> None:
    assert bundled.calibrated and at(WINDOW_S) - at(0) == LENGTH
    assert not open_engine(InferSettings(device="cpu"), home, length=Micros(10_000_000)).calibrated


def test_each_track_gets_a_voice_detector_of_its_own() -> None:
    assert open_vad() is not open_vad()
