"""`make bench NAME=align`: the align role end to end, against a bare `getmany` loop and against other stream processors.

Over the same records (frames of 60 KB, audio, words) on the same Apache Kafka, each run a process of its own, the contestants
alternating; medians are compared. `bare` reads the topics with the role's own consumer (fetch sizes, checksums by the processor's
instruction) and event loop and does nothing else; `bare, aiokafka as it comes` has the library's own settings. `role` is the
real role, hosted by Faust: it writes windows, late records and checkpoints. The rivals do the nearest equivalent (their files
in `rivals/` say what they do not do): hopping windows of references, one record written for each.
A run is measured from its first record to its last one dealt with; rivals' processor time also has what they fetch before.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streamer.agents import align
from streamer.config import AlignSettings, Config, KafkaSettings
from streamer.health import Health
from streamer.kafka.client import Kafka
from streamer.kafka.topics import create_topics
from streamer.metrics import Metrics
from streamer.runtime import Runtime
from streamer.topology import STAGE
from tests.bench.load import Load, Written, produce, renew_outputs
from tests.bench.report import report, table
from tests.kafka.apache import apache_kafka

LOAD, PARTITIONS, RUNS = Load(sessions=100, seconds=64), 12, 5
OUTPUTS = ("windows", "late", "deadletter", "checkpoints")
RIVALS: dict[str, tuple[str, dict[str, Any]]] = {
    "quixstreams": ("quix", {}),
    "quixstreams, no changelog": ("quix", {"use_changelog_topics": False}),
    "bytewax": ("bytewax_", {}),
}
ROOT = Path(__file__).parents[2]
RIVALS_PYTHON = ROOT / ".venv-bench" / "bin" / "python"

Found = dict[str, float]


class Watch:
    """Wall and processor time of this process, from the first record on."""

    def __init__(self) -> None:
        self._wall = self._cpu = 0.0

    def start(self) -> None:
        """The first record is there."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self, records: int) -> Found:
        """The last one is dealt with."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return {"records/s": records / wall, "CPU us/record": cpu / records * 1e6}


async def bare(settings: KafkaSettings, count: int) -> Found:
    """The baseline: `getmany` with the role's consumer until everything was seen."""
    return await drain(settings, count, Kafka(settings).consumer(fetch_max_wait_ms=50))


async def plain(settings: KafkaSettings, count: int) -> Found:
    """`getmany` with aiokafka's own settings."""
    return await drain(settings, count, AIOKafkaConsumer(**Kafka(settings).common))


async def drain(settings: KafkaSettings, count: int, consumer: AIOKafkaConsumer) -> Found:
    """Read everything and do nothing with it."""
    kafka, watch, seen = Kafka(settings), Watch(), 0
    await consumer.start()
    try:
        tps = [kafka.partition(topic, n) for topic in STAGE["align"].reads for n in range(settings.partitions)]
        consumer.assign(tps)
        await consumer.seek_to_beginning(*tps)
        while seen < count:
            batch = await consumer.getmany(timeout_ms=100)
            if batch and not seen:
                watch.start()
            seen += sum(map(len, batch.values()))
        return watch.stop(seen)
    finally:
        await consumer.stop()


async def role(settings: KafkaSettings, count: int) -> Found:
    """The align role: done with a batch when its windows are acknowledged."""
    config = Config(kafka=settings, align=AlignSettings(patience="120s"))  # written in a burst, every track trails its own arrivals
    runtime = Runtime(config=config, metrics=Metrics("align"), health=Health(), stop=asyncio.Event())
    watch, registry = Watch(), runtime.metrics.registry
    working = asyncio.create_task(align.run(runtime))
    try:
        while not registry.get_sample_value("streamer_records_read_total", {"stage": "align", "topic": "frames"}):
            await _pause(working)
        watch.start()
        while (registry.get_sample_value("streamer_batch_records_sum", {"stage": "align"}) or 0) < count:
            await _pause(working)
        found = watch.stop(count)
        counted = {"windows": "windows", "revisions": "revisions", "late": "late_records", "dead": "deadletters"}
        return found | {short: total(runtime.metrics, name) for short, name in counted.items()}
    finally:
        runtime.stop.set()
        await working


def total(metrics: Metrics, family: str) -> float:
    """A counter, over all its labels."""
    name = f"streamer_{family}"
    found = (sample for one in metrics.registry.collect() if one.name == name for sample in one.samples)
    return sum(sample.value for sample in found if sample.name == f"{name}_total")


async def _pause(working: asyncio.Task[None]) -> None:
    if working.done():
        working.result()
    await asyncio.sleep(0.05)  # seldom: a look at the registry is itself work of the measured process


OURS = {"bare": bare, "role": role, "bare, aiokafka as it comes": plain}


# one run, in a process of its own


def ours(what: str, settings: KafkaSettings, count: int) -> Found:
    """`role` or one that only reads."""
    if what == "role":
        asyncio.run(renew_outputs(settings, OUTPUTS))
    return child([sys.executable, "-m", "tests.bench.align", "--child", what, settings.model_dump_json(), str(count)])


def rival(name: str, settings: KafkaSettings, count: int) -> Found:
    """Another stream processor, with a new output topic and new state."""
    module, options = RIVALS[name]
    output = f"rival-{time.time_ns()}"
    asyncio.run(new_topic(settings, output))
    with tempfile.TemporaryDirectory() as state:
        asked = {"bootstrap": settings.bootstrap, "prefix": settings.prefix, "count": count, "output": output, "state": state}
        return child([str(RIVALS_PYTHON), "-W", "ignore", "-m", f"tests.bench.rivals.{module}", json.dumps(asked | {"options": options})])


async def new_topic(settings: KafkaSettings, name: str) -> None:
    """An empty topic with as many partitions as ours."""
    admin = AIOKafkaAdminClient(**Kafka(settings).common)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, num_partitions=settings.partitions, replication_factor=1)])
    finally:
        await admin.close()


def child(command: list[str]) -> Found:
    """Run it; its last line of output is the result. What it says beside is shown if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found


# all runs


def contestants(only: list[str] | None) -> dict[str, Callable[[str, KafkaSettings, int], Found]]:
    """Who takes part, in the order of a round."""
    every = dict.fromkeys(OURS, ours) | dict.fromkeys(RIVALS, rival)
    return {name: run for name, run in every.items() if only is None or name in (*OURS, *only)}


def middle(runs: list[Found], key: str) -> float:
    """The median of one figure."""
    return statistics.median(run.get(key, 0) for run in runs)


def row(what: str, runs: list[Found], written: Written, baseline: float) -> dict[str, Any]:
    """A line of the table."""
    speed = middle(runs, "records/s")
    columns = {
        "CPU us/record": middle(runs, "CPU us/record"),
        "windows": int(middle(runs, "windows")),
        "late": int(middle(runs, "late")),
        "MiB": middle(runs, "MiB"),
    }
    return {
        "what": what,
        "records/s": speed,
        "x bare": speed / baseline,
        "MB/s": speed * written.mb_per_record,
        **columns,
        "runs": len(runs),
    }


def main(runs: int, only: list[str] | None) -> None:
    """Alternate, compare, report."""
    taking_part = contestants(only)
    found: dict[str, list[Found]] = {name: [] for name in taking_part}
    with tempfile.TemporaryDirectory() as name, apache_kafka(Path(name)) as address:
        settings = KafkaSettings(bootstrap=address, prefix="bench.", partitions=PARTITIONS)
        asyncio.run(create_topics(Kafka(settings)))
        print("writing the records ...", flush=True)
        written = asyncio.run(produce(settings, LOAD))
        for number in range(runs):
            print(f"round {number + 1} of {runs}: {written.records} records ...", flush=True)
            for what, run in taking_part.items():
                found[what].append(run(what, settings, written.records))
    baseline = middle(found["bare"], "records/s")
    rows = [row(what, times, written, baseline) for what, times in found.items()]
    print(table(rows))
    shape = {"sessions": LOAD.sessions, "seconds": LOAD.seconds, "partitions": PARTITIONS, "records": written.records}
    value = middle(found["role"], "records/s")
    cpu = {one["what"]: round(one["CPU us/record"], 1) for one in rows}
    load = shape | {"frame bytes": len(LOAD.frame), "payload bytes": written.payload}
    more = {"load": load, "table": rows, "runs": found}
    report("align", value, "records/s", baseline, value / baseline, keep=runs >= RUNS and only is None, cpu_us_per_record=cpu, **more)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--child", nargs=3, metavar=("WHAT", "SETTINGS", "COUNT"), help=argparse.SUPPRESS)
    options.add_argument("--runs", type=int, default=RUNS, help=f"rounds (default {RUNS})")
    options.add_argument("--only", nargs="*", choices=sorted(RIVALS), help="rivals that take part (default all)")
    given = options.parse_args()
    if given.child:
        what, raw, records = given.child
        figures = uvloop.run(OURS[what](KafkaSettings.model_validate_json(raw), int(records)))
        print(json.dumps(figures | {"MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
    else:
        main(given.runs, given.only)
