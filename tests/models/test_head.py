"""Laws of models/head.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from models.calibration import PATTERNS as NAMES
from models.calibration import Calibration, Scale, Temperature
from models.fusion.methods import METHODS
from models.fusion.windows import Windows
from models.head import FARTHEST, KEY, MOST_BYTES, VERSION, About, FusionHead, Standard, read, write
from tests.models.fusion.builders import NAN, PATTERNS, WIDTHS, filled, rows, shaken, windows_of

CLASSES = ("one", "two", "three")
BATCH = PATTERNS.repeat(4, 1)


def calibration(classes: tuple[str, ...] = CLASSES) -> Calibration:
    scales = tuple(
        Scale(name=name, scale=1.1 + at / 7, bias=-0.3, threshold=0.5, positives=9, negatives=9) for at, name in enumerate(classes)
    )
    temperatures = {name: Temperature(value=1.0 + at / 9, windows=60, fitted_on=name) for at, name in enumerate(NAMES)}
    return Calibration(split="calibration", windows=80, hours=1.0, per_hour=1.0, classes=scales, temperatures=temperatures)


def head(method: str = "gated", verdicts: int = 0) -> FusionHead:
    torch.manual_seed(0)
    about = About(method=method, widths=replace(WIDTHS, verdicts=verdicts), classes=CLASSES, encoders="tiny-1", seed=3, recipe="0" * 64)
    made = shaken(FusionHead(about, calibration()))
    made.standard.fit(windows_of(BATCH, seed=5))
    return made


@pytest.mark.parametrize("method", METHODS)
def test_a_head_that_was_saved_comes_back_to_the_bit(method: str, tmp_path: Path) -> None:
    saved, windows = head(method), windows_of(BATCH)
    saved.save(tmp_path / "head.safetensors")
    found = FusionHead.load(tmp_path / "head.safetensors")
    assert (found.about, found.calibration, found.training) == (saved.about, saved.calibration, False)
    assert torch.equal(found.logits(windows), saved.logits(windows))
    assert torch.equal(found.probabilities(windows), saved.probabilities(windows))
    found.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "head.safetensors").read_bytes()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["again.safetensors", "head.safetensors"]


def test_probabilities_are_the_calibrated_logits() -> None:
    made, windows = head(), windows_of(BATCH)
    assert made.calibration is not None
    assert torch.equal(made.probabilities(windows), made.calibration.apply(made.logits(windows), windows.present_BM))


def test_a_head_without_a_calibration_has_logits_alone(tmp_path: Path) -> None:
    made = FusionHead(head().about)
    assert made.logits(windows_of(BATCH)).shape == (len(BATCH), 3)
    with pytest.raises(ValueError, match="not calibrated"):
        made.probabilities(windows_of(BATCH))
    with pytest.raises(ValueError, match="not calibrated"):
        made.save(tmp_path / "head.safetensors")
    assert not list(tmp_path.iterdir())


def test_scaling_is_fitted_on_what_is_there_and_leaves_the_rest_zeros() -> None:
    windows = windows_of(BATCH)
    spread = Windows(**{name: type(it).of(3 * it.tokens_BTD + 7, it.mask_BT, 5 - it.quality_BQ) for name, it in windows.streams()})
    for found in (Standard(WIDTHS).fit(spread)(spread), Standard(WIDTHS).fit(filled(spread, NAN))(filled(spread, NAN))):
        for _, stream in found.streams():
            for values_ND in (stream.tokens_BTD[stream.mask_BT], stream.quality_BQ[stream.present_B]):
                assert torch.allclose(values_ND.mean(0), torch.zeros(values_ND.shape[1]), atol=1e-5)
                assert torch.allclose(values_ND.std(0, correction=0), torch.ones(values_ND.shape[1]), atol=1e-5)
            assert not stream.tokens_BTD[~stream.mask_BT].any() and not stream.quality_BQ[~stream.present_B].any()
        assert torch.equal(found.present_BM, BATCH)


def test_what_never_varied_stays_unscaled_and_what_is_far_counts_as_less() -> None:
    same, standard = rows(windows_of(PATTERNS[-1:]), slice(0, 1)), Standard(WIDTHS)
    one = Windows(
        **{name: type(it).of(it.tokens_BTD[:, :1] * 0 + 2, it.mask_BT[:, :1] | True, it.quality_BQ) for name, it in same.streams()}
    )
    far = Windows(**{name: type(it).of(it.tokens_BTD + 1e6, it.mask_BT, it.quality_BQ) for name, it in one.streams()})
    standard.fit(one)
    assert not standard(one).audio.tokens_BTD.any()
    assert (standard(far).audio.tokens_BTD == FARTHEST).all()


def test_a_modality_that_training_lacked_stays_unscaled() -> None:
    standard = Standard(WIDTHS).fit(windows_of(PATTERNS[PATTERNS[:, 2].logical_not()]))
    assert torch.equal(standard.transcripts_tokens_scale_D, torch.ones(WIDTHS.tokens["transcripts"]))
    assert standard.audio_tokens_mean_D.any()


def test_windows_of_another_width_are_refused() -> None:
    windows = windows_of(BATCH)
    wide = type(windows.audio).of(windows.audio.tokens_BTD[:, :, :-1], windows.audio.mask_BT, windows.audio.quality_BQ)
    with pytest.raises(ValueError, match=r"audio: .*\(9, 3\) wide, this head's \(10, 3\)"):
        head().logits(Windows(frames=windows.frames, audio=wide, transcripts=windows.transcripts))


Record = dict[str, Any]
Tensors = dict[str, Tensor]


def _set(record: Record, tensors: Tensors, where: str, value: object) -> None:
    *path, last = where.split(".")
    for each in path:
        record = record[each]
    record[last] = value


def _shape(record: Record, tensors: Tensors) -> None:
    tensors["standard.audio_tokens_mean_D"] = torch.zeros(9)


def _nan(record: Record, tensors: Tensors) -> None:
    tensors["method.growth_C"][1] = NAN


def _kind(record: Record, tensors: Tensors) -> None:
    tensors["method.growth_C"] = tensors["method.growth_C"].double()


def _more(record: Record, tensors: Tensors) -> None:
    tensors["method.more"] = torch.zeros(1)


def _less(record: Record, tensors: Tensors) -> None:
    del tensors["method.growth_C"]


def change(where: str, value: object) -> Callable[[Record, Tensors], None]:
    return lambda record, tensors: _set(record, tensors, where, value)


BAD = (
    (change("version", VERSION + 1), f"version {VERSION + 1} is not {VERSION}"),
    (change("about.method", "guess"), "method='guess' must be one of concatenation"),
    (change("about.method", 3), "about.method=3 must be text"),
    (change("about.more", 1), "about: expected an object with"),
    (change("about.classes", ["one", "two"]), "classes"),
    (change("about.classes", ["one", "two", "two"]), "classes"),
    (change("about.classes", "one"), "about.classes must be a list of names"),
    (change("about.seed", True), "about.seed=True"),
    (change("about.widths", []), "about.widths: expected an object"),
    (change("about.widths.tokens", {"audio": 10}), "tokens: expected an object"),
    (change("about.widths.tokens.audio", 1 << 40), "tokens.audio=1099511627776"),
    (change("about.widths.tokens.audio", 11), "must be"),
    (change("about.widths.model", 0), "model=0"),
    (change("about.widths.classes", 2.0), "classes=2.0"),
    (change("calibration", calibration(("a", "b", "c")).to_dict()), "the calibration's classes are not the head's"),
    (change("calibration.hours", -1), "hours=-1"),
    (change("more", 1), "streamer.head: expected an object with"),
    (_shape, r"standard.audio_tokens_mean_D is \(9,\) torch.float32, must be \(10,\)"),
    (_nan, "method.growth_C holds numbers that are not finite"),
    (_kind, "torch.float64, must be"),
    (_more, r"unknown: \['method.more'\]"),
    (_less, r"missing: \['method.growth_C'\]"),
)


@pytest.mark.parametrize(("spoil", "match"), BAD)
def test_what_is_no_head_is_refused_and_the_place_is_named(spoil: Callable[[Record, Tensors], None], match: str, tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    head().save(path)
    tensors, metadata = read(path, MOST_BYTES)
    record = json.loads(metadata[KEY])
    spoil(record, tensors)
    write(path, tensors, {KEY: json.dumps(record)})
    with pytest.raises(ValueError, match=match) as found:
        FusionHead.load(path)
    assert str(path) in str(found.value)


@pytest.mark.parametrize("metadata", [{}, {KEY: "{"}, {KEY: "[]"}, {KEY: "{}"}])
def test_other_safetensors_are_no_head(metadata: Mapping[str, str], tmp_path: Path) -> None:
    write(tmp_path / "other.safetensors", {"x": torch.zeros(1)}, metadata)
    with pytest.raises(ValueError, match=r"no head|version None"):
        FusionHead.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize("length", [0, 7, 300, -1])
def test_a_file_cut_short_is_no_head(length: int, tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    head().save(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="no safetensors file"):
        FusionHead.load(path)


def test_a_file_past_the_bound_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    with path.open("wb") as stream:
        stream.truncate(MOST_BYTES + 1)
    with pytest.raises(ValueError, match=f"more than {MOST_BYTES} bytes"):
        FusionHead.load(path)


def test_widths_that_a_method_refuses_are_a_value_error(tmp_path: Path) -> None:
    path = tmp_path / "head.safetensors"
    head("bottleneck").save(path)
    tensors, metadata = read(path, MOST_BYTES)
    record = json.loads(metadata[KEY])
    record["about"]["widths"]["model"] = 18
    write(path, tensors, {KEY: json.dumps(record)})
    with pytest.raises(ValueError, match="18 is no multiple"):
        FusionHead.load(path)
