"""`make bench NAME=aligner`: what the pure aligner costs, and holds, by number of sessions. All of them in one partition: the worst case.

Two loads: `same rate` (the same records a second in all, shared by more and more sessions) and `same place` (each session says
the same: 2 frames and a chunk of sound a second). Processor time only; the broker, the codecs and Faust are measured by `align`.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from streamer.config import AlignSettings
from streamer.events import SECOND, Clock, Event, Micros, Modality, Origin, SessionId, SessionMark, Track, Window
from streamer.stages.align import Aligner, Output
from tests.bench.report import report, table

NOON = 1_700_000_000 * SECOND
SIZES = (10, 100, 1_000, 10_000)
BATCH = 500
"""Records between two ticks."""


@dataclass(slots=True)
class Load:
    """Sessions that all carry one camera (`rate` frames a second) and one microphone (`rate` / 2 chunks), interleaved as on a broker."""

    sessions: int
    rate: float = 2.0
    offsets: dict[Modality, int] = field(default_factory=lambda: dict.fromkeys(Modality, 0))

    def records(self, seconds: float, begin: float = 0) -> Iterator[Event]:
        """What comes to be in that stretch, in the order of arrival."""
        period = round(SECOND / self.rate)
        first, last = round(begin * self.rate), round((begin + seconds) * self.rate)
        for number in range(first, last):
            for session in range(self.sessions):
                at = NOON + number * period + session * period // self.sessions
                yield self._event(session, Modality.FRAMES, at, at)
                if number % 2:
                    yield self._event(session, Modality.AUDIO, at - 2 * period, at)

    def _event(self, session: int, modality: Modality, start: int, end: int) -> Event:
        offset = self.offsets[modality]
        self.offsets[modality] += 1
        return Event(
            track=Track(session=SessionId(f"place-{session}"), modality=modality, source="cam" if modality is Modality.FRAMES else "mic"),
            id=f"t{end}",
            start=Micros(start),
            end=Micros(end),
            arrival=Micros(end),
            origin=Origin(topic=modality.value, partition=0, offset=offset),
        )


@dataclass(slots=True)
class Cost:
    """Processor seconds by what they went into, and how often."""

    push: float = 0.0
    tick: float = 0.0
    written: float = 0.0
    checkpoint: float = 0.0
    gauge: float = 0.0
    longest_tick: float = 0.0
    records: int = 0
    ticks: int = 0
    checkpoints: int = 0
    windows: int = 0
    log: list[tuple[int, Window | SessionMark]] = field(default_factory=list)


def run(aligner: Aligner, records: list[Event], cost: Cost, *, every: int = 8, lagging: bool = False) -> None:
    """Push, tick after each batch, write, and checkpoint after `every` batches. `lagging`: `transcripts` is an hour behind."""
    clock = time.process_time
    for begin in range(0, len(records), BATCH):
        batch = records[begin : begin + BATCH]
        started = clock()
        for event in batch:
            aligner.push(event, event.arrival)
        pushed = clock()
        now = batch[-1].arrival
        clocks = {m: Clock(arrival=now, caught_up=False) for m in Modality}
        if lagging:
            clocks[Modality.TRANSCRIPTS] = Clock(arrival=Micros(now - 3_600 * SECOND))
        outputs: list[Output] = aligner.tick(clocks, now)
        ticked = clock()
        for output in outputs:
            assert isinstance(output, Window | SessionMark)
            cost.log.append((len(cost.log), output))
            aligner.written(output, len(cost.log) - 1)
        wrote = clock()
        cost.push += pushed - started
        cost.tick += ticked - pushed
        cost.longest_tick = max(cost.longest_tick, ticked - pushed)
        cost.written += wrote - ticked
        cost.records += len(batch)
        cost.ticks += 1
        cost.windows += len(outputs)
        if cost.ticks % every == 0:
            started = clock()
            for modality in Modality:
                aligner.low_water(modality, 1 << 40)
            aligner.oldest_out()
            cost.checkpoint += clock() - started
            cost.checkpoints += 1


def measure(sessions: int, rate: float, *, lagging: bool = False, measured: int = 30_000) -> dict[str, Any]:
    """One row: a few seconds of every session first, then `measured` records."""
    load = Load(sessions, rate)
    settings = AlignSettings(idle="30s", max_events=10_000_000, max_held=100_000_000)
    aligner, warm = Aligner(settings, {}), max(4.0, 8 / rate)
    run(aligner, list(load.records(warm)), Cost(), lagging=lagging)
    cost, per_second = Cost(), sessions * rate * 1.5
    run(aligner, list(load.records(max(measured / per_second, 2 / rate), warm)), cost, lagging=lagging)
    started = time.process_time()
    aligner.delays()
    cost.gauge = time.process_time() - started
    return {
        "sessions": sessions,
        "records": cost.records,
        "windows": cost.windows,
        "push us/record": cost.push / cost.records * 1e6,
        "all us/record": (cost.push + cost.tick + cost.written + cost.checkpoint) / cost.records * 1e6,
        "ms/tick": cost.tick / cost.ticks * 1e3,
        "longest ms": cost.longest_tick * 1e3,
        "ms/checkpoint": cost.checkpoint / max(cost.checkpoints, 1) * 1e3,
        "ms/gauge": cost.gauge * 1e3,
    }


def held(sessions: int, seconds: float = 150) -> dict[str, Any]:
    """Bytes held per session at the default horizon, and how long a restart takes to take over what stands in `windows`."""
    load, settings = Load(sessions), AlignSettings(max_events=10_000_000)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    aligner = Aligner(settings, {})
    second = 0.0
    while second < seconds:
        run(aligner, list(load.records(2, second)), Cost())
        second += 2
    size = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return {"sessions": sessions, "held references": aligner.tally.held_events, "KiB/session": size / sessions / 1024}


def restart(sessions: int, seconds: float = 125) -> dict[str, Any]:
    """Processor time to restore from everything that a horizon of windows says."""
    load, cost = Load(sessions), Cost()
    settings = AlignSettings(max_events=10_000_000)
    run(Aligner(settings, {}), list(load.records(seconds)), cost)
    again, started = Aligner(settings, {}), time.process_time()
    again.restore(cost.log, {})
    took = time.process_time() - started
    return {"sessions": sessions, "windows": len(cost.log), "restore s": took, "us/window": took / len(cost.log) * 1e6}


def main() -> None:
    """All tables, then the record: cost per record at 10,000 sessions against 100 at the same load per session."""
    same_place = [measure(sessions, 2.0) for sessions in SIZES]
    same_rate = [measure(sessions, 4_000 / sessions) for sessions in SIZES]
    lag = [measure(sessions, 2.0, lagging=True) for sessions in SIZES]
    memory, restarts = [held(sessions) for sessions in (10, 100)], [restart(sessions) for sessions in (10, 100)]
    for title, rows in (
        ("the same load per session", same_place),
        ("the same total rate", same_rate),
        ("the same load per session, one topic an hour behind", lag),
        ("memory at the default horizon", memory),
        ("restart", restarts),
    ):
        print(f"\n{title}\n{table(rows)}")
    cost = {row["sessions"]: row["all us/record"] for row in same_place}
    tables = {"same_place": same_place, "same_rate": same_rate, "lagging": lag, "memory": memory, "restart": restarts}
    report("aligner", cost[10_000], "CPU us/record", cost[100], cost[100] / cost[10_000], **tables)


if __name__ == "__main__":
    main()
