"""The record: what apply computes, and what it takes to be read back."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.calibration import NEVER, PATTERNS, Calibration, Scale, Temperature, patterns

ODDS = st.floats(-20, 20)


def scaled(name: str = "siren", **change: Any) -> Scale:
    return Scale(**{"name": name, "scale": 2.0, "bias": -1.0, "threshold": 0.25, "positives": 9, "negatives": 91, **change})


def calibration(*classes: Scale, **temperatures: float) -> Calibration:
    """With temperature 1 but for the patterns that are named, `_` standing for `+`."""
    named = {name.replace("_", "+"): value for name, value in temperatures.items()}
    return Calibration(
        split="calibration",
        windows=100,
        hours=0.5,
        per_hour=1.0,
        classes=classes or (scaled(), scaled("scream", scale=0.5, bias=0.0, threshold=NEVER, fallback="few_positives")),
        temperatures={name: Temperature(value=named.get(name, 1.0), windows=3, fitted_on=None) for name in PATTERNS},
    )


def test_a_probability_is_the_sigmoid_of_the_scaled_logit_over_the_temperature() -> None:
    fitted = calibration(frames=2.0, audio_transcripts=0.5)
    present_BM = torch.tensor([[True, False, False], [False, True, True], [True, True, True]])
    found = fitted.apply(torch.tensor([[3.0, 1.0]] * 3), present_BM)
    expected = torch.tensor([[5.0 / t, 0.5 / t] for t in (2.0, 0.5, 1.0)], dtype=torch.float64).sigmoid()
    assert found.dtype == torch.float64 and torch.allclose(found, expected, atol=1e-15)


def test_patterns_are_named_by_the_modalities_that_are_there() -> None:
    present_BM = torch.tensor([[k >> m & 1 for m in range(3)] for k in range(8)], dtype=torch.bool)
    names = ("nothing", "frames", "audio", "frames+audio", "transcripts", "frames+transcripts", "audio+transcripts")
    assert patterns(present_BM).tolist() == list(range(8))
    assert (*names, "frames+audio+transcripts") == PATTERNS


@settings(deadline=None, max_examples=50)
@given(st.lists(ODDS, min_size=2, max_size=20), st.floats(1e-3, 10), ODDS, st.floats(0.05, 20))
def test_a_probability_never_falls_when_its_logit_rises(logits: list[float], scale: float, bias: float, temperature: float) -> None:
    fitted = calibration(scaled(scale=scale, bias=bias), frames=temperature)
    found = fitted.apply(torch.tensor(sorted(logits))[:, None], torch.tensor([[True, False, False]]).expand(len(logits), 3))
    assert (found.diff(dim=0) >= 0).all()


def test_it_is_read_back_from_json_as_it_was() -> None:
    fitted = calibration(audio=1.7)
    text = json.dumps(fitted.to_dict(), sort_keys=True, allow_nan=False)
    assert Calibration.from_dict(json.loads(text)) == fitted
    assert json.loads(text) == fitted.to_dict()


def cut(*path: str | int) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        del data[path[-1]]

    return change


def put(value: object, *path: str | int) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (cut("hours"), "calibration: expected an object with .*'hours'"),
        (put(1, "more"), "calibration: expected an object with .*found .*'more'"),
        (put("", "split"), "calibration: split='' must be a name"),
        (put(True, "windows"), "calibration: windows=True must be a count"),
        (put(-1.0, "per_hour"), r"calibration: per_hour=-1\.0 must be a finite number"),
        (put({}, "classes"), "classes must be a list"),
        (put([], "classes"), r"classes \[\] must be at least one"),
        (put("scream", "classes", 0, "name"), "each once"),
        (put([1], "classes", 0), r"classes\[0\]: expected an object .*found list"),
        (put(0, "classes", 0, "scale"), r"classes\[0\]: scale=0 must be a finite number"),
        (put(math.nan, "classes", 1, "bias"), r"classes\[1\]: bias=nan must be a finite number"),
        (put("1", "classes", 1, "bias"), r"classes\[1\]: bias='1' must be a finite number"),
        (put(1.5, "classes", 0, "threshold"), r"classes\[0\]: threshold=1\.5"),
        (put("none", "classes", 0, "fallback"), r"classes\[0\]: fallback='none' must be none or one of few_positives"),
        (cut("temperatures", "audio"), "temperatures of .* must be of"),
        (put(0.0, "temperatures", "audio", "value"), r"temperatures\['audio'\]: value=0\.0"),
        (put("video", "temperatures", "audio", "fitted_on"), r"temperatures\['audio'\]: fitted_on='video'"),
        (put(3, "temperatures"), "temperatures an object"),
    ],
)
def test_what_is_no_calibration_is_refused_with_the_place(change: Callable[[Any], None], said: str) -> None:
    data = calibration().to_dict()
    change(data)
    with pytest.raises(ValueError, match=said):
        Calibration.from_dict(data)


def test_a_list_is_no_calibration() -> None:
    with pytest.raises(ValueError, match=r"calibration: expected an object .*found list"):
        Calibration.from_dict([])


def test_logits_of_other_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"logits \(4, 3\) must be \(B, 2\), and present \(4, 3\) \(B, 3\)"):
        calibration().apply(torch.zeros(4, 3), torch.ones(4, 3, dtype=torch.bool))
