"""The benchmark in small, on the demo's real recordings and tiny encoders: from scripts to a report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.calibration import PATTERNS
from models.classes import LABELS
from models.evaluation import report
from models.evaluation.benchmark import Bench, Plan, alone, joined, judge, learn, scores
from models.evaluation.compare import only
from models.evaluation.examples import Examples
from models.evaluation.media import Media
from models.fusion.windows import MODALITIES
from models.profiles import Encoders
from models.recordings import Split
from models.training.recipe import Recipe
from tests.models.evaluation.test_examples import CLIPS, row

QUICK = Recipe(model=16, epochs=1, gate_epochs=1, average=0.0, folds=2, fewest_positives=2)
PLAN = Plan(
    scenes={Split.TRAIN: 18, Split.VALIDATION: 9, Split.CALIBRATION: 9, Split.TEST: 9},
    copies=1,
    seeds=(0,),
    methods=("gated", "log_odds", "concatenation"),
    conditions=("clean", "snr_0", "dark"),
    calibration_hours=11 / 60,
    event_hours=11 / 60,
    negative_hours=11 / 60,
    resamples=20,
    recipe=QUICK,
)


@pytest.fixture(scope="module")
def media() -> Media:
    """The same clips in every split, under other names: what is told of them here is not who learned from whom."""
    rows = []
    for split in Split:
        for label, path in (*CLIPS.items(), ("door", "moment.flac"), ("speech", "moment.flac"), ("photo", "street.jpg")):
            one = row(label, path)
            package = replace(one.package, name=f"demo-{split}")
            rows.append(replace(one, package=package, clip=replace(one.clip, split=split, path=f"{label}/{path}")))
    return Media(rows)


@pytest.fixture(scope="module")
def bench(media: Media, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(PLAN, media, Encoders.tiny(), tmp_path_factory.mktemp("bench"))


def test_splits_are_of_their_own_libraries_and_training_has_spoilt_copies(bench: Bench) -> None:
    train, validation, calibration = bench.learning()
    windows = {split: 11 * count for split, count in PLAN.scenes.items()}
    assert (train.size, validation.size) == (2 * windows[Split.TRAIN], 2 * windows[Split.VALIDATION])
    assert calibration.size == windows[Split.CALIBRATION] and calibration.timeline is not None
    half = train.size // 2
    assert torch.equal(train.truth_BC[:half], train.truth_BC[half:]) and torch.equal(train.group_B[:half], train.group_B[half:])
    assert not torch.equal(train.windows.audio.quality_BQ[:half], train.windows.audio.quality_BQ[half:])
    for split, scripts in bench.scripts.items():
        assert {item.split for script in scripts for item in (script.sound, script.picture)} == {split}


def test_what_was_encoded_and_learned_is_used_again(media: Media, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first, windows = learn(bench, 0), bench.test("clean").windows

    def never(*args: object, **more: object) -> None:
        raise AssertionError("it was there")

    for name in ("build", "train", "train_experts"):
        monkeypatch.setattr(f"models.evaluation.benchmark.{name}", never)
    again = learn(Bench(PLAN, media, Encoders.tiny(), bench.folder), 0)
    for name, probability_BC in scores(first, windows).items():
        assert torch.equal(scores(again, windows)[name], probability_BC)


def test_single_modalities_are_the_experts_that_methods_share(bench: Bench) -> None:
    learned, windows = learn(bench, 0), bench.test("clean").windows
    found = scores(learned, windows)
    assert set(found) == {*PLAN.methods, *map(only, MODALITIES)}
    for name, probability_BC in alone(learned.heads["log_odds"], windows).items():
        assert torch.equal(probability_BC, found[only(name)])
    with pytest.raises(ValueError, match="concatenation has no experts"):
        alone(learned.heads["concatenation"], windows)


def test_every_method_is_judged_under_every_condition_and_pattern_and_reported(bench: Bench, tmp_path: Path) -> None:
    found = judge(bench, {0: learn(bench, 0)}, date="2026-11-26", command="pytest")
    assert set(found.comparison.conditions) == {*PLAN.conditions, *PATTERNS[1:-1]}
    assert set(found.comparison.methods) == {*PLAN.methods, *map(only, MODALITIES)}
    assert [(one.name, one.scenes) for one in found.origin.splits] == [(split.value, PLAN.scenes[split]) for split in Split]
    assert found.origin.splits[0].packages == ("demo-train",) and found.stream.negative_hours == pytest.approx(11 / 60, rel=0.05)
    assert {path.name for path in report.write(found, tmp_path)} >= {"report.json", "REPORT.md"}
    assert "composed from real recordings" in (tmp_path / "REPORT.md").read_text()


def test_a_stream_has_the_windows_of_its_scripts(bench: Bench) -> None:
    scripts, parts = bench.stream(events=True)
    every = list(parts)
    assert len(scripts) == 11 and sum(map(len, every)) == sum(int(script.seconds - 2) + 1 for script in scripts)
    assert all(isinstance(part, Examples) and part.truth.truth_BC.shape[1] == len(LABELS) for part in every)


def test_parts_are_joined_whatever_their_padding(bench: Bench) -> None:
    calibration = bench.calibration()
    few = calibration.windows.only(torch.tensor([True, True, False]).expand(calibration.size, -1))
    both = joined([calibration, replace(calibration, windows=few)])
    assert both.size == 2 * calibration.size and np.array_equal(both.windows.present_BM[calibration.size :, 2], np.zeros(calibration.size))
