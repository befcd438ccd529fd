"""What a comparison of fusion methods found: data alone. `compare` and `streams` make it, `report` writes it.

Laws:
1. What is undefined is NaN, in JSON null; nothing else may be absent.
2. Figures are shares (AP 0.5, not 50 %), times are seconds, rates are per hour.
3. `read` of `text` is the same findings, their floats rounded to four digits; the text of that is the same to the byte.

Units: `spread` is the standard deviation over seeds (NaN of one). `low` and `high` bound the 95 % interval, seeds averaged inside.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass

import msgspec

DIGITS = 4
NAN = float("nan")
_DEPTH = 3
"""From here on JSON stands on one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """The mean over seeds. Without bounds where no interval is given."""

    mean: float
    spread: float
    low: float = NAN
    high: float = NAN


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCell:
    """One class of a cell. `groups`: how many recordings or templates its positive windows are about. `gap`: to the best single for it."""

    label: str
    windows: int
    groups: int
    ap: Figure
    gap: Figure
    auroc: float
    calibration_error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One method under one condition.

    `map` is over the classes that have a positive, `joint` over intrusion and breakage. `gap`: `map` minus that of the best single
    modality left, which is `single` ("" where none is). `retention`: the share of the clean `map`. `calibration_error` pools the classes.
    """

    method: str
    condition: str
    seeds: tuple[int, ...]
    map: Figure
    joint: Figure
    gap: Figure
    single: str
    retention: Figure
    auroc: Figure
    calibration_error: Figure
    brier: Figure
    classes: tuple[ClassCell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """`figure` ("map" or "joint") of `method` minus that of `against`, on the same draws.

    `holm`: p corrected over the methods that are compared with `against` in that figure.
    """

    figure: str
    condition: str
    method: str
    against: str
    mean: float
    low: float
    high: float
    p: float
    holm: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """Windows and classes of probabilities in one tenth of 0..1, all seeds together."""

    condition: str
    probability: float
    share: float
    windows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Every method under every condition. Cells of a method follow each other; single modalities are the methods "only:..."."""

    default: str
    baseline: str
    clean: str
    resamples: int
    methods: tuple[str, ...]
    conditions: tuple[str, ...]
    cells: tuple[Cell, ...]
    differences: tuple[Difference, ...]
    reliability: tuple[Bin, ...]

    def cell(self, method: str, condition: str) -> Cell:
        """KeyError where that was not measured."""
        for cell in self.cells:
            if (cell.method, cell.condition) == (method, condition):
                return cell
        raise KeyError(f"{method} was not measured under {condition}")

    def has(self, method: str, condition: str) -> bool:
        """Whether that was measured."""
        return any((cell.method, cell.condition) == (method, condition) for cell in self.cells)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """`count`: the mean over seeds. Bounds: the wider of the exact Poisson interval and of the bootstrap by block."""

    count: float
    hours: float
    per_hour: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Of the curve of one class: events found, and false alarms per hour at that threshold or any higher one."""

    recall: float
    per_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassTrack:
    """One class on the streams. `alarms` at the wanted recall; `recall`, `calibrated`, delays and `missed` at the calibrated threshold.

    `events`: runs of true windows. `missed`: the mean over seeds. Delays are from an event's start to the end of the first window that
    alarms, over the events that have one: what the system takes after that is not in them.
    """

    label: str
    events: int
    alarms: Rate
    recall: Figure
    calibrated: Rate
    p50_s: float
    p95_s: float
    missed: float
    curve: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodTrack:
    """One method on the streams."""

    method: str
    seeds: tuple[int, ...]
    classes: tuple[ClassTrack, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTrack:
    """Every method on the streams. `wanted`: the recall that `alarms` are at."""

    wanted: float
    event_hours: float
    negative_hours: float
    methods: tuple[MethodTrack, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitCount:
    """What one split held. `packages`: those that its recordings come from."""

    name: str
    scenes: int
    windows: int
    recordings: int
    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """How findings were made. `date` as 2026-11-26; `digests` of data and weights by name; `recordings` of the test by class."""

    date: str
    command: str
    scene_seed: int
    digests: Mapping[str, str]
    splits: tuple[SplitCount, ...]
    recordings: Mapping[str, tuple[str, ...]]
    machine: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """All of it. Without streams, `stream` holds no method."""

    origin: Origin
    comparison: Comparison
    stream: StreamTrack
    note: str = field(default="Test data are composed from real recordings: sound, picture and words were never recorded together.")


def text(findings: Findings) -> str:
    """As JSON, a line a cell: keys in the order of the fields, or sorted where they are names."""
    return _lines(_plain(findings), 0) + "\n"


def read(report: str) -> Findings:
    """The inverse of `text`. ValueError says what is missing or of a wrong type, and where."""
    try:
        return msgspec.convert(_restored(json.loads(report)), type=Findings)
    except msgspec.ValidationError as exc:
        raise ValueError(f"not a report of findings: {exc}") from exc


def _plain(value: object) -> object:
    if isinstance(value, float):
        return round(value, DIGITS) + 0.0 if math.isfinite(value) else None  # + 0.0: no -0.0
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(value[name]) for name in sorted(value)}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _lines(value: object, depth: int) -> str:
    if depth == _DEPTH or not isinstance(value, list | dict) or not value:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    pairs = value.items() if isinstance(value, dict) else (("", each) for each in value)
    inner = [f"{json.dumps(name)}: {_lines(each, depth + 1)}" if name else _lines(each, depth + 1) for name, each in pairs]
    indent, (opened, closed) = " " * depth, "{}" if isinstance(value, dict) else "[]"
    return f"{opened}\n" + ",\n".join(f"{indent} {line}" for line in inner) + f"\n{indent}{closed}"


def _restored(value: object) -> object:
    if value is None:
        return NAN
    if isinstance(value, dict):
        return {name: _restored(each) for name, each in value.items()}
    return [_restored(each) for each in value] if isinstance(value, list) else value
