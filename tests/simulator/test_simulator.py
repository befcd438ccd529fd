"""Some hundred schedules with every test run; `make bench NAME=schedules` plays tens of thousands."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from tests.simulator.schedule import generate
from tests.simulator.shrink import shrink, story, verdict

SEEDS = 400
AT_ONCE = 50


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_no_schedule_breaks_a_law(first: int) -> None:
    with capture_logs():
        for seed in range(first, first + AT_ONCE):
            schedule = generate(seed)
            found, _ = verdict(schedule)
            assert not found, story(shrink(schedule))


def test_a_seed_gives_the_same_schedule_and_the_same_logs() -> None:
    with capture_logs():
        first, second = (verdict(generate(11))[1] for _ in range(2))
    assert first.schedule == second.schedule
    assert first.broker.logs == second.broker.logs


def test_schedules_hold_all_that_can_happen() -> None:
    with capture_logs():
        worlds = [verdict(generate(seed))[1] for seed in range(60)]
    count = sum((world.count for world in worlds), start=worlds[0].count.__class__())
    wanted = ("append", "wait", "read", "save", "crash", "rebalance", "notice", "retain", "zombie steps", "zombie writes")
    assert all(count[name] > 3 for name in wanted), count
    assert all(any(world.broker.everything(topic) for world in worlds) for topic in ("late", "deadletter", "alerts"))
    assert {world.schedule.settings.max_events for world in worlds} > {5}
