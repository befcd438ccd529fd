"""Hard cases, and what comes out of each: windows, revisions, late records, dead letters, flushes.

Each is read with a crash in the middle, and ends with the final manifests of the slow reference; `make bench NAME=cases` prints
the table.
"""

from __future__ import annotations

import time
from functools import partial

import pytest

from streamer.config import AlignSettings
from streamer.events import Clock, Modality
from streamer.stages.align import Aligner
from tests.bench.aligner import BATCH, Load
from tests.stages import align_cases
from tests.stages.align_cases import CASES, Outcome

SMALLER = {
    "an hour's backlog, a dead camera in it": partial(align_cases.backlog, 600),
    "10,000 sessions in one partition": partial(align_cases.many, 1_000),
}
"""The two that take seconds, in small; the benchmark plays them whole."""

WANTED = {  # windows, revisions, late, dead letters, times that all fell silent
    "a minute as it should be": (61, 0, 0, 0, 1),
    "shuffled within the horizon": (61, 273, 0, 0, 1),
    "every record three times": (61, 0, 0, 0, 1),
    "words ten minutes late": (721, 0, 15, 0, 1),
    "one modality falls silent": (61, 0, 0, 0, 1),
    "all silent, then again": (42, 0, 0, 0, 2),
    "a camera an hour behind": (61, 0, 60, 0, 1),
    "a camera an hour ahead": (61, 0, 0, 60, 1),
    "a camera back with buffered frames": (61, 46, 0, 0, 1),
    "an hour's backlog, a dead camera in it": (601, 0, 0, 0, 1),
    "old topics read again, one by one": (301, 451, 0, 0, 3),
    "10,000 sessions in one partition": (4_999, 0, 0, 0, 1_000),
}


@pytest.mark.parametrize("case", CASES)
def test_what_comes_out(case: str) -> None:
    outcome: Outcome = SMALLER.get(case, CASES[case])()
    assert outcome.as_it_should
    assert (outcome.windows, outcome.revisions, outcome.late, outcome.dead, outcome.idle) == WANTED[case]


def cost(sessions: int, records: int = 6_000) -> float:
    """Processor seconds to push, tick and checkpoint so many records, once every session is known."""
    load, settings = Load(sessions, rate=1.0), AlignSettings(max_held=100_000_000)
    aligner, spent, seen = Aligner(settings, {}), 0.0, 0
    events = list(load.records(max(2.0, (2 * sessions + 2 * records) / (1.5 * sessions))))
    for begin in range(0, len(events), BATCH):
        batch = events[begin : begin + BATCH]
        started = time.thread_time()
        for event in batch:
            aligner.push(event, event.arrival)
        aligner.tick({modality: Clock(arrival=batch[-1].arrival) for modality in Modality}, batch[-1].arrival)
        for modality in Modality:
            aligner.low_water(modality, 1 << 40)
        if begin >= len(events) - records:
            spent, seen = spent + time.thread_time() - started, seen + len(batch)
    return spent / seen


def test_a_record_costs_about_the_same_with_a_hundred_times_the_sessions() -> None:
    few, many = min(cost(100) for _ in range(2)), min(cost(10_000) for _ in range(2))
    assert many < 4 * few  # 1.5; where each sweep and checkpoint looked at every session it was 6.5
