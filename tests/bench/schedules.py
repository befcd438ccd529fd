"""The simulator over many seeds: `make bench NAME=schedules ARGS="--count 20000 --seed 1"`. Failing seeds end as short stories."""

from __future__ import annotations

from collections import Counter

from tests.bench.fanned import child, fan, options
from tests.bench.report import report, table
from tests.simulator.schedule import generate
from tests.simulator.shrink import shrink, story, verdict

STORIES = 3  # failing seeds that are told
SHOWN = (
    "append",
    "read",
    "save",
    "crash",
    "rebalance",
    "notice",
    "retain",
    "zombie steps",
    "zombie writes",
    "windows",
    "alerts",
    "records",
)


def look(seed: int) -> tuple[Counter[str], str]:
    """Play one schedule."""
    wrong, world = verdict(generate(seed))
    logs = world.broker.logs
    counted = world.count + Counter(
        {"records": sum(map(len, logs.values())), "with gaps": world.schedule.gaps, "with zombies": world.slept}
    )
    counted += Counter(
        {topic: sum(len(log) for place, log in logs.items() if place[0] == topic) for topic in ("windows", "alerts", "late")}
    )
    return counted, wrong[0] if wrong else ""


def main() -> None:
    """Play, add up, tell."""
    given = options(__doc__, count=20_000)
    if given.child:
        child(look, *given.child)
        return
    found = fan("tests.bench.schedules", count=given.count, seed=given.seed, processes=given.processes)
    rate = given.count / found.seconds * 60
    print(table([{"what": name, "how many": f"{found.totals[name]:,}"} for name in sorted(found.totals)]))
    print(
        f"{given.count:,} schedules, seeds {given.seed} to {given.seed + given.count - 1}, {found.seconds:.0f} s: {len(found.failed)} fail"
    )
    for seed in sorted(found.failed)[:STORIES]:
        print(f"\nseed {seed}: {found.failed[seed]}\n{story(shrink(generate(seed)))}")
    totals = dict(sorted(found.totals.items()))
    first = {str(seed): why for seed, why in sorted(found.failed.items())[:20]}
    keep = given.count >= 20_000
    report(
        "schedules",
        round(rate),
        "schedules/min",
        None,
        None,
        keep=keep,
        count=given.count,
        seed=given.seed,
        failed=len(found.failed),
        first=first,
        totals=totals,
    )
    raise SystemExit(bool(found.failed))


if __name__ == "__main__":
    main()
