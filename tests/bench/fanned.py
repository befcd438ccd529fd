"""Seeds over processes: each child takes every n-th, tells what it found as lines of JSON, and the parent adds them up under a bar."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 20  # seeds between two lines of a child


@dataclass
class Found:
    """What all children told: how many of what, the seeds that failed and why, and how long it took."""

    totals: Counter[str] = field(default_factory=Counter)
    failed: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0


Look = Callable[[int], tuple[Counter[str], str]]
"""A seed -> how much of what, and what is wrong ("" when nothing is)."""


def options(description: str | None, *, count: int) -> argparse.Namespace:
    """Which seeds, and in how many processes. What the program logs of its own is kept quiet: stories are told instead."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--child", type=int, nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def child(look: Look, first: int, count: int, step: int) -> None:
    """Take seeds `first`, `first + step` ... and tell of them."""
    totals, failed, done = Counter[str](), dict[int, str](), 0
    for seed in range(first, first + count * step, step):
        counted, wrong = look(seed)
        totals += counted
        done += 1
        if wrong:
            failed[seed] = wrong
        if done % EVERY == 0 or done == count:
            print(json.dumps({"done": done, "totals": totals, "failed": failed}), flush=True)
            totals, failed, done, count = Counter(), {}, 0, count - done


def fan(module: str, *, count: int, seed: int, processes: int, more: list[str] | None = None) -> Found:
    """Run `module` as children, each with `--child FIRST COUNT STEP`."""
    return asyncio.run(_fan(module, count, seed, processes, more or []))


async def _fan(module: str, count: int, seed: int, processes: int, more: list[str]) -> Found:
    found, started = Found(), time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(module.rpartition(".")[2], total=count)

        async def one(nth: int) -> None:
            share = len(range(nth, count, processes))
            where = ["--child", str(seed + nth), str(share), str(processes)]
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", module, *where, *more, stdout=asyncio.subprocess.PIPE, limit=1 << 24
            )
            assert process.stdout
            async for line in process.stdout:
                told = json.loads(line)
                found.totals.update(told["totals"])
                found.failed |= {int(name): why for name, why in told["failed"].items()}
                progress.advance(task, told["done"])
            if code := await process.wait():
                raise SystemExit(f"a child of {module} ended with {code}")

        await asyncio.gather(*(one(nth) for nth in range(min(processes, count))))
    found.seconds = time.monotonic() - started
    return found
