"""`make bench NAME=scale`: two workers against one over the same backlog, for align and for infer (tiny weights), on Apache Kafka.

Each worker is the real role as a process. Speed is measured from the moment all workers have read something until the first of
them has nothing left (every partition holds the same number of sessions). Two cores cannot show two workers beside a broker, so
the table also says where the processor time went. `machine allows`: the speed-up at which two workers and the broker fill all
cores, where one worker filled one core. `cores of their own`: twice the processor time per record of one worker over that of
two: the speed-up where neither the broker nor anybody else is in the way. Then a second worker joins in the middle, and what
was written is held against what was produced: windows that are missing, differ, or were written twice with the same revision.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from streamer.config import AlignSettings, Config, InferSettings, KafkaSettings
from streamer.events import Scores, Window
from streamer.kafka.client import Kafka
from streamer.kafka.log import LogReader
from streamer.kafka.topics import create_topics
from streamer.stages.media import RATE, decode_image, encode_flac, encode_jpeg
from streamer.stages.wire import read_scores, read_window
from tests.bench.ledger import compare, produced
from tests.bench.load import Load, Written, produce, renew_outputs, spread
from tests.bench.report import report, table
from tests.bench.worker import Worker, cpu_of, machine_busy, the_broker, until
from tests.integration.pipeline import DEMO
from tests.kafka.apache import apache_kafka

PARTITIONS, RUNS = 12, 3
OUTPUTS = ("windows", "late", "deadletter", "checkpoints")
SECONDS = {"align": 96, "infer": 64}  # of event time in the backlog: some ten seconds of work for one worker, and within the horizon
LOOK = 0.1  # seconds between two looks at the workers
DONE = {"align": "streamer_records_read_total", "infer": "streamer_encoded_events_total"}  # infer reads far ahead
STILL = 3.0  # seconds without progress after which a run is over

Found = dict[str, float]


@dataclass(frozen=True)
class Look:
    """One look at all of them."""

    at: float
    read: tuple[float, ...]
    cpu: float
    broker: float
    busy: float


def look(workers: Sequence[Worker]) -> Look:
    """Records dealt with and processor time spent, now."""
    read = tuple(one.total(DONE[one.role]) for one in workers)
    return Look(time.monotonic(), read, sum(one.cpu for one in workers), cpu_of(the_broker()), machine_busy())


def watch(workers: Sequence[Worker]) -> list[Look]:
    """From the first record of the last worker until nothing moves."""
    until(lambda: all(one.is_ready for one in workers), "all workers ready", pause=LOOK)
    until(lambda: all(look(workers).read), "all workers read: the backlog is too short", pause=LOOK)
    looks = [look(workers)]
    while looks[-1].at - next(one.at for one in looks if one.read == looks[-1].read) < STILL:
        time.sleep(LOOK)
        looks.append(look(workers))
    return looks


def figures(looks: Sequence[Look]) -> Found:
    """While every worker still had something to read."""
    last = looks[-1].read
    end = next(one for one in looks if any(now == final for now, final in zip(one.read, last, strict=True)))
    begin = looks[0]
    if end is begin:
        raise SystemExit("a worker had nothing left to read before the other one began: the backlog is too short")
    records, seconds = sum(end.read) - sum(begin.read), end.at - begin.at
    cpu, broker, busy = end.cpu - begin.cpu, end.broker - begin.broker, end.busy - begin.busy
    return {
        "records/s": records / seconds,
        "CPU us/record": cpu / records * 1e6,
        "broker us/record": broker / records * 1e6,
        "workers' cores": cpu / seconds,
        "broker's cores": broker / seconds,
        "others' cores": max(0.0, busy - cpu - broker) / seconds,
        "measured s": seconds,
    }


def run(role: str, config: Config, workers: int, folder: Path) -> Found:
    """So many workers over the backlog."""
    with ExitStack() as stack:
        return figures(watch([stack.enter_context(Worker(role, config, folder, name=f"{role}-{n}")) for n in range(workers)]))


def join(role: str, config: Config, folder: Path) -> None:
    """One worker; a second one is started when the first has begun, and joins as it works; both until nothing is left to do."""
    with Worker(role, config, folder, name=f"{role}-0") as first:
        first.ready()
        until(lambda: first.total(DONE[role]) > 0, "the first records read", pause=LOOK)
        with Worker(role, config, folder, name=f"{role}-1") as second:
            watch([first, second])
            until(lambda: first.total("streamer_open_windows") + second.total("streamer_open_windows") == 0, "no window open", pause=LOOK)


# align


def align(address: str, folder: Path, load: Load, runs: int) -> dict[str, Any]:
    """One worker and two, alternating, then a second one that joins."""
    settings = KafkaSettings(bootstrap=address, prefix="scale-align.", partitions=PARTITIONS)
    config = Config(kafka=settings, align=AlignSettings(patience="120s"))  # written in a burst, every track trails its own arrivals
    asyncio.run(create_topics(Kafka(settings)))
    written = asyncio.run(produce(settings, load))
    found: dict[int, list[Found]] = {1: [], 2: []}
    for _ in range(runs):
        for workers, figures_of in found.items():
            asyncio.run(renew_outputs(settings, OUTPUTS))
            figures_of.append(run("align", config, workers, folder))
    asyncio.run(renew_outputs(settings, OUTPUTS))
    join("align", config, folder)
    return {"runs": found, "joined": asyncio.run(windows_ledger(settings, load, written)), "records": written.records}


async def windows_ledger(settings: KafkaSettings, load: Load, written: Written) -> dict[str, int]:
    """Windows that stand in the log against those that the load makes."""
    async with LogReader(Kafka(settings)) as reader:
        records = [record for n in range(settings.partitions) async for record in reader.read("windows", 0, partition=n)]
        late = [record for n in range(settings.partitions) async for record in reader.read("late", 0, partition=n)]
    windows = [one for one in map(read_window, records) if isinstance(one, Window)]
    return compare(windows, produced(load, written.base)) | {"late": len(late)}


# infer


def infer(address: str, folder: Path, load: Load, runs: int) -> dict[str, Any]:
    """The same, over media and the windows that the real align cuts of them, each run from the start."""
    settings = KafkaSettings(bootstrap=address, prefix="scale-infer.", partitions=PARTITIONS)
    align = AlignSettings(patience="120s", idle="1s")
    config = Config(kafka=settings, align=align, infer=InferSettings(profile="tiny", device="cpu", shed=False))
    asyncio.run(create_topics(Kafka(settings)))
    written = asyncio.run(produce(settings, load))
    with Worker("align", config, folder) as worker:
        expected = len(produced(load, written.base))
        until(lambda: worker.is_ready and worker.total("streamer_windows_total") >= expected, "every window cut", pause=0.2)
        until(lambda: worker.total("streamer_open_windows") == 0, "no window open", pause=0.2)
    found: dict[int, list[Found]] = {1: [], 2: []}
    for _ in range(runs):
        for workers, figures_of in found.items():
            asyncio.run(from_the_start(settings))
            figures_of.append(run("infer", config, workers, folder))
    asyncio.run(from_the_start(settings))
    join("infer", config, folder)
    return {"runs": found, "joined": asyncio.run(scores_ledger(settings)), "records": written.records}


async def from_the_start(settings: KafkaSettings) -> None:
    """No scores, and the group's commit back at 0."""
    await renew_outputs(settings, ("scores", "deadletter"))
    kafka = Kafka(settings)
    consumer = kafka.consumer(group="infer")
    await consumer.start()
    try:
        windows = [kafka.partition("windows", n) for n in range(settings.partitions)]
        consumer.assign(windows)
        await consumer.commit(dict.fromkeys(windows, 0))
    finally:
        await consumer.stop()


async def scores_ledger(settings: KafkaSettings) -> dict[str, int]:
    """The latest revision of each window has a score, and no (window, revision) has two."""
    async with LogReader(Kafka(settings)) as reader:
        cut = [read_window(r) for n in range(settings.partitions) async for r in reader.read("windows", 0, partition=n)]
        told = [read_scores(r) for n in range(settings.partitions) async for r in reader.read("scores", 0, partition=n)]
    latest: dict[str, int] = {}
    for one in cut:
        if isinstance(one, Window):
            latest[one.id] = max(one.revision, latest.get(one.id, -1))
    scored = Counter((one.window, one.revision) for one in told if isinstance(one, Scores))
    missing = [name for name, revision in latest.items() if (name, revision) not in scored]
    return {"windows": len(latest), "missing": len(missing), "twice": sum(count > 1 for count in scored.values())}


def media() -> dict[str, bytes]:
    """A real picture as ingest would send it, and a second of noise."""
    picture = decode_image((DEMO / "street.jpg").read_bytes(), 34_000_000)
    noise = np.random.default_rng(1).normal(0, 0.01, RATE).astype(np.float32)
    return {"frame": encode_jpeg(picture, 85), "chunk": encode_flac(noise)}


# the table


def rows(role: str, found: dict[int, list[Found]]) -> list[dict[str, Any]]:
    """Medians, and what they would be without the broker in the way."""
    middle = {n: {key: statistics.median(one[key] for one in runs) for key in runs[0]} for n, runs in found.items()}
    one, two = middle[1], middle[2]
    allows = (os.cpu_count() or 1) * one["CPU us/record"] / (two["CPU us/record"] + two["broker us/record"])
    speed_up = {1: 1.0, 2: two["records/s"] / one["records/s"]}
    own = {1: 1.0, 2: 2 * one["CPU us/record"] / two["CPU us/record"]}
    return [
        {"role": role, "workers": n}
        | {key: value for key, value in figures_of.items() if key != "measured s"}
        | {"speed-up": speed_up[n], "machine allows": 1.0 if n == 1 else allows, "cores of their own": own[n]}
        for n, figures_of in middle.items()
    ]


def told(folder: Path) -> Path:
    """The broker's data folder, with a setting: workers that are started together share the partitions before either reads."""
    (folder / "more.properties").write_text("group.initial.rebalance.delay.ms=6000\n")
    return folder


def main(roles: Sequence[str], runs: int, seconds: int | None) -> None:
    """Both roles, one table, one record."""
    loads = {
        "align": Load(sessions=96, seconds=seconds or SECONDS["align"], names=spread(96, PARTITIONS)),
        "infer": Load(sessions=48, seconds=seconds or SECONDS["infer"], names=spread(48, PARTITIONS), words=False, **media()),
    }
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, apache_kafka(told(Path(name))) as address:
        for role in roles:
            print(f"{role}: one worker and two, {runs} times, then one that joins ...", flush=True)
            found[role] = {"align": align, "infer": infer}[role](address, Path(name), loads[role], runs)
    lines = [line for role in roles for line in rows(role, found[role]["runs"])]
    print(table(lines))
    for role in roles:
        print(f"{role}, a second worker joined in the middle: {found[role]['joined']}")
    first, second = (line["records/s"] for line in lines[:2])
    report("scale", second, "records/s", first, second / first, keep=runs >= RUNS, table=lines, details=found)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--roles", nargs="+", choices=("align", "infer"), default=["align", "infer"])
    options.add_argument("--runs", type=int, default=RUNS, help=f"rounds of one worker and two (default {RUNS})")
    options.add_argument("--seconds", type=int, help=f"of event time in the backlog (default {SECONDS})")
    given = options.parse_args()
    main(given.roles, given.runs, given.seconds)
