"""Break each law and rule on purpose, in a copy of the tree, and see which test notices: `make bench NAME=mutants`.

A mutant that no test notices has SURVIVED: a test is missing. One whose text is no longer in its file is an error.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.bench.breakages import LAWS, Mutant
from tests.bench.breakages_delivery import RULES
from tests.bench.report import report, table

ROOT = Path(__file__).parents[2]
MUTANTS = (*LAWS, *RULES)
LONGEST = 900  # seconds for the tests of one mutant: one that hangs is caught too
PARTS = ("streamer", "models", "tests", "deploy", "pyproject.toml", "Makefile")
CAUGHT = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
_left_out = shutil.ignore_patterns("__pycache__", "results", ".hypothesis")


def missing() -> list[str]:
    """Mutants whose text does not stand in its file exactly once."""
    return [f"{one.rule}: {one.file}" for one in MUTANTS if (ROOT / one.file).read_text().count(one.old) != 1]


def copied(tree: Path) -> Path:
    """The tree as it is now, without what a run leaves behind."""
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tree / part, ignore=_left_out)
        else:
            shutil.copy2(ROOT / part, tree / part)
    return tree


async def caught_by(mutant: Mutant, tree: Path) -> str:
    """The first test that fails, "" where none does."""
    path = tree / mutant.file
    sound = path.read_text()
    path.write_text(sound.replace(mutant.old, mutant.new))
    try:
        for test in mutant.tests:
            if found := await _run(test, tree):
                return found
        return ""
    finally:
        path.write_text(sound)


async def _run(test: str, tree: Path) -> str:
    chosen = [test] if "::" in test else ["-m", "not kafka", test]  # one that is named by itself runs on Apache Kafka too
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-cov", "-p", "no:cacheprovider", *chosen]
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=tree, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(LONGEST):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"{test} (hangs)"
    text = out.decode(errors="replace")
    if process.returncode == 0:
        return ""
    named = CAUGHT.search(text)
    return named[1].removeprefix("tests/") if named else f"{test} (exit {process.returncode})"


async def run(mutants: tuple[Mutant, ...], processes: int) -> list[dict[str, Any]]:
    """Each mutant in a copy of its own; the rows of the table, in order."""
    rows: dict[int, dict[str, Any]] = {}
    waiting = list(enumerate(mutants))[::-1]
    columns = (TextColumn("mutants"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as progress, tempfile.TemporaryDirectory() as folder:
        task = progress.add_task("", total=len(mutants))

        async def worker(number: int) -> None:
            tree = copied(Path(folder) / f"tree{number}")
            assert not await _run("tests/simulator/test_stories.py", tree), "the tests fail where nothing is broken"
            while waiting:
                at, mutant = waiting.pop()
                progress.update(task, description=mutant.rule)
                found = await caught_by(mutant, tree)
                rows[at] = {"rule": mutant.rule, "broken": mutant.what, "caught by": found or "SURVIVED"}
                progress.advance(task)

        await asyncio.gather(*(worker(number) for number in range(processes)))
    return [rows[at] for at in sorted(rows)]


def main() -> None:
    """Break, test, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="mutants whose rule holds this text")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    if gone := missing():
        raise SystemExit("the text of these mutants is no longer in the code: " + "; ".join(gone))
    started = time.monotonic()
    chosen = tuple(one for one in MUTANTS if given.only in one.rule)
    rows = asyncio.run(run(chosen, given.processes))
    survived = [row["rule"] for row in rows if row["caught by"] == "SURVIVED"]
    print(table(rows))
    print(f"{len(rows)} mutants, {len(rows) - len(survived)} caught, {time.monotonic() - started:.0f} s")
    report("mutants", len(rows) - len(survived), "caught", None, None, keep=not given.only, mutants=len(rows), survived=survived, rows=rows)
    raise SystemExit(bool(survived))


if __name__ == "__main__":
    main()
