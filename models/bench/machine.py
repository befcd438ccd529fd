"""The machine that is measured, and how: which device, what it is called, and the median of several runs.

Seconds everywhere.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import torch

PACKAGES = ("torch", "torchaudio", "transformers", "numpy")
Ticks = Callable[[], float]
"""A clock: seconds from some start. `time.process_time` counts only while this process runs."""
DTYPES: Mapping[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the figures were measured on. `threads`: of torch. `load`: how many processes wanted to run just before."""

    device: str
    name: str
    cores: int
    threads: int
    load: float
    python: str
    versions: Mapping[str, str]


def chosen(device: str) -> str:
    """`auto`, `cpu` or `cuda` to one that is there. ValueError where it is not."""
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise ValueError(f"--device cuda: torch {torch.__version__} finds no CUDA device; use auto or cpu")
    return "cuda" if there and device != "cpu" else "cpu"


def machine(device: str) -> Machine:
    """This one."""
    return Machine(
        device=device,
        name=torch.cuda.get_device_name() if device == "cuda" else _cpu(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        load=round(os.getloadavg()[0], 2),
        python=platform.python_version(),
        versions={name: importlib.metadata.version(name) for name in PACKAGES},
    )


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def settle(device: str) -> None:
    """Until the device has nothing left to do."""
    if device == "cuda":
        torch.cuda.synchronize()


def raced(
    calls: Mapping[str, Callable[[], object]], device: str, *, runs: int, least: float = 0.02, clock: Ticks = time.perf_counter
) -> dict[str, float]:
    """The median time of one call of each; they take turns, so that what else the machine does meets all of them.

    A run repeats a call until it lasts `least`. Each is called twice before, unmeasured.
    """
    repeats = {}
    for name, call in calls.items():
        call()
        repeats[name] = max(1, ceil(least / max(_timed(call, device, 1, clock), 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(runs):
        for name, call in calls.items():
            times[name].append(_timed(call, device, repeats[name], clock))
    return {name: statistics.median(each) for name, each in times.items()}


def _timed(call: Callable[[], object], device: str, repeats: int, clock: Ticks) -> float:
    settle(device)
    start = clock()
    for _ in range(repeats):
        call()
    settle(device)
    return (clock() - start) / repeats
