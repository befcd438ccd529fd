"""The first fusion's laws: exact contributions, one modality is its own expert."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.classes import CLASSES
from models.fusion.first import FLOOR, PRIOR, Fused, fuse, logit, sigmoid, strongest

CHANCE = st.floats(0, 1)
EXPERTS = st.dictionaries(st.sampled_from(["frames", "audio", "transcripts"]), st.dictionaries(st.sampled_from(CLASSES), CHANCE))


@given(EXPERTS)
def test_contributions_sum_to_the_shift_in_log_odds(experts: dict[str, dict[str, float]]) -> None:
    for score in fuse(experts).values():
        assert score.probability == pytest.approx(sigmoid(logit(PRIOR) + sum(score.contributions.values())), rel=1e-9)
        if score.probability < 1 - 1e-9:  # nearer to 1 a float no longer holds the log-odds
            assert logit(score.probability) - logit(PRIOR) == pytest.approx(sum(score.contributions.values()), abs=1e-6)


@given(st.sampled_from(["frames", "audio", "transcripts"]), st.sampled_from(CLASSES), CHANCE)
def test_one_modality_alone_is_its_expert(modality: str, name: str, chance: float) -> None:
    least = PRIOR if (modality, name) == ("audio", "call_for_help") else FLOOR
    score = fuse({modality: {name: chance}})[name]
    assert score.probability == pytest.approx(min(max(chance, least), 1 - FLOOR))


@given(EXPERTS)
def test_every_class_is_scored_and_what_nobody_speaks_of_stays_at_the_prior(experts: dict[str, dict[str, float]]) -> None:
    scores = fuse(experts)
    assert tuple(scores) == CLASSES
    for name in set(CLASSES) - {name for chances in experts.values() for name in chances}:
        assert scores[name] == Fused(probability=pytest.approx(PRIOR), contributions={})


def test_modalities_that_agree_are_surer_than_either() -> None:
    both = fuse({"audio": {"call_for_help": 0.2}, "transcripts": {"call_for_help": 0.6}})["call_for_help"]
    assert both.probability > 0.95
    assert both.contributions["transcripts"] > both.contributions["audio"] > 0


def test_a_hint_never_speaks_against_the_words() -> None:
    assert fuse({"audio": {"call_for_help": 0.0}, "transcripts": {"call_for_help": 0.6}})["call_for_help"].probability == pytest.approx(0.6)


def test_the_strongest_event_of_a_window_counts() -> None:
    assert strongest([{"siren": 0.1, "scream": 0.5}, {"siren": 0.7}]) == {"siren": 0.7, "scream": 0.5}


@given(st.floats(-800, 800))
def test_sigmoid_never_overflows(x: float) -> None:
    assert 0 <= sigmoid(x) <= 1
