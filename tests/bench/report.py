"""How a benchmark tells its result: a table for people, one JSON line for programs, a dated record for later."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

import psutil

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("aiokafka", "faust-streaming", "torch", "numpy", "uvloop", "onnxruntime", "faster-whisper", "ctranslate2")


def machine() -> dict[str, Any]:
    """Hardware and versions of this run."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")), platform.processor())
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Rows with the same keys, in columns."""
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def _cell(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def report(name: str, value: float, unit: str, baseline: float | None, ratio: float | None, *, keep: bool = True, **details: Any) -> None:
    """Write the dated record (unless `keep` is off: a trial), then print the result as one line of JSON. `ratio` = value / baseline."""
    result = {"name": name, "value": value, "unit": unit, "baseline": baseline, "ratio": ratio, **details}
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    record = {"date": today, "machine": machine(), **result}
    if keep:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}-{today}.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(result), flush=True)
