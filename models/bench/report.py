"""What was found, as tables for people and as JSON for the record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from models.bench.load import LIMIT, Load
from models.bench.machine import Machine
from models.bench.pipeline import PICTURES, SPEECH_EVERY
from models.bench.rates import Product, Rate
from models.bench.whole import Equal, Whole

AIM = 1_000
"""Sessions that one GPU should hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """One run. `date`: ISO. `left_out`: what these figures do not have in them.

    `shipped`: pictures a second of the detector as the engine runs it on a CPU, where it can be run.
    """

    date: str
    machine: Machine
    settings: Mapping[str, str]
    products: Sequence[Product]
    rates: Sequence[Rate]
    shipped: float | None
    equal: Sequence[Equal]
    wholes: Sequence[Whole]
    ceiling: float
    loads: Sequence[Load]
    left_out: Sequence[str]

    @property
    def sessions(self) -> int:
        """The most that were offered and held; 0 where none were."""
        return max((load.sessions for load in self.loads if load.held), default=0)


def ceiling(rates: Sequence[Rate]) -> float:
    """Windows a second if there were nothing but the networks, one after the other on the device, each at its best batch."""
    best = {rate.network: max(each.per_second for each in rates if each.network == rate.network) for rate in rates}
    need = {"pictures": PICTURES, "sound": 1.0, "words": 1.0 / SPEECH_EVERY, "head + Shapley": 1.0}
    return 1.0 / sum(count / best[name] for name, count in need.items())


def write(found: Findings, path: Path) -> None:
    """The whole record."""
    record = {**asdict(found), "sessions_held": found.sessions, "equal_holds": all(each.holds for each in found.equal)}
    path.write_text(json.dumps(record, indent=2) + "\n", "utf-8")


def text(found: Findings) -> str:
    """Everything, for a terminal."""
    return "\n".join(line for part in (_head, _rates, _equal, _wholes, _loads, _left_out) for line in part(found))


def _head(found: Findings) -> Iterator[str]:
    at = found.machine
    versions = ", ".join(f"{name} {version}" for name, version in at.versions.items())
    yield f"{found.date}  {at.name}, {at.cores} cores, {at.threads} torch threads, load before {at.load}"
    yield f"python {at.python}, {versions}"
    yield ", ".join(f"{name}={value}" for name, value in found.settings.items())


def _rates(found: Findings) -> Iterator[str]:
    yield "\nNetworks, inputs on the device. Share: of the best matrix product."
    yield "Plain: float32 (no TF32), as it comes; the head is float64 always."
    yield from table(("matrix product", "dtype", "TFLOP/s"), [(str(one.size), one.dtype, _n(one.tflops)) for one in found.products])
    yield ""
    yield from table(
        ("network", "rows", "rows/s", "GFLOP/row", "TFLOP/s", "share", "x plain", "x compiled"),
        [
            (
                rate.network,
                str(rate.rows),
                _n(rate.per_second),
                _n(rate.gflop),
                _n(rate.tflops),
                "-" if rate.share is None else f"{100 * rate.share:.1f} %",
                f"{rate.over_plain:.2f}",
                "-" if rate.over_compiled is None else f"{rate.over_compiled:.2f}",
            )
            for rate in found.rates
        ],
    )
    yield from sorted({f"{rate.network}: {rate.note}" for rate in found.rates if rate.note})
    if found.shipped:
        yield f"The shipped detector on the CPU (onnxruntime, resize and quality included), one at a time: {_n(found.shipped)} pictures/s."


def _equal(found: Findings) -> Iterator[str]:
    yield "\nThe same windows one at a time (alone) and otherwise: the greatest differences."
    yield from table(
        ("way", "windows", "probability", "share", "allowed", "equal"),
        [(one.way, str(one.windows), f"{one.probability:.1e}", f"{one.share:.1e}", *_allowed(one)) for one in found.equal],
    )


def _allowed(one: Equal) -> tuple[str, str]:
    return ("-", "rounding") if one.tolerance is None else (f"{one.tolerance:.0e}", "yes" if one.holds else "NO")


def _wholes(found: Findings) -> Iterator[str]:
    stages = list(found.wholes[0].stages)
    yield "\nA window's whole way, transfers and the host's work included; by stage in ms of a window."
    yield from table(
        ("way", "windows/s", "x alone", *stages),
        [
            (one.way, _n(one.per_second), f"{one.over_alone:.2f}", *(f"{1e3 * one.stages[stage]:.2f}" for stage in stages))
            for one in found.wholes
        ],
    )
    yield from sorted({f"{one.way}: {one.note}" for one in found.wholes if one.note})
    yield f"The networks alone, each at its best batch: {_n(found.ceiling)} windows/s."


def _loads(found: Findings) -> Iterator[str]:
    yield f"\nLoad, the fast way; a session has a window a second. Held: p99 within {LIMIT:g} s and nothing left."
    yield from table(
        ("sessions", "processes", "seconds", "p50 ms", "p99 ms", "together", "left", "held"),
        [
            (
                str(one.sessions),
                str(one.workers),
                f"{one.seconds:g}",
                f"{1e3 * one.p50:.0f}",
                f"{1e3 * one.p99:.0f}",
                f"{one.batch:.1f}",
                str(one.behind),
                "yes" if one.held else "no",
            )
            for one in found.loads
        ],
    )
    yield f"Sessions held: {found.sessions} (aim on a GPU: {AIM:,})."


def _left_out(found: Findings) -> Iterator[str]:
    yield "\nNot in these figures:"
    yield from (f"  {line}" for line in found.left_out)


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as their widest cell; the first one to the left."""
    wide = [max(len(row[at]) for row in (names, *rows)) for at in range(len(names))]
    for row in (names, *rows):
        yield "  ".join(cell.ljust(wide[0]) if at == 0 else cell.rjust(wide[at]) for at, cell in enumerate(row)).rstrip()


def _n(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
