"""`make bench NAME=faults`: processes killed, frozen and replaced, the broker stopped and frozen, and what is lost by it.

On a real Apache Kafka, with the real roles as processes and live sessions. A ledger is kept outside the pipeline: the feed writes
down every record it was acknowledged for, the receiver every delivery. From it follows by a slow reference what must come out
(`tests/faults/ledger.py`, `alarms.py`); infer's scores are held against those of a worker whom nobody disturbs, over the same
topics. infer runs with the small random model, which refuses to alert: decide and deliver get scores written by hand.
Recovery is counted from the fault to the first new record of the stage, and until each of its partitions has one.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from streamer.stages.media import RATE, encode_flac, encode_jpeg
from tests.bench.report import report, table
from tests.faults.acts import freeze, join, kill, leave, say
from tests.faults.alarms import Alarms, alarms
from tests.faults.place import SESSION_TIMEOUT, Place, Recovery, summary
from tests.faults.processes import Broker
from tests.faults.town import Town, town
from tests.integration.pipeline import until

STOPPED, FROZEN = 60.0, 30.0  # seconds that the broker is away
OVER = 120.0  # seconds: a horizon that is longer than the broker is away
SMALL = 4  # sessions for infer, which encodes what they bring
SEED = 4
SEEN = ("records", "duplicates", "late", "dead", "windows", "revisions", "repeated", "scores", "scores twice", "alerts")
WRONG = ("lost", "missing", "differ", "unexpected", "misjudged", "scores missing", "scores differ", "alerts lost", "alerts differ", "twice")


@dataclass(frozen=True, kw_only=True)
class Played:
    """What one scenario showed. `wrong`: counts that must be 0."""

    name: str
    recoveries: list[Recovery]
    seen: dict[str, int]
    wrong: dict[str, int]
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """One kind of fault, so many times; `quick`: how often in a trial."""

    play: Callable[[Broker, Path, int], Awaitable[Played]]
    times: int
    quick: int


# align


async def align_kill(broker: Broker, folder: Path, times: int) -> Played:
    """The only worker, at any instant of a window; every fourth time once more while it is starting."""
    async with town(broker.address, folder) as place:
        await begin(place, "align", "windows")
        for n in range(times):
            await kill(place, "align", "windows", again=n % 4 == 3)
        return await of_town("align-kill", place)


async def align_join(broker: Broker, folder: Path, times: int) -> Played:
    """A second worker comes and goes."""
    async with town(broker.address, folder) as place:
        await begin(place, "align", "windows")
        for _ in range(times):
            await leave(place, await join(place, "align", "windows"), "windows")
        return await of_town("align-join", place)


async def align_freeze(broker: Broker, folder: Path, times: int) -> Played:
    """One of two workers stands still for twice the session timeout, is replaced meanwhile, and wakes; then the only one does."""
    async with town(broker.address, folder, horizon=60) as place:
        await begin(place, "align", "windows")
        for _ in range(times):
            await freeze(place, "align", "windows", 2 * SESSION_TIMEOUT, "frozen, alone")
        await join(place, "align", "windows")
        for _ in range(times):
            await freeze(place, "align", "windows", 2 * SESSION_TIMEOUT, "frozen, one of two")
            await asyncio.sleep(SESSION_TIMEOUT)
        return await of_town("align-freeze", place)


# infer


async def infer_kill(broker: Broker, folder: Path, times: int) -> Played:
    """The only worker, between any two scores."""
    async with town(broker.address, folder, sessions=SMALL, watch=("windows", "scores"), media=media(folder)) as place:
        await begin(place, "align", "windows")
        await begin(place, "infer", "scores")
        for n in range(times):
            await kill(place, "infer", "scores", again=n % 4 == 3)
        return await of_town("infer-kill", place, scored=True)


async def infer_join(broker: Broker, folder: Path, times: int) -> Played:
    """A second worker comes and goes."""
    async with town(broker.address, folder, sessions=SMALL, watch=("windows", "scores"), media=media(folder)) as place:
        await begin(place, "align", "windows")
        await begin(place, "infer", "scores")
        for _ in range(times):
            await leave(place, await join(place, "infer", "scores"), "scores")
        return await of_town("infer-join", place, scored=True)


def media(folder: Path) -> dict[str, str]:
    """A small picture and half a second of noise, as ingest would send them."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(1)
    frame, chunk = folder / "frame.jpg", folder / "chunk.flac"
    frame.write_bytes(encode_jpeg(draw.integers(0, 255, (64, 64, 3), np.uint8), 85))
    chunk.write_bytes(encode_flac(draw.normal(0, 0.05, RATE // 2).astype(np.float32)))
    return {"frame": str(frame), "chunk": str(chunk)}


# decide


async def decide_kill(broker: Broker, folder: Path, times: int) -> Played:
    """The only worker, between any two alerts."""
    async with alarms(broker.address, folder) as (place, feeding):
        await begin(place, "decide", "alerts")
        await deliver(place)
        for n in range(times):
            await kill(place, "decide", "alerts", again=n % 4 == 3)
        return await of_alarms("decide-kill", place, feeding)


async def decide_freeze(broker: Broker, folder: Path, times: int) -> Played:
    """The only worker stands still for twice the session timeout; then one of two does."""
    async with alarms(broker.address, folder) as (place, feeding):
        await begin(place, "decide", "alerts")
        await deliver(place)
        for _ in range(times):
            await freeze(place, "decide", "alerts", 2 * SESSION_TIMEOUT, "frozen, alone")
        await join(place, "decide", "alerts")
        for _ in range(times):
            await freeze(place, "decide", "alerts", 2 * SESSION_TIMEOUT, "frozen, one of two")
        return await of_alarms("decide-freeze", place, feeding)


# the broker


async def broker_stop(broker: Broker, folder: Path, times: int) -> Played:
    """SIGTERM, and back on the same data a minute later."""

    async def away() -> float:
        await asyncio.to_thread(broker.stop)
        gone = time.time()
        await asyncio.sleep(STOPPED)
        await asyncio.to_thread(broker.again)
        return gone

    return await without_broker("broker-stop", broker, folder, times, away, STOPPED)


async def broker_freeze(broker: Broker, folder: Path, times: int) -> Played:
    """SIGSTOP for half a minute: connections stay open, nobody answers."""

    async def away() -> float:
        broker.freeze()
        gone = time.time()
        await asyncio.sleep(FROZEN)
        broker.thaw()
        return gone

    return await without_broker("broker-freeze", broker, folder, times, away, FROZEN)


async def without_broker(
    name: str, broker: Broker, folder: Path, times: int, away: Callable[[], Awaitable[float]], away_for: float
) -> Played:
    """All stages at work while the broker is away. `away` says from when on nothing can be written, `away_for` seconds."""
    watch = ("windows", "scores")
    async with (
        town(broker.address, folder / "town", sessions=SMALL, horizon=OVER, watch=watch, media=media(folder)) as place,
        alarms(broker.address, folder / "alarms", sessions=SMALL) as (house, feeding),
    ):
        await begin(place, "align", "windows")
        await begin(place, "infer", "scores")
        await begin(house, "decide", "alerts")
        await deliver(house)
        for _ in range(times):
            await asyncio.sleep(5)
            since = time.time()
            gone = await away()
            lasted = time.time() - since
            for where, topic in ((place, "windows"), (place, "scores"), (house, "alerts")):
                found = await where.recover("away", topic, since, lasted=lasted, after=gone)
                say(found)
                assert found.first > gone - since + away_for, f"the broker was not away: {found}"
        one = await of_town(name, place, scored=True)
        two = await of_alarms(name, house, feeding)
    return Played(
        name=name,
        recoveries=one.recoveries + two.recoveries,
        seen=one.seen | two.seen,
        wrong=one.wrong | two.wrong,
        notes=one.notes + two.notes,
    )


# beginning and end


async def begin(place: Place, role: str, topic: str) -> None:
    """The first worker of a role, until it writes."""
    since = time.time()
    place.join(role)
    say(await place.recover("starts", topic, since))
    await asyncio.sleep(2)


async def deliver(place: Alarms) -> None:
    """The one who delivers, until the receiver has heard of something."""
    place.join("deliver")

    async def heard() -> bool:
        place.look()
        return bool(place.receiver.accepted)

    await until(heard, "an alert at the receiver")


async def of_town(name: str, place: Town, *, scored: bool = False) -> Played:
    """Let the feed end, and judge."""
    say("the sessions end ...")
    await place.finish("scores" if scored else "windows")
    verdict = await place.verdict()
    seen, wrong = verdict.row(), verdict.wrong
    if scored:
        scores = await place.scores_verdict()
        seen |= scores
        wrong |= {key: value for key, value in scores.items() if key in ("scores missing", "scores differ")}
    for called in list(place.workers):
        place.leave(called)
    return Played(name=name, recoveries=place.recoveries, seen=seen, wrong=wrong, notes=verdict.missed)


async def of_alarms(name: str, place: Alarms, feeding: asyncio.Task[None]) -> Played:
    """Let all sessions fall silent, and judge."""
    say("the sessions end ...")
    await place.finish(feeding)
    seen = await place.verdict()
    wrong = {key: value for key, value in seen.items() if key not in ("scores told", "alerts")}
    for called in list(place.workers):
        place.leave(called)
    return Played(name=name, recoveries=place.recoveries, seen=seen, wrong=wrong)


SCENARIOS = {
    "align-kill": Scenario(align_kill, 20, 4),
    "align-join": Scenario(align_join, 10, 2),
    "align-freeze": Scenario(align_freeze, 3, 1),
    "infer-kill": Scenario(infer_kill, 10, 2),
    "infer-join": Scenario(infer_join, 10, 2),
    "decide-kill": Scenario(decide_kill, 10, 2),
    "decide-freeze": Scenario(decide_freeze, 3, 1),
    "broker-stop": Scenario(broker_stop, 1, 1),
    "broker-freeze": Scenario(broker_freeze, 1, 1),
}


async def play(name: str, broker: Broker, folder: Path, times: int) -> Played:
    """One scenario; what breaks it is part of the result."""
    print(f"{name}: {times} times ...", flush=True)
    began = time.time()
    try:
        played = await SCENARIOS[name].play(broker, folder / name, times)
    except AssertionError as exc:
        print(f"  broken off: {exc}", flush=True)
        played = Played(name=name, recoveries=[], seen={}, wrong={"broken off": 1}, notes=[str(exc)])
    played = Played(**{**vars(played), "seconds": round(time.time() - began, 1)})
    for note in played.notes:
        print(f"  ! {note}", flush=True)
    print(f"  {played.seconds:.0f} s; seen {played.seen}; must be 0: {played.wrong}", flush=True)
    return played


def recoveries(found: Sequence[Played]) -> list[dict[str, Any]]:
    """Seconds, by scenario, fault and stage."""
    return [{"scenario": one.name} | line for one in found for line in summary(one.recoveries)]


def counts(found: Sequence[Played]) -> list[dict[str, Any]]:
    """What went through, and after it what must be 0. A dash: the scenario does not have it."""
    return [
        {"scenario": one.name}
        | {name: one.seen.get(name, "-") for name in SEEN}
        | {name: one.wrong.get(name, "-") for name in WRONG}
        | {"all wrong": sum(one.wrong.values())}
        for one in found
    ]


async def main(names: Sequence[str], quick: bool, folder: Path) -> int:
    """Play all; the number of things that are wrong."""
    random.seed(SEED)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # ours too hears nothing while the broker is away
    found = []
    with Broker(folder / "kafka") as broker:
        for name in names:
            times = SCENARIOS[name].quick if quick else SCENARIOS[name].times
            found.append(await play(name, broker, folder, times))
    if any(one.recoveries for one in found):
        print(table(recoveries(found)))
    print(table(counts(found)))
    wrong = sum(sum(one.wrong.values()) for one in found)
    details = [vars(one) | {"recoveries": [asdict(each) for each in one.recoveries]} for one in found]
    report(
        "faults" if set(names) == set(SCENARIOS) else "-".join(("faults", *names)),
        wrong,
        "records, windows, scores or alerts that are wrong",
        0,
        None,
        keep=not quick,
        recoveries=recoveries(found),
        counts=counts(found),
        scenarios=details,
    )
    return wrong


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", nargs="+", choices=tuple(SCENARIOS), default=list(SCENARIOS), help="by default all")
    options.add_argument("--quick", action="store_true", help="few repetitions: a trial, which leaves no record")
    options.add_argument("--keep", type=Path, help="a folder for logs, ledgers and the broker's data; by default they are removed")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        where = given.keep or Path(temporary)
        (where / "kafka").mkdir(parents=True, exist_ok=True)
        raise SystemExit(1 if asyncio.run(main(given.only, given.quick, where)) else 0)
