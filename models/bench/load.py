"""How long windows wait at a given load: sessions send whether or not anybody keeps up (an open loop).

`offered` is one process; several that share the sessions are in `crowd.py`.

Laws:
1. A window's latency runs from the moment it is due to the moment its batch is done: waiting for others counts.
2. Sessions are spread evenly over a hop; what is due is served together, the oldest first, at most `most` at a time.
3. Serving ends with the last window that was due within the time measured, or when that takes twice as long: then it is behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from models.bench.pipeline import HOP

Serve = Callable[[Sequence[tuple[int, int]]], object]
"""Windows by (session, hop); returns when they are done."""
LIMIT = float(HOP)  # seconds; a window that takes longer is late for the next one


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """`sessions` offered for `seconds`. Latencies in seconds. `behind`: windows never served. `batch`: windows served together, mean.

    `workers`: processes that shared the sessions.
    """

    sessions: int
    workers: int
    seconds: float
    windows: int
    p50: float
    p99: float
    batch: float
    behind: int

    @property
    def held(self) -> bool:
        """Nothing was left, and 99 of 100 windows were done before the session's next one."""
        return not self.behind and self.p99 <= LIMIT


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """By one process: seconds that each window waited, how many were due, and in how many batches those that were served went."""

    latencies: Sequence[float]
    windows: int
    batches: int


@dataclass(frozen=True, slots=True)
class Clock:
    """Seconds now, and how to wait. Another one in tests."""

    now: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep


def offered(serve: Serve, sessions: int, seconds: int, *, most: int, clock: Clock | None = None) -> Load:
    """Of that many sessions, for that many hops, to this process."""
    return load_of([served(serve, sessions, seconds, most=most, clock=clock or Clock())], sessions, seconds)


def load_of(parts: Sequence[Served], sessions: int, seconds: int) -> Load:
    """What the processes that shared the sessions served, as one."""
    latencies = [latency for part in parts for latency in part.latencies]
    windows = sum(part.windows for part in parts)
    p50, p99 = (percentile(latencies, share) for share in (0.5, 0.99))
    return Load(
        sessions=sessions,
        workers=len(parts),
        seconds=seconds * HOP,
        windows=windows,
        p50=p50,
        p99=p99,
        batch=len(latencies) / max(1, sum(part.batches for part in parts)),
        behind=windows - len(latencies),
    )


def served(serve: Serve, sessions: int, seconds: int, *, most: int, clock: Clock) -> Served:
    """The open loop itself."""
    due = [(hop * HOP + session * HOP / sessions, (session, hop)) for hop in range(seconds) for session in range(sessions)]
    latencies: list[float] = []
    batches, at, start = 0, 0, clock.now()
    while at < len(due) and (now := clock.now() - start) <= 2 * seconds * HOP:
        ready = _ready(due, at, now, most)
        if not ready:
            clock.sleep(due[at][0] - now)
            continue
        serve([window for _, window in ready])
        done = clock.now() - start
        latencies += [done - when for when, _ in ready]
        at, batches = at + len(ready), batches + 1
    return Served(latencies=latencies, windows=len(due), batches=batches)


def _ready(due: Sequence[tuple[float, tuple[int, int]]], at: int, now: float, most: int) -> Sequence[tuple[float, tuple[int, int]]]:
    end = at
    while end < min(len(due), at + most) and due[end][0] <= now:
        end += 1
    return due[at:end]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least that share of them do not exceed; of none: 0."""
    return sorted(values)[ceil(share * len(values)) - 1] if values else 0.0
