"""Laws of models/account.py, with a head over tiny features."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.account import Case, accounts, of_batch, without
from models.calibration import PATTERNS, Calibration, Scale, Temperature
from models.classes import LABELS
from models.features import Heard, Patch, Said, Seen
from models.fusion.windows import MODALITIES
from models.head import About, FusionHead
from models.paragraph import DECIDES, SLIGHT, Account, Found, paragraph
from models.tokens import QUALITY, SECOND, Event, gather, widths, windows_of
from models.verdict import judge
from tests.models.fusion.builders import shaken

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


INSIDE = {"frames": {0.0: 0, 1.5: 1}, "audio": {0.5: 3, 1.5: 4}, "transcripts": {1.5: 6}}
"""Which of the events is at a second of the window, by modality."""


def made(method: str = "gated") -> FusionHead:
    """Untrained experts say what their encoders say."""
    scales = tuple(Scale(name=name, scale=0.9, bias=-0.1, threshold=0.7, positives=9, negatives=9) for name in LABELS)
    temperatures = {name: Temperature(value=1.0 + at / 10, windows=9, fitted_on=name) for at, name in enumerate(PATTERNS)}
    calibration = Calibration(split="test", windows=9, hours=1.0, per_hour=1.0, classes=scales, temperatures=temperatures)
    torch.manual_seed(0)
    about = About(method=method, widths=widths(len(LABELS)), classes=LABELS, encoders="none", seed=0, recipe="none")
    return FusionHead(about, calibration)


@pytest.fixture(scope="module")
def head() -> FusionHead:
    return made()


def by_label(found: list[Account]) -> dict[str, Account]:
    return {account.label: account for account in found}


def of(head: FusionHead, events: list[Event], label: str) -> Account:
    return by_label(accounts(head, events, START, END, least=0.0))[label]


def log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_the_window_s_own_events_are_its_evidence(head: FusionHead) -> None:
    found = of(head, EVENTS, "siren")
    seen, heard, said = (found.moments[name] for name in MODALITIES)
    assert [one.what for one in seen.found] == ["person"] and seen.second in (0.0, 1.5) and seen.people in (0, 2)
    assert heard.found == (Found(what="Siren", chance=0.9), Found(what="Vehicle", chance=0.4)) and heard.second == 0.5
    assert said.found == (Found(what="I will hurt you", chance=0.8),) and said.second == 1.5
    assert "What counted most: the sound at 0.5 s (Siren 90%; Vehicle 40%); without it" in paragraph(found)


def test_windows_in_one_batch_are_told_as_each_alone() -> None:
    head = shaken(made()).double()
    cases = [Case(events=some, start=START, gathered=gather(START, END, some)) for some in (EVENTS, EVENTS[3:5], [], EVENTS[6:])]
    windows = windows_of([case.gathered for case in cases])
    verdict = judge(head, windows)
    together = of_batch(head, cases, windows, verdict, torch.ones_like(verdict.probability_BC, dtype=torch.bool))
    assert [len(found) for found in together] == [len(LABELS)] * 4
    for case, found in zip(cases, together, strict=True):
        alone = by_label(accounts(head, case.events, START, END, least=0.0))
        assert [paragraph(account) for account in found] == [paragraph(alone[account.label]) for account in found]
    some = torch.zeros_like(verdict.probability_BC, dtype=torch.bool)
    some[1, 3] = True
    assert [[one.label for one in found] for found in of_batch(head, cases, windows, verdict, some)] == [[], [LABELS[3]], [], []]


@pytest.mark.parametrize("method", ["gated", "concatenation", "bottleneck", "log_odds_total"])
def test_without_what_counted_the_log_odds_fall_by_what_is_said_and_by_no_more_without_another(method: str) -> None:
    head = shaken(made(method))
    for label, found in by_label(accounts(head, EVENTS, START, END, least=0.0)).items():
        for name, moment in found.moments.items():
            falls = {}
            for second, at in INSIDE[name].items():
                left = of(head, EVENTS[:at] + EVENTS[at + 1 :], label).probability
                falls[second] = log_odds(found.probability) - log_odds(left)
                assert second != moment.second or left == pytest.approx(moment.left, abs=1e-4)
            assert falls[moment.second] == pytest.approx(moment.fall, abs=1e-3)
            toward = 1 if found.shares[name] >= 0 else -1
            if (most := max(toward * fall for fall in falls.values())) >= max(SLIGHT, DECIDES * abs(found.shares[name])) + 1e-3:
                assert toward * moment.fall == pytest.approx(most, abs=1e-3)


def test_of_a_chunk_with_several_patches_the_one_that_counts_is_told(head: FusionHead) -> None:
    calm, loud = (sound(10.0, (label, chance)).features for label, chance in (("Wind", 0.01), ("Siren", 0.9)))
    assert isinstance(calm, Heard) and isinstance(loud, Heard)
    patches = (calm.patches[0], replace(loud.patches[0], start_s=1.0, end_s=1.5))
    twice = {name: np.tile(getattr(calm, name), (2, 1)) for name in ("posteriors_PL", "embeddings_PD", "quality_PQ")}
    chunk = Event(start=START, end=END, features=Heard(patches=patches, **twice))
    moment = of(head, [picture(10.0, 0.1, 0), chunk], "siren").moments["audio"]
    assert moment.second == 1.25 and moment.found == (Found(what="Siren", chance=0.9),)


def test_where_several_say_the_same_no_single_moment_decides(head: FusionHead) -> None:
    calm, sirens = [sound(10.0, ("Siren", 0.01))], [sound(10.5, ("Siren", 0.9)), sound(11.0, ("Siren", 0.9)), sound(11.2, ("Siren", 0.9))]
    found = of(head, calm + sirens, "siren")
    moment = found.moments["audio"]
    assert moment.fall == pytest.approx(0.0, abs=1e-5) and moment.alike == 3 and moment.found[0].chance == 0.9
    assert "No single moment decides it; several say the same. The sound speaks for it" in paragraph(found)
    once = of(head, calm + sirens[:1], "siren").moments["audio"]
    assert once.fall > 3 and once.alike == 1 and once.second == 1.0


def test_of_what_speaks_against_a_class_the_moment_is_the_one_that_does_most(head: FusionHead) -> None:
    seen, calm, silent = picture(10.0, 0.004, 0), sound(10.0, ("Siren", 0.01)), sound(11.0, ("Siren", 0.0001))
    found = of(head, [seen, calm], "siren")
    assert found.shares["audio"] < 0 and found.moments["audio"].fall < 0 and found.moments["audio"].left > found.probability
    both = of(head, [seen, calm, silent], "siren")
    assert both.shares["audio"] < 0 and both.moments["audio"].second == 1.5, "no removal makes a siren likelier: the surest that it is none"


def test_shares_are_the_shapley_values_of_the_calibrated_log_odds(head: FusionHead) -> None:
    found = judge(head, windows_of([gather(START, END, EVENTS)]))
    for label, account in by_label(accounts(head, EVENTS, START, END, least=0.0)).items():
        c = LABELS.index(label)
        assert list(account.shares.values()) == found.share_BMC[0, :, c].tolist() and account.probability == float(
            found.probability_BC[0, c]
        )
        assert sum(account.shares.values()) + float(found.empty_BC[0, c]) == pytest.approx(log_odds(account.probability), abs=1e-5)


def test_what_alarms_or_is_likely_is_told_surest_first(head: FusionHead) -> None:
    every = accounts(head, EVENTS, START, END, least=0.0)
    assert len(every) == len(LABELS) and [one.probability for one in every] == sorted((one.probability for one in every), reverse=True)
    likely = accounts(head, EVENTS, START, END, least=0.6)
    assert {one.label for one in likely} == {one.label for one in every if one.probability >= 0.6}


def test_what_is_left_out_is_as_if_it_had_not_come(head: FusionHead) -> None:
    found = accounts(head, without(EVENTS, {"audio"}), START, END, least=0.0)[0]
    assert set(found.shares) == set(found.moments) == {"frames", "transcripts"} and "Without the sound" in paragraph(found)
    assert paragraph(accounts(head, [], START, END, least=0.0)[0]).endswith("Without the pictures, the sound and the words: nothing came.")


def test_without_a_calibration_there_is_nothing_to_account_for(head: FusionHead) -> None:
    with pytest.raises(ValueError, match="not calibrated"):
        accounts(FusionHead(head.about), EVENTS, START, END)
