"""What waits and does not move."""

from __future__ import annotations

from streamer.stages.stall import Stall, Stalls


def test_one_that_moves_does_not_hide_one_that_stands_still() -> None:
    stalls = Stalls()
    for second in range(10):
        found = stalls.look({"moves": second, "stands": 7}, float(second))
    assert found == Stall(what="stands", place=7, seconds=9.0)


def test_moving_on_starts_the_time_anew() -> None:
    stalls = Stalls()
    stalls.look({"lane": 1}, 0.0)
    assert stalls.look({"lane": 1}, 5.0) == Stall(what="lane", place=1, seconds=5.0)
    assert stalls.look({"lane": 2}, 6.0) == Stall(what="lane", place=2, seconds=0.0)


def test_no_longer_waiting_starts_the_time_anew() -> None:
    stalls = Stalls()
    stalls.look({"lane": 1}, 0.0)
    assert stalls.look({}, 5.0) is None
    assert stalls.look({"lane": 1}, 6.0) == Stall(what="lane", place=1, seconds=0.0)
