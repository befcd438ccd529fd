"""`make bench NAME=align`: the align role end to end against a bare aiokafka `getmany` loop over the same records.

The real role, hosted by Faust, on a real Apache Kafka: it reads frames of 60 KB, audio and words, writes windows and checkpoints.
The baseline reads the same topics with the same consumer settings and event loop, and does nothing else. Each run is a process
of its own, measured from its first record to its last one dealt with; runs alternate, and medians are compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvloop
from aiokafka.admin import AIOKafkaAdminClient

from streamer.agents import align
from streamer.config import AlignSettings, Config, KafkaSettings
from streamer.events import SECOND, AudioChunk, Frame, Message, Micros, SessionId, Transcript, Words
from streamer.health import Health
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.topics import create_topics
from streamer.metrics import Metrics
from streamer.runtime import Runtime
from streamer.stages.envelope import write_audio, write_frame, write_transcript
from streamer.topology import STAGE
from tests.bench.report import report, table
from tests.kafka.apache import apache_kafka

FRAME, CHUNK = os.urandom(60_000), os.urandom(20_000)  # payloads: align never looks into them
SESSIONS, SECONDS, PARTITIONS, RUNS = 100, 64, 12, 5
OUTPUTS = ("windows", "late", "deadletter", "checkpoints")
WORDS = Words(text="a dozen words that somebody said in front of a microphone", confidence=0.9, language="en")


def second_of(session: SessionId, at: Micros, number: int) -> Iterator[Message]:
    """What one place gives in a second: two frames, a chunk, and now and then some words."""
    half, end = Micros(at + SECOND // 2), Micros(at + SECOND)
    yield write_frame(Frame(session=session, source="cam", at=at, image=FRAME))
    yield write_frame(Frame(session=session, source="cam", at=half, image=FRAME))
    yield write_audio(AudioChunk(session=session, source="mic", start=at, end=end, sound=CHUNK))
    if number % 4 == 0:
        yield write_transcript(Transcript(session=session, source="mic", start=at, end=end, words=WORDS))


async def produce(settings: KafkaSettings) -> int:
    """Write everything, in event-time order over all sessions. Returns how many records."""
    base, count = Micros(time.time_ns() // 1_000 // SECOND * SECOND - SECONDS * SECOND), 0
    async with Producer(Kafka(settings)) as producer:
        for number in range(SECONDS):
            at = Micros(base + number * SECOND)
            messages = [one for n in range(SESSIONS) for one in second_of(SessionId(f"place-{n}"), at, number)]
            await producer.send(messages)
            count += len(messages)
    return count


async def renew_outputs(settings: KafkaSettings) -> None:
    """Empty topics for what align writes, so that each run begins at the log's start."""
    kafka = Kafka(settings)
    admin = AIOKafkaAdminClient(**kafka.common)
    await admin.start()
    try:
        await admin.delete_topics([kafka.physical(name) for name in OUTPUTS])
        while set(await admin.list_topics()) & {kafka.physical(name) for name in OUTPUTS}:
            await asyncio.sleep(0.05)
    finally:
        await admin.close()
    await create_topics(kafka)


class Watch:
    """Wall and processor time of this process, from the first record on."""

    def __init__(self) -> None:
        self._wall = self._cpu = 0.0

    def start(self) -> None:
        """The first record is there."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self, records: int) -> dict[str, float]:
        """The last one is dealt with."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        return {"records/s": records / wall, "CPU us/record": cpu / records * 1e6}


async def bare(settings: KafkaSettings, count: int) -> dict[str, float]:
    """The baseline: `getmany` until everything was seen."""
    kafka, watch, seen = Kafka(settings), Watch(), 0
    consumer = kafka.consumer(fetch_max_wait_ms=50)
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


async def role(settings: KafkaSettings, count: int) -> dict[str, float]:
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
        return found | {"windows": registry.get_sample_value("streamer_records_written_total", {"stage": "align", "topic": "windows"}) or 0}
    finally:
        runtime.stop.set()
        await working


async def _pause(working: asyncio.Task[None]) -> None:
    if working.done():
        working.result()
    await asyncio.sleep(0.005)


def in_a_process(what: str, settings: KafkaSettings, count: int) -> dict[str, float]:
    """One run; its last line of output is the result."""
    command = [sys.executable, "-m", "tests.bench.align", "--child", what, settings.model_dump_json(), str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=300)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def middle(runs: list[dict[str, float]], key: str) -> float:
    """The median of one figure."""
    return statistics.median(run[key] for run in runs)


def main() -> None:
    """Alternate, compare, report."""
    with tempfile.TemporaryDirectory() as name, apache_kafka(Path(name)) as address:
        settings = KafkaSettings(bootstrap=address, prefix="bench.", partitions=PARTITIONS)
        asyncio.run(create_topics(Kafka(settings)))
        print("writing the records ...", flush=True)
        count = asyncio.run(produce(settings))
        found: dict[str, list[dict[str, float]]] = {"bare": [], "role": []}
        for number in range(RUNS):
            print(f"run {number + 1} of {RUNS}: {count} records ...", flush=True)
            found["bare"].append(in_a_process("bare", settings, count))
            asyncio.run(renew_outputs(settings))
            found["role"].append(in_a_process("role", settings, count))
    rows: list[dict[str, Any]] = [
        {"what": what, "records/s": middle(runs, "records/s"), "CPU us/record": middle(runs, "CPU us/record"), "runs": len(runs)}
        for what, runs in found.items()
    ]
    print(table(rows))
    baseline, value = (row["records/s"] for row in rows)
    cpu = {row["what"]: round(row["CPU us/record"], 1) for row in rows}
    shape = {"sessions": SESSIONS, "seconds": SECONDS, "partitions": PARTITIONS, "records": count, "frame bytes": len(FRAME)}
    report("align", value, "records/s", baseline, value / baseline, cpu_us_per_record=cpu, load=shape, runs=found)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--child", nargs=3, metavar=("WHAT", "SETTINGS", "COUNT"), help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.child:
        what, raw, records = given.child
        print(json.dumps(uvloop.run({"bare": bare, "role": role}[what](KafkaSettings.model_validate_json(raw), int(records)))))
    else:
        main()
