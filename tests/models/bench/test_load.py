"""An open loop against a made-up clock: what waits, what is served together, what is left."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from models.bench.crowd import MOST, Crowd, crowded
from models.bench.fast import Plan
from models.bench.load import Clock, Served, load_of, offered, percentile


class Time:
    """A clock that moves when something sleeps or is served."""

    def __init__(self) -> None:
        self.now = 100.0
        self.served: list[list[tuple[int, int]]] = []

    def serve(self, windows: Sequence[tuple[int, int]], each: float, fixed: float = 0.0) -> None:
        self.served.append(list(windows))
        self.now += fixed + each * len(windows)

    def clock(self) -> Clock:
        return Clock(now=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += max(seconds, 1e-6)  # so little that it could vanish in a sum would stop the clock


def test_with_little_load_each_window_waits_for_itself_alone() -> None:
    time = Time()
    found = offered(lambda due: time.serve(due, 0.01), 10, 3, most=16, clock=time.clock())
    assert (found.windows, found.behind, found.batch) == (30, 0, 1.0)
    assert found.p50 == pytest.approx(0.01, abs=1e-5) and found.p99 == pytest.approx(0.01, abs=1e-5)
    assert found.held


def test_what_came_while_another_was_served_is_served_together_and_its_waiting_counts() -> None:
    time = Time()
    found = offered(lambda due: time.serve(due, 0.0, fixed=0.3), 10, 2, most=16, clock=time.clock())
    assert found.batch > 2 and not found.behind
    assert 0.3 < found.p99 <= 0.6 + 1e-9


def test_more_than_can_be_served_is_behind_and_not_held() -> None:
    time = Time()
    found = offered(lambda due: time.serve(due, 0.5), 10, 2, most=4, clock=time.clock())
    assert found.behind > 0 and not found.held
    assert max(map(len, time.served)) == 4
    assert time.now - 100.0 <= 2 * 2 + 4 * 0.5


def test_a_session_s_windows_come_in_their_order_and_each_once() -> None:
    time = Time()
    offered(lambda due: time.serve(due, 0.02), 7, 3, most=5, clock=time.clock())
    served = [window for batch in time.served for window in batch]
    assert sorted(served) == sorted({(session, hop) for session in range(7) for hop in range(3)})
    assert all([hop for one, hop in served if one == session] == [0, 1, 2] for session in range(7))


@pytest.mark.parametrize(("share", "wanted"), [(0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)])
def test_a_percentile_is_one_of_the_values(share: float, wanted: int) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], share) == wanted
    assert percentile([], share) == 0.0


def test_processes_that_share_the_sessions_are_told_as_one() -> None:
    fast, slow = Served(latencies=[0.1] * 4, windows=4, batches=2), Served(latencies=[0.9] * 2, windows=6, batches=1)
    found = load_of([fast, slow], sessions=5, seconds=2)
    assert (found.sessions, found.workers, found.windows, found.behind, found.batch) == (5, 2, 10, 4, 2.0)
    assert (found.p50, found.p99) == (0.1, 0.9) and not found.held


def test_two_processes_serve_every_session_that_is_offered() -> None:
    (found,) = crowded(Plan(sizes=(1, 2)), 2, [3], 1)
    assert (found.sessions, found.workers, found.windows, found.behind) == (3, 2, 3, 0)
    assert 0 < found.p50 <= found.p99


def test_a_process_that_cannot_be_built_is_said_and_nobody_waits() -> None:
    with pytest.raises(RuntimeError, match="a worker of the benchmark ended"):
        crowded(Plan(device="nowhere", sizes=(1,)), 1, [1], 1)


def test_where_only_larger_batches_were_asked_for_a_process_among_many_has_its_largest() -> None:
    assert Crowd(Plan(sizes=(128, 256)), 2)._plan.sizes == (MOST,)
