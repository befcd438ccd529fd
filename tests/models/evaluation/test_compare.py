"""Methods whose order is known: a perfect one, ones that know nothing, ones that are the same."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from models.classes import JOINT, LABELS
from models.evaluation.compare import Condition, Outcome, compare, holm, only, sources
from models.evaluation.findings import Comparison
from models.evaluation.intervals import bootstrap
from models.evaluation.metrics import calibration_error, dominance_gap, mean_average_precision
from tests.models.evaluation.builders import heard, said, script, seen
from tests.models.evaluation.findings_builders import GROUPS, SEEDS, compared, condition, outcomes, scores, singles, truth

INF = math.inf
SKILLS = {"gated": INF, "log_odds": 1.0, "twin": INF, "product": 0.0, **singles(0.5, 2.0, 0.0)}


@pytest.fixture(scope="module")
def conditions() -> list[Condition]:
    return [condition("clean"), condition("frames+transcripts", left=("frames", "transcripts"))]


@pytest.fixture(scope="module")
def found(conditions: list[Condition]) -> Comparison:
    return compared(SKILLS, conditions)


def test_a_perfect_method_has_every_figure_at_its_best(found: Comparison) -> None:
    cell = found.cell("gated", "clean")
    assert (cell.map.mean, cell.map.low, cell.map.high, cell.map.spread) == (1.0, 1.0, 1.0, 0.0)
    assert cell.joint.mean == cell.auroc.mean == cell.retention.mean == 1.0
    assert cell.brier.mean == pytest.approx(0.01**2) and cell.calibration_error.mean == pytest.approx(0.01)
    assert cell.seeds == (1, 3)


def test_a_method_that_knows_nothing_ranks_by_chance(found: Comparison) -> None:
    cell = found.cell("product", "clean")
    assert cell.auroc.mean == pytest.approx(0.5, abs=0.05)
    assert 0.0 < cell.map.mean < 0.15
    assert cell.gap.mean < -0.2 and cell.gap.high < 0


def test_the_figures_are_those_of_metrics_and_the_interval_that_of_the_plain_bootstrap(found: Comparison) -> None:
    cell, exam = found.cell("log_odds", "clean"), truth()
    by_seed = [mean_average_precision(scores(1.0, seed), exam.truth_BC) for seed in SEEDS]
    assert cell.map.mean == pytest.approx(np.mean(by_seed)) and cell.map.spread == pytest.approx(np.std(by_seed, ddof=1))
    pooled = [calibration_error(scores(1.0, seed).ravel(), exam.truth_BC.ravel()) for seed in SEEDS]
    assert cell.calibration_error.mean == pytest.approx(np.mean(pooled))

    def slow(rows: np.ndarray) -> float:
        return float(np.mean([mean_average_precision(scores(1.0, seed)[rows], exam.truth_BC[rows]) for seed in SEEDS]))

    plain = bootstrap(slow, exam.group_B, np.random.default_rng(0), resamples=found.resamples)
    assert (cell.map.low, cell.map.high) == pytest.approx((plain.low, plain.high))


def test_the_gap_is_to_the_best_modality_that_is_left(found: Comparison) -> None:
    clean, without_audio = found.cell("log_odds", "clean"), found.cell("log_odds", "frames+transcripts")
    assert (clean.single, without_audio.single) == ("audio", "frames")
    best = found.cell(only("audio"), "clean")
    assert clean.gap.mean == pytest.approx(clean.map.mean - best.map.mean)
    assert best.gap.mean == pytest.approx(0.0, abs=1e-12)
    exam = truth()
    siren = next(one for one in clean.classes if one.label == "siren")
    c = LABELS.index("siren")
    alone = compare(outcomes(SKILLS, [condition("clean")], seeds=(3,)), [condition("clean")], resamples=2).cell("log_odds", "clean")
    left = {name: scores(SKILLS[name], 3)[:, c] for name in singles(0, 0, 0)}
    assert alone.classes[c].gap.mean == pytest.approx(dominance_gap(scores(1.0, 3)[:, c], left, exam.truth_BC[:, c]))
    assert siren.windows == exam.truth_BC[:, c].sum() and siren.groups == len(range(c, GROUPS, len(LABELS)))


def test_methods_that_are_the_same_do_not_differ_and_a_worse_one_does(found: Comparison) -> None:
    by_name = {(one.method, one.figure): one for one in found.differences}
    assert set(by_name) == {(method, figure) for method in ("log_odds", "twin", "product") for figure in ("map", "joint")}
    for figure in ("map", "joint"):
        twin, worse = by_name["twin", figure], by_name["product", figure]
        assert (twin.mean, twin.low, twin.high, twin.p, twin.holm) == (0.0, 0.0, 0.0, 1.0, 1.0)
        assert worse.high < 0 and worse.p == pytest.approx(2 / 61) and worse.holm in (pytest.approx(6 / 61), pytest.approx(4 / 61))


def test_joint_figures_are_of_the_joint_classes_alone(conditions: list[Condition]) -> None:
    columns = [LABELS.index(name) for name in JOINT]
    known = scores(0.0, 1)
    known[:, columns] = scores(INF)[:, columns]
    given = [*outcomes({**singles(0, 0, 0)}, conditions[:1], seeds=(1,))]
    given.append(Outcome(method="gated", seed=1, condition="clean", probability_BC=known))
    cell = compare(given, conditions[:1], resamples=20).cell("gated", "clean")
    assert cell.joint.mean == 1.0 and cell.map.mean < 0.5
    assert math.isnan(cell.map.spread)


def test_retention_is_the_share_of_clean(conditions: list[Condition]) -> None:
    given = [one for one in outcomes(SKILLS, conditions) if (one.method, one.condition) != ("gated", "frames+transcripts")]
    given += [
        Outcome(method="gated", seed=seed, condition="frames+transcripts", probability_BC=np.full_like(scores(0.0, 1), 0.03))
        for seed in SEEDS
    ]
    lost = compare(given, conditions, resamples=20).cell("gated", "frames+transcripts")
    assert lost.retention.mean == pytest.approx(lost.map.mean) == pytest.approx(truth().truth_BC.mean(), rel=0.1)
    assert lost.retention.low <= lost.retention.mean <= lost.retention.high


def test_order_changes_nothing_and_the_same_input_gives_the_same(conditions: list[Condition], found: Comparison) -> None:
    turned = compare(list(outcomes(SKILLS, conditions))[::-1], conditions, resamples=found.resamples)
    assert {(one.method, one.condition, one.gap) for one in turned.cells} == {(one.method, one.condition, one.gap) for one in found.cells}


def test_holm_corrects_for_how_many_were_compared() -> None:
    # Holm 1979: the smallest times m, the next times m - 1, never falling
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert math.isnan(holm([float("nan"), 0.02])[0]) and holm([float("nan"), 0.02])[1] == 0.02


def test_reliability_is_of_the_default_and_counts_every_window(found: Comparison) -> None:
    clean = [one for one in found.reliability if one.condition == "clean"]
    assert sum(one.windows for one in clean) == truth().truth_BC.size * len(SEEDS)
    assert [(one.probability, one.share) for one in clean] == [(pytest.approx(0.01), 0.0), (pytest.approx(0.99), 1.0)]


def test_a_class_rests_on_the_recordings_of_its_events() -> None:
    near = script(heard("glass_break", 4.0, 4.5), seen("person", 5.0, 6.0), heard("door", 1.0, 2.0))
    found = sources([near, script(heard("glass_break", 4.0, 4.5)), script(words=(said("spoken_threat", (1.0, 2.0)),))])
    assert found["intrusion"] == ("recording of glass_break", "recording of person")
    assert found["breakage"] == found["glass_break"] == ("recording of glass_break",)
    assert found["spoken_threat"] == ("template of spoken_threat",)
    assert set(found) == set(LABELS) and found["siren"] == ()


def test_what_does_not_fit_is_refused(conditions: list[Condition]) -> None:
    given = list(outcomes(SKILLS, conditions))
    with pytest.raises(ValueError, match="comes twice"):
        compare([*given, given[0]], conditions, resamples=2)
    with pytest.raises(ValueError, match="'foggy' is none of clean"):
        compare([dataclasses.replace(given[0], condition="foggy")], conditions, resamples=2)
    with pytest.raises(ValueError, match="missing: only:audio under clean"):
        compare([one for one in given if one.method != "only:audio"], conditions, resamples=2)
    with pytest.raises(ValueError, match="default 'gated' must be one of"):
        compare([one for one in given if one.method != "gated"], conditions, resamples=2)
    with pytest.raises(ValueError, match="seeds"):
        compare(given[:-1], conditions, resamples=2)
    with pytest.raises(ValueError, match="one row of each a window"):
        dataclasses.replace(conditions[0], present_BM=np.ones((3, 3), dtype=bool))
