"""The aligner against the slow reference over many streams and settings: `make bench NAME=differential ARGS="--count 10000 --seed 1"`.

Each seed draws a stream, settings, and a way to read it (backlog or live, batch sizes, crashes); what comes out must be the
reference's final manifests, and its verdict on what is late.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

from streamer.config import AlignSettings
from streamer.errors import BadRecord
from streamer.events import Micros, Modality, Origin, SessionId, Window
from streamer.stages.envelope import read_head
from tests.bench.fanned import child, fan, options
from tests.bench.report import report, table
from tests.simulator.broker import Broker
from tests.simulator.schedule import any_settings, writes
from tests.stages.align_streams import NOON, Driver, Log, final, judge, reference

RECORDS = 50  # at most, in one stream


def stream(random: Random) -> Log:
    """All partitions' records as one log of three topics."""
    broker, log = Broker(1, Micros(NOON)), Log()
    for write in writes(random, random.randint(1, RECORDS), tape=random.random() < 0.5):
        if write.kind in ("malformed", "stray"):
            continue
        record = broker.append(write.message, write.arrival)
        try:
            log._append(read_head(record, 1))
        except BadRecord as exc:
            raise AssertionError(f"a stream holds a record that cannot be read: {exc}") from exc
    return log


def disturbed(log: Log, settings: AlignSettings, random: Random) -> Iterator[str]:
    """Read it somehow, then the rest of it fairly; says what it did."""
    expected = tuple(modality for modality in Modality if random.random() < 0.3)
    driver = Driver(log, settings, live=random.random() < 0.7, expected=expected)
    for _ in range(random.choice((0, 0, 20, 60))):
        move = random.choice(("append", "read", "read", "read", "tick", "save", "crash", "torn"))
        yield move
        if move == "append":
            driver.append(random.randint(1, 9))
        elif move == "read":
            driver.read(random.choice(tuple(Modality)), random.randint(1, 9))
        elif move == "tick":
            driver.tick()
        elif move == "save":
            driver.checkpoint()
        else:
            if move == "torn":
                driver.tick(writes=random.randint(0, 4))
            driver.resume()
    driver.run()
    yield from _wrong(driver, log, settings)


def _wrong(driver: Driver, log: Log, settings: AlignSettings) -> Iterator[str]:
    verdict, told, wanted = judge(log, settings), final(driver.windows), reference(log, settings)
    yield from ("windows" for window in driver.windows if isinstance(window, Window))
    late = {event.origin for event in verdict["late"]}
    if set(driver.late) != late:
        yield f"WRONG: late are {_names(set(driver.late) - late)} too many, {_names(late - set(driver.late))} too few"
    keys: list[tuple[SessionId, int]] = [key for key in wanted.keys() | told.keys() if wanted.get(key) != told.get(key)]
    for session, start in sorted(keys)[:1]:
        yield f"WRONG: the window of `{session}` at {(start - NOON) / 1e6:g} s (and {len(keys) - 1} more) differ"


def _names(origins: set[Origin]) -> list[str]:
    return sorted(f"{origin.topic}@{origin.offset}" for origin in origins)


def look(seed: int) -> tuple[Counter[str], str]:
    """One stream."""
    random = Random(seed)
    settings, log = any_settings(random), stream(random)
    told = list(disturbed(log, settings, random))
    wrong = [line.removeprefix("WRONG: ") for line in told if line.startswith("WRONG")]
    counted = Counter(line for line in told if not line.startswith("WRONG"))
    return counted + Counter({"records": len(log.all), "sessions": len({item.track.session for item in log.all})}), "; ".join(wrong)


def main() -> None:
    """Compare, add up, tell."""
    given = options(__doc__, count=10_000)
    if given.child:
        child(look, *given.child)
        return
    found = fan("tests.bench.differential", count=given.count, seed=given.seed, processes=given.processes)
    print(table([{"what": name, "how many": f"{found.totals[name]:,}"} for name in sorted(found.totals)]))
    print(
        f"{given.count:,} streams, seeds {given.seed} to {given.seed + given.count - 1}, {found.seconds:.0f} s: {len(found.failed)} differ"
    )
    for seed, why in sorted(found.failed.items())[:10]:
        print(f"seed {seed}: {why}")
    totals, rate = dict(sorted(found.totals.items())), round(given.count / found.seconds * 60)
    keep = given.count >= 10_000
    report(
        "differential",
        rate,
        "streams/min",
        None,
        None,
        keep=keep,
        count=given.count,
        seed=given.seed,
        failed=len(found.failed),
        totals=totals,
    )
    raise SystemExit(bool(found.failed))


if __name__ == "__main__":
    main()
