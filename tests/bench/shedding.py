"""`make bench NAME=shedding`: how long windows wait for their score where the engine is too slow for the frames, with and without
shedding.

A real infer on a real Apache Kafka, with the tiny engine slowed down by a fixed time for each frame: this measures the policy and
its plumbing, not a model. Two cameras of 8 frames a second, a microphone and words at the speed of life; all runs side by side,
each with topics of its own. A wait is a score's append time minus its window's, both the broker's clock.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from streamer.config import InferSettings, KafkaSettings
from streamer.events import SECOND, Modality, Scores
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.log import LogReader
from streamer.kafka.topics import create_topics
from streamer.stages.wire import read_scores, read_window
from tests.agents.infer_load import Load, scored
from tests.agents.infer_room import CountingEngine, Running, Scene, running
from tests.bench.report import report, table
from tests.kafka.apache import apache_kafka

CAMERAS, FPS = 2, 8
SHED_AFTER = 2  # seconds
PATIENCE = 600.0  # seconds


@dataclasses.dataclass(frozen=True)
class Case:
    """`overload`: the engine's time for a second of frames, in seconds."""

    overload: float
    shed: bool


async def one(case: Case, address: str, seconds: int) -> dict[str, Any]:
    """Play it, wait for every score, look at the log."""
    broker = KafkaSettings(bootstrap=address, prefix=f"shed-{case.overload:g}-{case.shed}.", partitions=1)
    kafka = Kafka(broker)
    await create_topics(kafka)
    settings = InferSettings(profile="tiny", batch=4, shed=case.shed, shed_after=SHED_AFTER)
    engine = CountingEngine(per_frame=case.overload / (CAMERAS * FPS))
    async with Producer(kafka) as producer, running(broker, settings=settings, engine=engine) as infer:
        load = Load(Scene(producer), cameras=CAMERAS, fps=FPS)
        await load.run(seconds)
        open_windows = len(load.windows) - infer.written
        await scored(infer, load, seconds=PATIENCE)
        return await outcome(case, infer, load, open_windows)


async def outcome(case: Case, infer: Running, load: Load, open_windows: float) -> dict[str, Any]:
    """One line of the table."""
    async with LogReader(infer.kafka) as reader:
        closed = {read_window(record).id: record.arrival async for record in reader.read("windows", 0, partition=0)}  # type: ignore[union-attr]
        found = [
            (one, record.arrival)
            async for record in reader.read("scores", 0, partition=0)
            if isinstance(one := read_scores(record), Scores)
        ]
    waits = [(arrival - closed[score.window]) / SECOND for score, arrival in found]
    later = waits[len(waits) // 2 :]
    return {
        "overload": case.overload,
        "shedding": case.shed,
        "windows": len(load.windows),
        "p50 s": float(np.percentile(waits, 50)),
        "p99 s": float(np.percentile(waits, 99)),
        "2nd half p50 s": float(np.percentile(later, 50)),
        "2nd half p99 s": float(np.percentile(later, 99)),
        "unscored at the end": int(open_windows),
        "frames encoded %": 100 * infer.encoded(Modality.FRAMES) / (CAMERAS * FPS * load.seconds),
        "audio and words %": 100
        * (infer.encoded(Modality.AUDIO) + infer.encoded(Modality.TRANSCRIPTS))
        / (load.seconds + len(load.windows)),
    }


async def main(seconds: int, keep: bool) -> None:
    """All cases side by side; the figure is the p99 of the later half at 4 x, against the same without shedding."""
    cases = [Case(overload, shed) for overload in (0.5, 2.0, 4.0) for shed in (False, True)]
    with tempfile.TemporaryDirectory() as folder, apache_kafka(Path(folder)) as address:
        rows = await asyncio.gather(*(one(case, address, seconds) for case in cases))
    print(table(list(rows)))
    without, shed = (row["2nd half p99 s"] for row in rows[-2:])
    report(
        "shedding",
        round(shed, 3),
        "s, p99 wait of a window for its score, second half, frames 4 x too many",
        round(without, 3),
        round(shed / without, 4),
        keep=keep,
        seconds=seconds,
        shed_after_s=SHED_AFTER,
        rows=rows,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=40)
    parser.add_argument("--trial", action="store_true", help="keep no record")
    given = parser.parse_args()
    asyncio.run(main(given.seconds, not given.trial))
