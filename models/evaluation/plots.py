"""The findings as pictures (SVG): by condition, by strength of a disturbance, dominance gaps, reliability, alarms.

Laws:
1. The same findings and matplotlib give the same bytes: no date, no random name.
2. Nothing is told by colour alone: lines differ in their marker too, and the map's fields hold their numbers.
3. matplotlib is imported when something is drawn: it is an optional extra.

Colours: Okabe & Ito 2008, and matplotlib's cividis, which keep apart for colour-blind readers and in grey.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from models.evaluation.aims import ALARMS_PER_HOUR, GAP, MISSING
from models.evaluation.compare import is_single
from models.evaluation.findings import Bin, Cell, ClassTrack, Comparison, Findings
from models.recordings import ACOUSTIC

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXTRA = "streamer[training]"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
GREY = "#8a8a8a"
FONTS = ["DejaVu Sans", "Verdana", "Arial"]
FEWEST = 30
"""Windows and classes in a bin whose share is drawn filled: below, it is mostly luck."""
STRENGTHS = {"snr": "signal to noise, dB", "wer": "words wrong, %", "shift": "streams apart, s"}
"""Families of conditions that differ in a number, as in "snr_m5" (-5) and "shift_0_5" (0.5), and what the number is."""


def draw(findings: Findings, folder: Path) -> dict[str, str]:
    """Write the pictures; the file's name by what it shows. ImportError says what to install."""
    comparison = findings.comparison
    wanted: dict[str, Callable[[Figure], None]] = {"conditions": lambda figure: _conditions(figure, comparison)}
    if any(_family(comparison, name) for name in STRENGTHS):
        wanted["strength"] = lambda figure: _strengths(figure, comparison)
    wanted["gap"] = lambda figure: _gaps(figure, comparison)
    wanted["reliability"] = lambda figure: _reliability(figure, comparison)
    own = [one for one in findings.stream.methods if one.method == comparison.default]
    if own:
        wanted["alarms"] = lambda figure: _alarms(figure, own[0].classes)
    return {name: save(folder / f"{name}.svg", fill) for name, fill in wanted.items()}


def strength(condition: str) -> tuple[str, float] | None:
    """The family of a condition and its number; None where it has none."""
    found = re.fullmatch(r"([a-z]+)_(m?)(\d+)(?:_(\d+))?", condition)
    if not found or found[1] not in STRENGTHS:
        return None
    return found[1], float(f"{'-' if found[2] else ''}{found[3]}.{found[4] or 0}")


def save(path: Path, fill: Callable[[Figure], None]) -> str:
    """A figure as a file, SVG or PNG by its suffix; the file's name. ImportError says what to install."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as exc:
        raise ImportError(f"matplotlib draws plots and is not installed: pip install '{EXTRA}'") from exc
    with rc_context({"svg.hashsalt": "streamer", "svg.fonttype": "none", "font.sans-serif": FONTS, "font.size": 9.0}):
        figure = Figure(layout="constrained")
        fill(figure)
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
        unsaid = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
        figure.savefig(path, format=path.suffix[1:], metadata=unsaid)
    return path.name


def _conditions(figure: Figure, comparison: Comparison) -> None:
    """Mean AP of every method under every condition."""
    methods, names = _sorted_methods(comparison), comparison.conditions
    share = [[comparison.cell(m, n).map.mean if comparison.has(m, n) else math.nan for m in methods] for n in names]
    figure.set_size_inches(2.0 + 0.62 * len(methods), 1.6 + 0.27 * len(names))
    axes = figure.add_subplot()
    mesh = axes.pcolormesh([[100 * each for each in row] for row in share], cmap="cividis", vmin=0, vmax=100, edgecolors="white")
    for y, row in enumerate(share):
        for x, each in enumerate(row):
            words, ink = ("–", "black") if math.isnan(each) else (f"{100 * each:.0f}", "black" if each > 0.5 else "white")
            axes.text(x + 0.5, y + 0.5, words, ha="center", va="center", fontsize=8, color=ink)
    axes.set_xticks([x + 0.5 for x in range(len(methods))], methods, rotation=40, ha="left", rotation_mode="anchor")
    axes.set_yticks([y + 0.5 for y in range(len(names))], names)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
    figure.colorbar(mesh, ax=axes, label="mean AP, points", fraction=0.03, pad=0.02)


def _strengths(figure: Figure, comparison: Comparison) -> None:
    """Mean AP against how strong the disturbance is, a panel a family."""
    families = [name for name in STRENGTHS if _family(comparison, name)]
    figure.set_size_inches(3.1 * len(families) + 0.4, 3.6)
    every = figure.subplots(1, len(families), sharey=True, squeeze=False)[0]
    for axes, family in zip(every, families, strict=True):
        steps = _family(comparison, family)
        for method in _sorted_methods(comparison, last=comparison.default):
            known = [(value, comparison.cell(method, name)) for value, name in steps if comparison.has(method, name)]
            _line(axes, comparison, method, known)
        if family == "snr":
            axes.invert_xaxis()
        axes.set_xlabel(STRENGTHS[family])
        axes.set_xticks([value for value, _ in steps], [f"{value:g}" for value, _ in steps])
    every[0].set_ylabel("mean AP, points")
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)


def _line(axes: Axes, comparison: Comparison, method: str, known: Sequence[tuple[float, Cell]]) -> None:
    """The default and the baseline stand out, single modalities are dashed, the others grey."""
    x, y = [value for value, _ in known], [100 * cell.map.mean for _, cell in known]
    if method in (comparison.default, comparison.baseline):
        at = 0 if method == comparison.default else 1
        axes.plot(x, y, color=PALETTE[at], marker=MARKERS[at], linewidth=2.2 - 0.6 * at, label=method, markersize=5)
        low, high = [100 * cell.map.low for _, cell in known], [100 * cell.map.high for _, cell in known]
        axes.fill_between(x, low, high, color=PALETTE[at], alpha=0.12, linewidth=0)
    elif is_single(method):
        at = 2 + [name for name in comparison.methods if is_single(name)].index(method)
        axes.plot(x, y, color=PALETTE[at], marker=MARKERS[at], linestyle="--", linewidth=1, label=method, markersize=4)
    else:
        others = [name for name in comparison.methods if not is_single(name) and name not in (comparison.default, comparison.baseline)]
        axes.plot(x, y, color=GREY, linewidth=0.8, label="other methods" if method == others[0] else None)


def _gaps(figure: Figure, comparison: Comparison) -> None:
    """Fused minus the best single modality, a row a condition."""
    names = [name for name in comparison.conditions if not math.isnan(comparison.cell(comparison.default, name).gap.mean)]
    fused = [name for name in comparison.methods if not is_single(name)]
    figure.set_size_inches(7.2, 1.4 + 0.24 * len(names))
    axes = figure.add_subplot()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.axvline(100 * GAP, color="black", linewidth=0.8, linestyle=":", label=f"aim: {100 * GAP:.0f} point")
    rows = range(len(names))
    others = [name for name in fused if name not in (comparison.default, comparison.baseline)]
    for method in others:
        x = [100 * comparison.cell(method, name).gap.mean for name in names]
        axes.plot(x, rows, color=GREY, marker="|", linestyle="", markersize=7, label="other methods" if method == others[0] else None)
    for at, method in ((1, comparison.baseline), (0, comparison.default)):
        if method in fused:
            _spans(axes, [comparison.cell(method, name) for name in names], method, at)
    axes.set_yticks(rows, names)
    axes.invert_yaxis()
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("mean AP minus that of the best single modality left, points")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)


def _spans(axes: Axes, cells: Sequence[Cell], method: str, at: int) -> None:
    y = [row - 0.12 + 0.3 * at for row in range(len(cells))]
    x = [100 * cell.gap.mean for cell in cells]
    axes.hlines(y, [100 * cell.gap.low for cell in cells], [100 * cell.gap.high for cell in cells], color=PALETTE[at], linewidth=1.2)
    axes.plot(x, y, color=PALETTE[at], marker=MARKERS[at], linestyle="", markersize=5, label=f"{method}, 95 %")


def _reliability(figure: Figure, comparison: Comparison) -> None:
    """What the default says against what is true, clean and with less than all modalities."""
    names = [comparison.clean, *(name for name in comparison.conditions if name in MISSING)]
    columns = min(4, len(names))
    rows = math.ceil(len(names) / columns)
    figure.set_size_inches(2.1 * columns + 0.5, 2.35 * rows + 0.4)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        cell = comparison.cell(comparison.default, name)
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        _bins(axes, [one for one in comparison.reliability if one.condition == name])
        axes.set_title(f"{name}\nerror {cell.calibration_error.mean:.3f}", fontsize=9)
        axes.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    for axes, above in zip(panels[len(names) :], panels[len(names) - columns :], strict=False):
        axes.remove()
        above.tick_params(labelbottom=True)
    figure.supxlabel(f"{comparison.default}: mean probability (hollow: fewer than {FEWEST} windows and classes)", fontsize=9)
    figure.supylabel("share that is true", fontsize=9)


def _bins(axes: Axes, bins: Sequence[Bin]) -> None:
    axes.plot([one.probability for one in bins], [one.share for one in bins], color=PALETTE[0], linewidth=1)
    for one in bins:
        face = PALETTE[0] if one.windows >= FEWEST else "white"
        axes.plot(one.probability, one.share, color=PALETTE[0], marker="o", markerfacecolor=face, markersize=4.5, clip_on=False)


def _alarms(figure: Figure, classes: Sequence[ClassTrack]) -> None:
    """False alarms per hour against the share of events found: what is heard, and the other classes."""
    figure.set_size_inches(8.4, 4.6)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, title, heard in zip(panels, ("acoustic classes", "other classes"), (True, False), strict=True):
        own = [one for one in classes if (one.label in ACOUSTIC) is heard and one.curve]
        axes.axhline(ALARMS_PER_HOUR, color="black", linewidth=0.8, linestyle=":")
        axes.axvline(0.8, color="black", linewidth=0.8, linestyle=":")
        for at, one in enumerate(own):
            x, y = [each.recall for each in one.curve], [each.per_hour for each in one.curve]
            axes.plot(x, y, color=PALETTE[at], marker=MARKERS[at], markersize=4, linewidth=1.2, label=f"{one.label} ({one.events})")
        axes.set_yscale("symlog", linthresh=0.5)
        axes.set_yticks(_ticks(classes), [f"{each:g}" for each in _ticks(classes)])
        axes.set_ylim(0, _ticks(classes)[-1])
        axes.minorticks_off()
        axes.set_xlim(0, 1.02)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("share of events found")
        if own:
            axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3, title="class (events)")
    panels[0].set_ylabel("false alarms per hour at that threshold or higher")


def _ticks(classes: Sequence[ClassTrack]) -> list[float]:
    most = max((each.per_hour for one in classes for each in one.curve), default=0.0)
    steps = (0, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
    return [tick for tick, before in zip(steps, (0, *steps), strict=False) if before <= 2 or before < most]


def _family(comparison: Comparison, family: str) -> list[tuple[float, str]]:
    """Its conditions by strength, undisturbed windows first where the number can say so."""
    found = [(known[1], name) for name in comparison.conditions if (known := strength(name)) and known[0] == family]
    undisturbed = [(0.0, comparison.clean)] if found and family != "snr" else []
    return sorted([*undisturbed, *found])


def _sorted_methods(comparison: Comparison, *, last: str = "") -> list[str]:
    """Single modalities after the others."""
    return sorted(comparison.methods, key=lambda name: (is_single(name), name == last))
