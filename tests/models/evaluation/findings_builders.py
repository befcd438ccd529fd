"""Scored windows whose figures are known by construction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from models.classes import LABELS
from models.evaluation.alarms import Ints
from models.evaluation.compare import Condition, Outcome, compare, only
from models.evaluation.findings import Comparison, Findings, Origin, SplitCount, StreamTrack
from models.evaluation.metrics import Bools, Floats
from models.evaluation.truth import Truth
from models.fusion.windows import MODALITIES

GROUPS, EACH = 40, 12
SEEDS = (3, 1)


def truth_of(truth_BC: Bools, group_B: Ints) -> Truth:
    rows = len(truth_BC)
    none = np.zeros(rows, dtype=bool)
    return Truth(
        truth_BC=truth_BC,
        script_B=group_B,
        start_B=np.arange(rows, dtype=np.float64),
        conflict_B=none,
        single_B=none,
        group_B=group_B,
        groups=tuple(f"recording {at:02}" for at in np.unique(group_B)),
        recordings=(frozenset(),) * rows,
    )


def truth() -> Truth:
    """Each group is about one class, true in a third of its windows."""
    group_B = np.arange(GROUPS).repeat(EACH)
    about_BC = group_B[:, None] % len(LABELS) == np.arange(len(LABELS))
    return truth_of(about_BC & (np.arange(GROUPS * EACH) % 3 == 0)[:, None], group_B)


def condition(name: str, *, left: Sequence[str] = MODALITIES) -> Condition:
    there = np.array([modality in left for modality in MODALITIES])
    return Condition(name=name, truth=truth(), present_BM=np.tile(there, (GROUPS * EACH, 1)))


def scores(skill: float, *seed: int) -> Floats:
    """Probabilities that rank perfectly where skill is infinite, and know nothing where it is 0."""
    truth_BC = truth().truth_BC
    noise_BC = np.random.default_rng(seed).normal(size=truth_BC.shape)
    if np.isinf(skill):
        return np.where(truth_BC, 0.99, 0.01)
    return np.asarray(1 / (1 + np.exp(3 - noise_BC - skill * truth_BC)), dtype=np.float64)


def outcomes(skills: Mapping[str, float], conditions: Sequence[Condition], *, seeds: Sequence[int] = SEEDS) -> Iterator[Outcome]:
    """Methods with the same skill give the same scores."""
    for method, skill in skills.items():
        for one in conditions:
            for seed in seeds:
                yield Outcome(method=method, seed=seed, condition=one.name, probability_BC=scores(skill, seed))


def compared(skills: Mapping[str, float], conditions: Sequence[Condition], *, resamples: int = 60) -> Comparison:
    return compare(outcomes(skills, conditions), conditions, resamples=resamples)


def singles(*skills: float) -> dict[str, float]:
    """By the names of the methods that read one modality."""
    return {only(modality): skill for modality, skill in zip(MODALITIES, skills, strict=True)}


def findings(comparison: Comparison, stream: StreamTrack | None = None) -> Findings:
    origin = Origin(
        date="2026-11-26",
        command="compare --seeds 3,1",
        scene_seed=7,
        digests={"recordings": "b" * 64, "clips": "a" * 64},
        splits=(SplitCount(name="test", scenes=GROUPS, windows=GROUPS * EACH, recordings=GROUPS, packages=("sounds", "pictures")),),
        recordings={"siren": ("one", "two")},
        machine="2 cores",
        versions={"numpy": "2"},
    )
    nothing = StreamTrack(wanted=0.8, event_hours=0.0, negative_hours=0.0, methods=())
    return Findings(origin=origin, comparison=comparison, stream=stream or nothing)
