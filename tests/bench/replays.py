"""Schedules of the simulator on Apache Kafka, with real workers: `make bench NAME=replays ARGS="--count 24 --seed 1"`."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.bench.report import report, table
from tests.kafka.apache import apache_kafka
from tests.simulator.replay import replayed


async def run(given: argparse.Namespace, address: str, folder: Path) -> tuple[Counter[str], dict[int, str]]:
    """So many at once; what they add up to, and the seeds that failed and why."""
    totals, failed, room = Counter[str](), dict[int, str](), asyncio.Semaphore(given.at_once)
    columns = (TextColumn("replays"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=given.count)

        async def one(seed: int) -> None:
            async with room:
                counted, wrong = await replayed(seed, address, folder, records=given.records)
                totals.update(counted)
                if wrong:
                    failed[seed] = wrong
                    progress.console.print(f"seed {seed}: {wrong}")
                progress.advance(task)

        await asyncio.gather(*(one(seed) for seed in range(given.seed, given.seed + given.count)))
    return totals, failed


def main() -> None:
    """Replay, judge, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--records", type=int, default=45, help="at most so many records in a schedule (45: the simulator's schedules)")
    parser.add_argument("--at-once", type=int, default=4, help="schedules played side by side; each takes its own time, about two minutes")
    given = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name, apache_kafka(Path(name)) as address:
        totals, failed = asyncio.run(run(given, address, Path(name)))
    print(table([{"what": what, "how many": f"{totals[what]:,}"} for what in sorted(totals)]))
    print(f"{given.count} schedules on Apache Kafka, {time.monotonic() - started:.0f} s: {len(failed)} fail")
    details: dict[str, Any] = {"seed": given.seed, "records": given.records, "failed": failed, "totals": dict(sorted(totals.items()))}
    report("replays", given.count - len(failed), "schedules that held", None, None, keep=given.count >= 20, count=given.count, **details)
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
