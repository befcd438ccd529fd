"""`make bench NAME=cost`: what the number of sessions costs a role, at the same total rate, on Apache Kafka.

The real align and the real decide, each as one process, over 10 to 10,000 sessions that share 1,000 records a second. First half a
minute's records written as fast as it goes, then five seconds at real pace; then the role is ended in good order and started
again, and killed (-9) and started again, while records keep coming. A session of many says little, so almost every record of
theirs closes windows of its own: `written/record` tells how much of the cost is that. Payloads are small: bytes are `align`'s.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from streamer import ids
from streamer.config import AlignSettings, Config, KafkaSettings
from streamer.events import (
    SECOND,
    AudioChunk,
    ClassScore,
    ClosedBy,
    Evidence,
    Frame,
    Message,
    Micros,
    Modality,
    Presence,
    Scores,
    SessionId,
    TrackState,
)
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.log import LogReader
from streamer.kafka.topics import create_topics
from streamer.stages.envelope import write_audio, write_frame
from streamer.stages.wire import write_scores
from tests.bench.report import report, table
from tests.bench.worker import Worker, until
from tests.kafka.apache import apache_kafka

SIZES, RATE, BACKLOG, LIVE, PARTITIONS = (10, 100, 1_000, 10_000), 1_000, 30, 5.0, 12
SMALL = bytes(200)
SLICE = 0.05  # seconds of records that are written together


@dataclass(frozen=True)
class Crowd:
    """So many sessions that speak in turn, `RATE` records a second in all. Record `n` is said at `base` + n / RATE."""

    role: str
    sessions: int
    base: Micros = field(default_factory=lambda: Micros(time.time_ns() // 1_000 - BACKLOG * SECOND))

    def message(self, n: int) -> Message:
        """Two frames, then the sound of the time they take (at most a second of it); or a score of the session's next window."""
        session, turn = SessionId(f"place-{n % self.sessions}"), n // self.sessions
        at = Micros(self.base + n * SECOND // RATE)
        if self.role == "decide":
            return write_scores(self._score(session, Micros(self.base + turn * SECOND), at, loud=turn % 20 < 3))
        if turn % 3 < 2:
            return write_frame(Frame(session=session, source="cam", at=at, image=SMALL))
        length = min(SECOND, 3 * self.sessions * SECOND // RATE)
        return write_audio(AudioChunk(session=session, source="mic", start=Micros(at - length), end=at, sound=SMALL))

    @staticmethod
    def _score(session: SessionId, start: Micros, trigger: Micros, *, loud: bool) -> Scores:
        end, probability = Micros(start + 2 * SECOND), 0.9 if loud else 0.1
        return Scores(
            window=ids.window_id(session, start, end),
            revision=0,
            session=session,
            start=start,
            end=end,
            closed_by=ClosedBy.WATERMARK,
            classes={
                name: ClassScore(probability=probability, contributions={Modality.AUDIO: probability}) for name in ("siren", "person")
            },
            evidence=Evidence(),
            completeness={m: Presence(state=TrackState.ACTIVE, events=2, covered=1.0) for m in Modality},
            absent=(),
            sources=(),
            model="bench",
            calibrated=False,
            trigger=trigger,
        )


class Speaking:
    """The crowd at real pace, from a thread of its own. Use as `with`."""

    def __init__(self, settings: KafkaSettings, crowd: Crowd) -> None:
        self._settings, self._crowd, self._over = settings, crowd, threading.Event()
        self.count = 0
        self._thread = threading.Thread(target=lambda: asyncio.run(self._speak()))

    def __enter__(self) -> Speaking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    async def _speak(self) -> None:
        def now() -> int:
            return (time.time_ns() // 1_000 - self._crowd.base) * RATE // SECOND

        async with Producer(Kafka(self._settings)) as producer:
            said = now()
            while not self._over.is_set():
                await asyncio.sleep(SLICE)
                due = now()
                await producer.send([self._crowd.message(n) for n in range(said, due)])
                self.count, said = self.count + due - said, due


async def backlog(settings: KafkaSettings, crowd: Crowd) -> int:
    """`BACKLOG` seconds of records, as fast as it goes."""
    count = BACKLOG * RATE
    async with Producer(Kafka(settings)) as producer:
        for start in range(0, count, 2_000):
            await producer.send([crowd.message(n) for n in range(start, start + 2_000)])
    return count


def measure(role: str, sessions: int, address: str, folder: Path) -> dict[str, Any]:
    """One row of the table."""
    settings = KafkaSettings(bootstrap=address, prefix=f"cost-{role}-{sessions}.", partitions=PARTITIONS)
    # written in a burst, every track trails its own arrivals; and of 10,000 sessions each is silent for longer than 5 s
    config = Config(kafka=settings, align=AlignSettings(patience="120s", idle="60s"))
    asyncio.run(create_topics(Kafka(settings)))
    crowd = Crowd(role, sessions)
    with Worker(role, config, folder) as worker:
        worker.ready()
        empty, began = worker.memory, worker.cpu
        count = asyncio.run(backlog(settings, crowd))
        settled(worker, count)
        burst, spent = (worker.cpu - began) / count, worker.cpu
        with Speaking(settings, crowd) as speaking:
            time.sleep(LIVE)
        settled(worker, count + speaking.count)
        live, held = (worker.cpu - spent) / speaking.count, worker.memory - empty
        out = worker.total("streamer_records_written_total", stage=role) / (count + speaking.count)
        again = {
            name: restarted(worker, settings, crowd, number) for name, number in (("ended", signal.SIGTERM), ("killed", signal.SIGKILL))
        }
    return {
        "role": role,
        "sessions": sessions,
        "CPU us/record": burst * 1e6,
        "live us/record": live * 1e6,
        "written/record": out,
        "KiB/session": held / 1024 / sessions,
        "MiB in all": held / 2**20,
        "checkpoint bytes": asyncio.run(largest_checkpoint(settings, role)),
        **{f"{name}, ready s": ready for name, (ready, _) in again.items()},
        **{f"{name}, output s": output for name, (_, output) in again.items()},
    }


def settled(worker: Worker, count: int) -> None:
    """It has dealt with that many records."""
    until(lambda: worker.total("streamer_batch_records_sum", stage=worker.role) >= count, f"{count} records dealt with", pause=0.1)


def restarted(worker: Worker, settings: KafkaSettings, crowd: Crowd, number: signal.Signals) -> tuple[float, float]:
    """Seconds from the signal until the gate is open again, and until the first new record is out. Records keep coming."""
    with Speaking(settings, crowd):
        began = time.monotonic()
        worker.end(number)
        worker.start()
        worker.ready()
        ready = time.monotonic() - began
        until(lambda: worker.total("streamer_records_written_total", stage=worker.role) > 0, f"output of {worker.role} after its restart")
        return ready, time.monotonic() - began


async def largest_checkpoint(settings: KafkaSettings, role: str) -> int:
    """Bytes of the largest record that commits a partition, as it stands last."""
    key, last = f"{role}/".encode(), dict[int, int]()
    async with LogReader(Kafka(settings)) as reader:
        for number in range(settings.partitions):
            async for record in reader.read("checkpoints", 0, partition=number):
                if record.key == key:
                    last[number] = len(record.value or b"")
    return max(last.values())


def main(roles: Sequence[str], sizes: Sequence[int]) -> None:
    """Each role, each size."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name, apache_kafka(Path(name)) as address:
        for role, sessions in pairs(roles, sizes):
            print(f"{role}: {sessions} sessions ...", flush=True)
            rows.append(measure(role, sessions, address, Path(name)))
            print(table(rows[-1:]), flush=True)
    print(table(rows))
    few, many = rows[0], [row for row in rows if row["role"] == rows[0]["role"]][-1]
    cost = many["CPU us/record"]
    more = {"rate": RATE, "backlog_seconds": BACKLOG, "partitions": PARTITIONS, "table": rows}
    keep = tuple(sizes) == SIZES
    report("cost", cost, "us/record", few["CPU us/record"], few["CPU us/record"] / cost, keep=keep, **more)


def pairs(roles: Sequence[str], sizes: Sequence[int]) -> Iterator[tuple[str, int]]:
    """Every role with every size."""
    return ((role, sessions) for role in roles for sessions in sizes)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--roles", nargs="+", choices=("align", "decide"), default=["align", "decide"])
    options.add_argument("--sizes", nargs="+", type=int, default=list(SIZES), help="numbers of sessions (default 10 100 1000 10000)")
    given = options.parse_args()
    main(given.roles, given.sizes)
