"""What the default was meant to reach, and whether the findings show that it does.

Law: an aim that the findings cannot judge (no such data, too few hours) is not met.

An aim is judged by the figure; where the interval's worse end would miss it, `sure` is False and the report says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from models.calibration import PATTERNS
from models.classes import JOINT
from models.evaluation.findings import Cell, ClassTrack, Comparison, Findings
from models.recordings import ACOUSTIC

GAP = -0.01
JOINT_GAIN = 0.05
ERROR_CLEAN, ERROR_MISSING = 0.05, 0.10
ALARMS_PER_HOUR, LEAST_HOURS = 1.0, 6.0
SIGNIFICANT = 0.05
MISSING = tuple(name for name in PATTERNS if name != "nothing" and name.count("+") < PATTERNS[-1].count("+"))
"""Conditions under which a modality is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """`wanted` and `found` are sentences' halves. `sure`: the interval's worse end meets it too; True where there is no interval."""

    name: str
    wanted: str
    found: str
    met: bool
    sure: bool = True


def judge(findings: Findings) -> list[Aim]:
    """All of them, in the order in which they matter."""
    comparison = findings.comparison
    return [_gap(comparison), _joint(comparison), _clean(comparison), _missing(comparison), _alarms(findings)]


def points(share: float, *, signed: bool = False) -> str:
    """A share in hundredths, as AP is told."""
    return "–" if math.isnan(share) else f"{100 * share + 0.0:{'+' if signed else ''}.1f}"


def number(value: float, digits: int = 3) -> str:
    """A figure, or a dash."""
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def behind(comparison: Comparison) -> Iterator[str]:
    """Where the default does worse than another: sentences, the worst first within a kind."""
    for each in sorted(comparison.differences, key=lambda one: -one.mean):
        if each.mean > 0:
            what = "on the joint classes" if each.figure == "joint" else "over all classes"
            surely = "significantly " if each.holm < SIGNIFICANT else ""
            span = f"{points(each.low, signed=True)} to {points(each.high, signed=True)}"
            p = f"p = {number(each.p)}, {number(each.holm)} after Holm"
            yield f"{each.method} is {surely}ahead {what} on {each.condition}: {points(each.mean, signed=True)} points ({span}; {p})."
    for name in comparison.conditions:
        best = max((one for one in _of(comparison, name)), key=lambda one: one.map.mean)
        own = comparison.cell(comparison.default, name)
        if best.map.mean > own.map.mean:
            yield f"{name}: {best.method} has {points(best.map.mean)}, {comparison.default} {points(own.map.mean)}."


def dominated(cell: Cell) -> list[str]:
    """The classes in which a single modality is ahead by more than the aim allows."""
    worst = sorted((one for one in cell.classes if one.gap.mean < GAP), key=lambda one: one.gap.mean)
    return [f"{one.label} {points(one.gap.mean, signed=True)}" for one in worst]


def _of(comparison: Comparison, condition: str) -> list[Cell]:
    return [cell for cell in comparison.cells if cell.condition == condition]


def _gap(comparison: Comparison) -> Aim:
    cells = [comparison.cell(comparison.default, name) for name in comparison.conditions]
    known = [cell for cell in cells if not math.isnan(cell.gap.mean)]
    missed = [cell for cell in known if cell.gap.mean < GAP]
    worst = min(known, key=lambda cell: cell.gap.mean, default=None)
    found = "not measured"
    if worst is not None:
        figure, span = points(worst.gap.mean, signed=True), f"{points(worst.gap.low, signed=True)} to {points(worst.gap.high, signed=True)}"
        found = (
            f"worst is {worst.condition}, {figure} points ({span}) against {worst.single} alone; missed in {len(missed)} of {len(known)}"
        )
    return Aim(
        name="Dominance gap",
        wanted="fusing is never more than 1 AP point behind the best single modality left, under any condition",
        found=found,
        met=bool(known) and not missed,
        sure=all(cell.gap.low >= GAP for cell in known),
    )


def _joint(comparison: Comparison) -> Aim:
    name = f"{' and '.join(JOINT)}, {comparison.clean}"
    wanted = f"at least 5 AP points over {comparison.baseline} ({name})"
    for each in comparison.differences:
        if (each.figure, each.method, each.against) == ("joint", comparison.baseline, comparison.default):
            span = f"{points(-each.high, signed=True)} to {points(-each.low, signed=True)}"
            p = f"p = {number(each.p)}, {number(each.holm)} after Holm over all methods"
            found = f"{points(-each.mean, signed=True)} points ({span}; {p})"
            return Aim(name="Joint classes", wanted=wanted, found=found, met=-each.mean >= JOINT_GAIN, sure=-each.high >= JOINT_GAIN)
    return Aim(name="Joint classes", wanted=wanted, found="not measured", met=False)


def _clean(comparison: Comparison) -> Aim:
    cell = comparison.cell(comparison.default, comparison.clean)
    return Aim(
        name="Calibration, clean",
        wanted=f"expected calibration error at most {ERROR_CLEAN:.2f}",
        found=f"{number(cell.calibration_error.mean)} with the classes pooled; {_worst_class(cell)}",
        met=cell.calibration_error.mean <= ERROR_CLEAN,
    )


def _missing(comparison: Comparison) -> Aim:
    cells = [comparison.cell(comparison.default, name) for name in comparison.conditions if name in MISSING]
    worst = max(cells, key=lambda cell: cell.calibration_error.mean, default=None)
    found = (
        "not measured" if worst is None else f"worst is {worst.condition}, {number(worst.calibration_error.mean)}; {_worst_class(worst)}"
    )
    return Aim(
        name="Calibration, a modality missing",
        wanted=f"expected calibration error at most {ERROR_MISSING:.2f} in every subset",
        found=found,
        met=worst is not None and worst.calibration_error.mean <= ERROR_MISSING,
    )


def _worst_class(cell: Cell) -> str:
    worst = max(cell.classes, key=lambda one: one.calibration_error)
    return f"the worst single class is {worst.label}, {number(worst.calibration_error)}"


def _alarms(findings: Findings) -> Aim:
    stream = findings.stream
    own = [one for one in stream.methods if one.method == findings.comparison.default]
    classes = [one for one in own[0].classes if one.label in ACOUSTIC] if own else []
    enough = stream.negative_hours >= LEAST_HOURS
    return Aim(
        name="False alarms",
        wanted=f"at most 1 per hour and acoustic class at recall {stream.wanted:.1f}, over at least 6 h without an event",
        found=f"{_worst_alarms(classes)}, over {stream.negative_hours:.1f} h" if classes else "not measured",
        met=enough and bool(classes) and all(one.alarms.per_hour <= ALARMS_PER_HOUR for one in classes),
        sure=all(one.alarms.high <= ALARMS_PER_HOUR for one in classes),
    )


def _worst_alarms(classes: Sequence[ClassTrack]) -> str:
    known = [one for one in classes if not math.isnan(one.alarms.per_hour)]
    missed = [one.label for one in known if one.alarms.per_hour > ALARMS_PER_HOUR]
    unknown = [one.label for one in classes if one not in known]
    parts = [f"no event of {', '.join(unknown)} to judge by"] if unknown else []
    if known:
        worst = max(known, key=lambda one: one.alarms.per_hour)
        span = f"{number(worst.alarms.low, 2)} to {number(worst.alarms.high, 2)}"
        parts = [f"worst is {worst.label}, {number(worst.alarms.per_hour, 2)} ({span})", f"over it: {', '.join(missed) or 'none'}", *parts]
    return "; ".join(parts)
