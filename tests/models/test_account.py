"""Laws of models/account.py, with a head over tiny features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.account import accounts
from models.calibration import PATTERNS, Calibration, Scale, Temperature
from models.evaluation.truth import LABELS
from models.explain import shapley
from models.features import Heard, Patch, Said, Seen
from models.head import About, FusionHead
from models.paragraph import Account, paragraph
from models.tokens import QUALITY, SECOND, Event, gather, widths, windows_of

START, END = 10 * SECOND, 12 * SECOND


def picture(second: float, chance: float, boxes: int) -> Event:
    at = round(second * SECOND)
    quality_Q = np.zeros(QUALITY["frames"], np.float32)
    return Event(start=at, end=at, features=Seen(chances={"person": chance}, boxes_N5=np.ones((boxes, 5), np.float32), quality_Q=quality_Q))


def sound(second: float, *labels: tuple[str, float]) -> Event:
    at = round(second * SECOND)
    patch = Patch(start_s=0.0, end_s=1.0, chances={"siren": labels[0][1]}, labels=labels)
    zeros = {"posteriors_PL": np.zeros((1, 521), np.float32), "embeddings_PD": np.zeros((1, 1024), np.float32)}
    heard = Heard(patches=(patch,), quality_PQ=np.zeros((1, QUALITY["audio"]), np.float32), **zeros)
    return Event(start=at, end=at + SECOND, features=heard)


def words(second: float, text: str, similarity: float) -> Event:
    at = round(second * SECOND)
    said = Said(chances={"spoken_threat": 0.9}, similarity=similarity, embedding_D=np.zeros(384, np.float32))
    return Event(start=at, end=at + SECOND, features=said, text=text, confidence=0.9)


EVENTS = [
    picture(10.0, 0.2, 0),
    picture(11.5, 0.9, 2),
    picture(12.0, 1.0, 3),  # the next window's
    sound(10.0, ("Siren", 0.9), ("Vehicle", 0.4)),
    sound(11.0, ("Siren", 0.6)),
    sound(12.0, ("Gunshot", 1.0)),  # the next window's
    words(11.5, "I will hurt you", 0.8),
]


@pytest.fixture(scope="module")
def head() -> FusionHead:
    """Untrained experts say what their encoders say."""
    scales = tuple(Scale(name=name, scale=1.0, bias=0.0, threshold=0.7, positives=9, negatives=9) for name in LABELS)
    temperatures = {name: Temperature(value=1.0, windows=9, fitted_on=name) for name in PATTERNS}
    calibration = Calibration(split="test", windows=9, hours=1.0, per_hour=1.0, classes=scales, temperatures=temperatures)
    torch.manual_seed(0)
    about = About(method="gated", widths=widths(len(LABELS)), classes=LABELS, encoders="none", seed=0, recipe="none")
    return FusionHead(about, calibration)


def by_label(found: list[Account]) -> dict[str, Account]:
    return {account.label: account for account in found}


def test_the_window_s_own_events_are_its_evidence(head: FusionHead) -> None:
    found = by_label(accounts(head, EVENTS, START, END, least=0.0))["siren"]
    assert found.picture is not None and (found.picture.chance, found.picture.second, found.people) == (0.9, 1.5, 2)
    assert {(one.what, one.chance, one.second) for one in found.sounds} == {("Siren", 0.9, 0.5), ("Vehicle", 0.4, 0.5)}
    assert [(one.what, one.chance, one.second) for one in found.quotes] == [("I will hurt you", 0.8, 1.5)]
    assert "Siren 90% at 0.5 s" in paragraph(found) and "Gunshot" not in paragraph(found)


def test_shares_are_the_shapley_values_of_the_logit(head: FusionHead) -> None:
    windows = windows_of([gather(START, END, EVENTS)])
    whole = shapley(head.logits, windows)
    for label, found in by_label(accounts(head, EVENTS, START, END, least=0.0)).items():
        c = LABELS.index(label)
        assert sum(found.shares.values()) + float(whole.empty_BC[0, c]) == pytest.approx(float(head.logits(windows)[0, c]), abs=1e-5)


def test_what_alarms_or_is_likely_is_told_surest_first(head: FusionHead) -> None:
    every = accounts(head, EVENTS, START, END, least=0.0)
    assert len(every) == len(LABELS) and [one.probability for one in every] == sorted((one.probability for one in every), reverse=True)
    likely = accounts(head, EVENTS, START, END, least=0.6)
    assert {one.label for one in likely} == {one.label for one in every if one.probability >= 0.6}


def test_what_is_left_out_is_as_if_it_had_not_come(head: FusionHead) -> None:
    found = accounts(head, EVENTS, START, END, least=0.0, without=frozenset({"audio"}))[0]
    assert set(found.shares) == {"frames", "transcripts"} and found.sounds == () and "Without the sound" in paragraph(found)


def test_without_a_calibration_there_is_nothing_to_account_for(head: FusionHead) -> None:
    with pytest.raises(ValueError, match="not calibrated"):
        accounts(FusionHead(head.about), EVENTS, START, END)
