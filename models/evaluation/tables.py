"""The findings as Markdown: first what is missed, then the tables, then how it was made.

Law: a table shows every method and condition that was measured; none is left out for how it came out.

AP figures are in points (hundredths). "(a–b)" is the 95 % interval, "±" the standard deviation over seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from models.evaluation.aims import Aim, behind, dominated, judge, number, points
from models.evaluation.compare import is_single
from models.evaluation.findings import Cell, ClassTrack, Comparison, Figure, Findings, Rate
from models.evaluation.metrics import BINS

CAPTIONS = {
    "conditions": "Mean AP of every method under every condition",
    "strength": "Mean AP against the strength of a disturbance",
    "gap": "Mean AP minus that of the best single modality left, by condition",
    "reliability": "What the default's probabilities say against what is true",
    "alarms": "False alarms per hour against the share of events found, the default",
}


def markdown(findings: Findings, *, plots: Mapping[str, str]) -> str:
    """The whole report. `plots`: files by what they show (`plots.draw`)."""
    comparison = findings.comparison
    parts = (
        _title(findings),
        _missed(findings),
        _methods(comparison),
        _plots(plots, "conditions", "strength"),
        _differences(comparison),
        _gaps(comparison),
        _plots(plots, "gap"),
        _calibration(comparison),
        _plots(plots, "reliability"),
        _classes(findings),
        _stream(findings),
        _plots(plots, "alarms"),
        _origin(findings),
    )
    return "\n\n".join(part for part in parts if part) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Numbers to the right of their column, the first column to the left."""
    lines = [heads, [":--", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _title(findings: Findings) -> str:
    comparison, origin = findings.comparison, findings.origin
    seeds = comparison.cell(comparison.default, comparison.clean).seeds
    return (
        f"# How the fusion methods compare\n\n{origin.date}. {findings.note} Default: `{comparison.default}`. {len(seeds)} seeds "
        f"({', '.join(map(str, seeds))}), {len(comparison.conditions)} conditions. AP is in points (hundredths); (a–b) is the "
        f"95 % interval of a bootstrap over the recordings and templates that scenes are about ({comparison.resamples} "
        "resamples, seeds averaged inside); in simulation such intervals held the truth 86 to 94 % of the time."
    )


def _missed(findings: Findings) -> str:
    aims = judge(findings)
    missed = [_aim(aim) for aim in aims if not aim.met]
    worse = list(behind(findings.comparison))
    met = [_aim(aim) for aim in aims if aim.met]
    return "\n".join(
        [
            "## What is missed\n",
            *(missed or ["No aim is missed."]),
            "\n### Where the default does worse\n",
            *([f"- {line}" for line in worse] or ["No method is ahead of it under any condition."]),
            "\n### Aims that are met\n",
            *(met or ["None."]),
        ]
    )


def _aim(aim: Aim) -> str:
    doubt = " Its interval reaches beyond the aim: other recordings may show otherwise." if aim.met and not aim.sure else ""
    return f"- **{aim.name}: {'met' if aim.met else 'missed'}.** Wanted: {aim.wanted}. Found: {aim.found}.{doubt}"


def _methods(comparison: Comparison) -> str:
    fused = [name for name in comparison.methods if not is_single(name)]
    singles = [name for name in comparison.methods if is_single(name)]
    rows = [[name, *(_ap(comparison, method, name) for method in (*fused, *singles))] for name in comparison.conditions]
    return "## Mean AP by condition\n\n" + table(["condition", *fused, *singles], rows)


def _ap(comparison: Comparison, method: str, condition: str) -> str:
    return spanned(comparison.cell(method, condition).map) if comparison.has(method, condition) else "–"


def spanned(figure: Figure, *, signed: bool = False) -> str:
    """In points, with its interval."""
    dash = " to " if signed else "–"
    return f"{points(figure.mean, signed=signed)} ({points(figure.low, signed=signed)}{dash}{points(figure.high, signed=signed)})"


def _differences(comparison: Comparison) -> str:
    rows = [
        [
            each.method,
            "joint classes" if each.figure == "joint" else "all classes",
            f"{points(each.mean, signed=True)} ({points(each.low, signed=True)} to {points(each.high, signed=True)})",
            number(each.p),
            number(each.holm),
        ]
        for each in comparison.differences
    ]
    least = 2 / (comparison.resamples + 1)
    text = (
        f"Each method minus `{comparison.default}`, on {comparison.clean}, on the same draws of recordings. p is two-sided (not below "
        f"{least:.4f}: that is all that {comparison.resamples} resamples can tell); Holm corrects it over all methods of one figure."
    )
    return f"## Against the default\n\n{text}\n\n" + table(["method", "mean AP over", "difference", "p", "after Holm"], rows)


def _gaps(comparison: Comparison) -> str:
    fused = [name for name in comparison.methods if not is_single(name)]
    rows = [
        [
            name,
            comparison.cell(comparison.default, name).single or "–",
            *(spanned(comparison.cell(method, name).gap, signed=True) for method in fused),
            ", ".join(dominated(comparison.cell(comparison.default, name))) or "none",
        ]
        for name in comparison.conditions
    ]
    text = (
        "Mean AP minus that of the best single modality left. Below 0, fusing did harm. The last column holds the default to more: classes "
        "in which the modality that is best in that class is more than 1 point ahead of it."
    )
    heads = ["condition", "best single", *fused, f"classes where {comparison.default} is behind"]
    return f"## Dominance gap\n\n{text}\n\n" + table(heads, rows)


def _calibration(comparison: Comparison) -> str:
    fused = [name for name in comparison.methods if not is_single(name)]
    rows = [[name, *(_error(comparison.cell(method, name)) for method in fused)] for name in comparison.conditions]
    own = comparison.cell(comparison.default, comparison.clean)
    text = (
        f"Expected calibration error ({BINS} bins of equal mass, classes pooled, ± over seeds) / the worst class's own. Most probabilities "
        f"are near 0, so pooling looks kind: the worst class says more. Brier score of `{comparison.default}`, {comparison.clean}: "
        f"{number(own.brier.mean, 4)}."
    )
    return f"## Calibration\n\n{text}\n\n" + table(["condition", *fused], rows)


def _error(cell: Cell) -> str:
    pooled, worst = cell.calibration_error, max(one.calibration_error for one in cell.classes)
    return f"{number(pooled.mean)} ± {number(pooled.spread)} / {number(worst)}"


def _classes(findings: Findings) -> str:
    comparison = findings.comparison
    cell = comparison.cell(comparison.default, comparison.clean)
    rows = [
        [
            one.label,
            str(one.windows),
            str(one.groups),
            str(len(findings.origin.recordings.get(one.label, ()))),
            spanned(one.ap),
            points(one.ap.spread),
            spanned(one.gap, signed=True),
            number(one.auroc),
            number(one.calibration_error),
        ]
        for one in cell.classes
    ]
    heads = ["class", "true windows", "groups", "recordings", "AP", "± seeds", "gap to best single", "AUROC", "calibration error"]
    text = (
        "A figure rests on the groups (what scenes are about) and recordings or templates that its true windows hold, not on its windows. "
        "With fewer than about ten, intervals are too narrow."
    )
    retained = ", ".join(f"{name} {points(comparison.cell(cell.method, name).retention.mean)} %" for name in comparison.conditions)
    return (
        f"## `{cell.method}` by class, {cell.condition}\n\n{text}\n\n{table(heads, rows)}\n\nShare of the clean mean AP kept: {retained}."
    )


def _stream(findings: Findings) -> str:
    stream = findings.stream
    if not stream.methods:
        return "## Streams\n\nNot measured."
    text = (
        f"False alarms are counted over {stream.negative_hours:.1f} h without an event, events over {stream.event_hours:.1f} h with some. "
        f"Columns 3 and 4 are at the highest threshold that finds {100 * stream.wanted:.0f} % of the events of that stream; the rest at "
        "the calibrated threshold. False alarms are the most at that threshold or any higher one. Intervals: by block of ten minutes, and "
        "not narrower than Poisson's. Seconds are from an event's start to the end of the first window that alarms, without transport and "
        "computing."
    )
    parts = [f"## Streams\n\n{text}"]
    heads = ["class", "events", "false alarms/h", "(a–b)", "recall", "false alarms/h", "(a–b)", "missed", "p50 s", "p95 s"]
    for one in stream.methods:
        parts.append(f"### `{one.method}`\n\n" + table(heads, [_tracked(each) for each in one.classes]))
    return "\n\n".join(parts)


def _tracked(one: ClassTrack) -> list[str]:
    return [
        one.label,
        str(one.events),
        number(one.alarms.per_hour, 2),
        _bounds(one.alarms),
        spanned(one.recall),
        number(one.calibrated.per_hour, 2),
        _bounds(one.calibrated),
        number(one.missed, 1),
        number(one.p50_s, 1),
        number(one.p95_s, 1),
    ]


def _bounds(rate: Rate) -> str:
    return f"({number(rate.low, 2)}–{number(rate.high, 2)})"


def _origin(findings: Findings) -> str:
    origin = findings.origin
    splits = table(
        ["split", "scenes", "windows", "recordings", "packages"],
        [[one.name, str(one.scenes), str(one.windows), str(one.recordings), ", ".join(one.packages)] for one in origin.splits],
    )
    return "\n".join(
        [
            "## How it was made\n",
            f"`{origin.command}` on {origin.machine}; scenes from seed {origin.scene_seed}. "
            f"Versions: {', '.join(f'{name} {origin.versions[name]}' for name in sorted(origin.versions))}.\n",
            "A split is decided by package and recording: no recording, template or cut of one is in two. "
            "Everything here but the plots' look is in report.json.\n",
            splits,
            "\nDigests:\n",
            *(f"- {name}: `{origin.digests[name]}`" for name in sorted(origin.digests)),
        ]
    )


def _plots(plots: Mapping[str, str], *names: str) -> str:
    return "\n\n".join(f"![{CAPTIONS[name]}]({plots[name]})" for name in names if name in plots)
