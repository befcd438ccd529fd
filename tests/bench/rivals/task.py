"""What each rival is asked to do, apart from any framework: which records, which windows, what goes into a window record.

Three topics of media and text, keyed by session. Windows of two seconds, every second, in event time (`ce_time`). A window
record holds references, never media: modality, source, id, time, partition and offset of every event that starts in it.
A run prints one line of JSON: what it measured.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

INPUTS = ("frames", "audio", "transcripts")
LENGTH, HOP = timedelta(seconds=2), timedelta(seconds=1)
BOUND = timedelta(milliseconds=300)  # how long streamer waits, too (`align.bound_frames`)

Headers = Iterable[tuple[str, bytes]]
Reference = dict[str, Any]


@dataclass(kw_only=True)
class Task:
    """From the command line: the broker, what stands before its topics' names, how many records there are, where to write."""

    bootstrap: str
    prefix: str
    count: int
    output: str
    state: str
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def topics(self) -> list[str]:
        """The broker's names of the inputs."""
        return [self.prefix + name for name in INPUTS]


def task() -> Task:
    """What this process was asked to do."""
    return Task(**json.loads(sys.argv[1]))


def event_time(headers: Headers) -> datetime:
    """When the event began."""
    return datetime.fromisoformat(dict(headers)["ce_time"].decode())


def reference(headers: Headers, topic: str, partition: int, offset: int, size: int) -> Reference:
    """What a window record says of one event."""
    found = dict(headers)
    end = found.get("ce_endtime", found["ce_time"])
    return {
        "modality": topic.rpartition(".")[2],
        "source": found["ce_source"].decode(),
        "id": found["ce_id"].decode(),
        "start": found["ce_time"].decode(),
        "end": end.decode(),
        "partition": partition,
        "offset": offset,
        "size": size,
    }


class Watch:
    """Processor time of this process from here on (what is fetched ahead is not for nothing), and wall time.

    Wall time is from the first record on, or from here on where fetching begins at once (`fetches`: no group is joined first).
    """

    def __init__(self, count: int, *, fetches: bool = False) -> None:
        self._count, self._wall, self._cpu = count, time.perf_counter() if fetches else 0.0, time.process_time()
        self.seen = self.windows = self.late = 0

    def saw(self) -> None:
        """One record more."""
        if not self._wall:
            self._wall = time.perf_counter()
        self.seen += 1

    def tell(self) -> None:
        """All is written: print the figures. Raises where the run did not see everything."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        if self.seen != self._count:
            raise SystemExit(f"saw {self.seen} of {self._count} records")
        found = {"records/s": self.seen / wall, "CPU us/record": cpu / self.seen * 1e6, "windows": self.windows, "late": self.late}
        found["MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found), flush=True)
