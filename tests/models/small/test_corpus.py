"""Laws of models/small/corpus.py, on the demo's recordings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.evaluation import scripts, truth
from models.evaluation.library import Library
from models.evaluation.media import Media
from models.packages import State
from models.recordings import Clip, Kind, Modality, Package, Row, Split
from models.small import corpus
from models.small.sound import SmallSounds
from models.small.text import SmallTexts
from models.small.train import Labelled
from tests.models.small.builders import QUICK, noise

DEMO = Path(__file__).parents[3] / "deploy" / "demo"
CLIPS = (
    ("glass_break", "glass.flac"), ("siren", "siren.flac"), ("alarm", "siren.flac"), ("ambient", "moment.flac"),
    ("street", "street.jpg"), ("photo", "street.jpg"), ("person", "pedestrians.mp4"),
)  # fmt: skip
SPLITS = (Split.TRAIN, Split.VALIDATION)


def row(label: str, path: str, split: Split) -> Row:
    modality = Modality.AUDIO if path.endswith("flac") else Modality.FRAMES
    clip = Clip(
        path=f"{split}/{label}/{path}",
        member=path,
        size=1,
        sha256="",
        label=label,
        modality=modality,
        recording=f"{label} of {split}",
        split=split,
        seconds=2.0 if path.endswith("mp4") else 0.0,
    )
    package = Package(kind=Kind.DEBIAN, name="demo", version="1", sha256="", size=1, licence="", origin="", clips=(clip,))
    return Row(package=package, clip=clip, path=DEMO / path, state=State.OK)


class Asked(Media):
    """Remembers which splits it was asked for."""

    def __init__(self) -> None:
        super().__init__(row(label, path, split) for label, path in CLIPS for split in SPLITS)
        self.splits: list[Split] = []

    def library(self, split: Split, *, lend: bool = False) -> Library:
        self.splits.append(split)
        return super().library(split, lend=lend)


@pytest.fixture(scope="module")
def media() -> Asked:
    return Asked()


def test_a_patch_is_labelled_by_what_truth_counts_in_it(media: Media) -> None:
    found = corpus.sounds(Split.TRAIN, media, 3)
    assert len(found.events) == 3 * 24
    for number in range(3):
        script = scripts.draw(Split.TRAIN, number, media.library(Split.TRAIN))
        for at in range(24):
            span = (at * 0.48, at * 0.48 + 0.975)
            held = [one for one in truth.events(script) if one.start < span[1] and span[0] < one.end]
            true = {one.label for one in held if one.counts(span)}
            for c, name in enumerate(found.classes):
                assert bool(found.truth_NC[24 * number + at, c]) == (name in true)
                assert bool(found.known_NC[24 * number + at, c]) == (name in true or name not in {one.label for one in held})
    assert found.truth_NC.any() and not found.known_NC.all()
    assert corpus.sounds(Split.TRAIN, media, 3).digest == found.digest != corpus.sounds(Split.VALIDATION, media, 3).digest


def test_pictures_are_frames_with_and_without_somebody(media: Media) -> None:
    found = corpus.pictures(Split.TRAIN, media)
    assert found.classes == ("person",) and found.known_NC.all()
    assert int(found.truth_NC.sum()) == 4 and len(found.events) == 6
    assert len(found.group_N.unique()) == 3


def test_texts_of_two_splits_share_no_sentence_and_no_template() -> None:
    every = {split: corpus.texts(split) for split in Split}
    for split, found in every.items():
        assert found.truth_NC.any(0).all() and not found.truth_NC.all(1).any()
        for other, others in every.items():
            assert split is other or not set(found.events) & set(others.events)


@pytest.mark.parametrize("architecture", ["sound-cnn", "picture-cnn", "text-gru"])
def test_training_writes_an_encoder_and_never_reads_the_test(
    architecture: str, media: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Split] = []
    real = corpus.texts

    def texts(split: Split) -> Labelled:
        asked.append(split)
        return real(split)

    monkeypatch.setattr(Media, "load", lambda home: media)
    monkeypatch.setattr(corpus, "texts", texts)
    media.splits.clear()
    how: dict[str, Any] = {"recipe": replace(QUICK, epochs=1, batch=32), "scenes": dict.fromkeys(SPLITS, 2)}
    found = corpus.train_small(architecture, None, tmp_path / "small.safetensors", seed=4, **how)
    assert (media.splits or asked) == list(SPLITS)
    assert (found.about.seed, found.about.architecture) == (4, architecture)
    if architecture == "sound-cnn":
        assert set(SmallSounds.load(tmp_path / "small.safetensors")([noise(1)])[0].patches[0].chances) == set(found.about.classes)
    if architecture == "text-gru":
        assert set(SmallTexts.load(tmp_path / "small.safetensors")(["help"])[0].chances) == set(found.about.classes)


def test_what_is_unknown_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'guess' must be one of"):
        corpus.train_small("guess", tmp_path, tmp_path / "out")
    with pytest.raises(ValueError, match="learns from recordings"):
        corpus.examples("sound-cnn", Split.TRAIN, None)
