"""Where a head looks in a row of windows, as one picture: a field for each token of each window, and for `gated` its gates.

Laws:
1. A field says how many hundredths of a reader's attention a token has in that window; where it is no token of the window, it is empty.
2. What was said is text: no markup, no formula, cut to QUOTE characters.

Tokens stand in the order of time, by modality; seconds count from the first window's start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from models.attention import by_token, gates, maps
from models.evaluation.plots import save
from models.fusion.gated import Gated
from models.fusion.windows import MODALITIES
from models.head import FusionHead
from models.paragraph import plain
from models.tokens import SECOND, Event, Gathered, Token, gather, windows_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".png")
QUOTE = 24
_CELL, _ROW, _MARGIN = 0.24, 0.15, 2.2  # inches: a window, a token, labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One map: a row for each label, a column for each window; not a number where there is nothing."""

    title: str
    labels: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]


def draw(head: FusionHead, events: Sequence[Event], starts: Sequence[int], length: int, path: Path) -> None:
    """Windows [start, start + length), in microseconds. ValueError: they are empty, or no such kind of file. ImportError: no matplotlib."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path.name} must end in {' or '.join(SUFFIXES)}")
    grid = panels(head, events, starts, length) if starts else []
    if not grid:
        raise ValueError("there is nothing to draw: no window, or no token in any")
    save(path, lambda figure: _fill(figure, grid, [(start - starts[0]) / SECOND for start in starts]))


def panels(head: FusionHead, events: Sequence[Event], starts: Sequence[int], length: int) -> list[list[Panel | None]]:
    """Rows by modality, columns by reader; None where a reader does not read a modality. Gates are further rows."""
    gathered = [gather(start, start + length, events) for start in starts]
    windows = windows_of(gathered)
    told = by_token(maps(head, windows), windows)
    rows: list[list[Panel | None]] = []
    for name in MODALITIES:
        if tokens := _tokens(gathered, name):
            labels = tuple(_label(token, events, starts[0]) for token in tokens.values())
            place = {key: at for at, key in enumerate(tokens)}
            shares = {reader: _shares(gathered, name, place, weights[name]) for reader, weights in told.items() if name in weights}
            rows.append(
                [
                    Panel(title=f"{name}, read by {reader}", labels=labels, shares=shares[reader]) if reader in shares else None
                    for reader in told
                ]
            )
    if isinstance(head.method, Gated):
        gates_BMC = gates(head, windows)
        rows.extend([panel] for m, name in enumerate(MODALITIES) if (panel := _gates(name, head.about.classes, gates_BMC[:, m])))
    return rows


def _gates(name: str, classes: Sequence[str], gate_BC: Tensor) -> Panel | None:
    """Of the classes in which that modality has a voice in any window."""
    told = {label: tuple(row) for label, row in zip(classes, gate_BC.T.tolist(), strict=True) if any(row)}
    return Panel(title=f"{name}, gates", labels=tuple(told), shares=tuple(told.values())) if told else None


def _key(token: Token) -> tuple[int, int, int]:
    return token.at, token.event, token.patch


def _tokens(gathered: Sequence[Gathered], name: str) -> dict[tuple[int, int, int], Token]:
    """Each once, in the order of time."""
    return dict(sorted({_key(token): token for window in gathered for token in getattr(window, name)}.items()))


def _label(token: Token, events: Sequence[Event], zero: int) -> str:
    quote = plain(events[token.event].text)
    cut = quote if len(quote) <= QUOTE else f"{quote[: QUOTE - 1].rstrip()}…"
    return f"{f'“{cut}” ' if quote else ''}{(token.at - zero) / SECOND:.1f} s"


def _shares(
    gathered: Sequence[Gathered], name: str, place: dict[tuple[int, int, int], int], weight_BT: Tensor
) -> tuple[tuple[float, ...], ...]:
    shares = [[math.nan] * len(gathered) for _ in place]
    for b, window in enumerate(gathered):
        for token, weight in zip(getattr(window, name), weight_BT[b].tolist(), strict=False):
            shares[place[_key(token)]][b] = weight
    return tuple(map(tuple, shares))


def _fill(figure: Figure, grid: Sequence[Sequence[Panel | None]], seconds: Sequence[float]) -> None:
    columns = max(map(len, grid))
    heights = [next(len(panel.labels) for panel in row if panel) for row in grid]
    figure.set_size_inches(_MARGIN + columns * (_CELL * len(seconds) + 0.3), 1.0 + sum(_ROW * height + 0.45 for height in heights))
    axes = figure.subplots(len(grid), columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    for places, row in zip(axes, grid, strict=True):
        for at, place in enumerate(places):
            panel = row[at] if at < len(row) else None
            if panel is None:
                place.remove()
            else:
                _map(place, panel, seconds, named=not any(row[:at]))
    figure.supxlabel("start of the window, s", fontsize=8)


def _map(axes: Axes, panel: Panel, seconds: Sequence[float], *, named: bool) -> None:
    axes.pcolormesh(panel.shares, cmap="cividis", vmin=0, vmax=1, edgecolors="white", linewidth=0.5)
    for y, row in enumerate(panel.shares):
        for x, share in enumerate(row):
            if not math.isnan(share):
                ink = "black" if share > 0.5 else "white"
                axes.text(x + 0.5, y + 0.5, f"{100 * share:.0f}", ha="center", va="center", fontsize=5.5, color=ink)
    axes.set_title(panel.title, fontsize=8)
    axes.set_xticks([x + 0.5 for x in range(len(seconds))], [f"{second:g}" for second in seconds], fontsize=6)
    ticks = [y + 0.5 for y in range(len(panel.labels))]
    axes.set_yticks(ticks, panel.labels if named else [""] * len(ticks), fontsize=6, parse_math=False)
    axes.tick_params(length=0)
    axes.invert_yaxis()
    axes.spines[:].set_visible(False)
