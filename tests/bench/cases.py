"""`make bench NAME=cases`: the hard cases of alignment, and what came out of each, as a table."""

from __future__ import annotations

from dataclasses import asdict

from tests.bench.report import report, table
from tests.stages.align_cases import CASES


def main() -> None:
    """Play each, print the table, write the record: how many cases came out as the slow reference says."""
    rows = [{"case": name, **asdict(case())} for name, case in CASES.items()]
    print(table(rows))
    right = sum(bool(row["as_it_should"]) for row in rows)
    report("cases", right, "cases", len(rows), right / len(rows), rows=rows)


if __name__ == "__main__":
    main()
