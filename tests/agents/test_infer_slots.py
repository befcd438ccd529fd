"""How much decoded media may wait: by number, by size, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from streamer.agents.infer_slots import Slots


class Room:
    """Takes slots by name; `inside` names them in the order in which they were let in."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.inside = list[str]()
        self._tasks = dict[str, tuple[asyncio.Task[None], asyncio.Event]]()

    async def come(self, name: str, size: int, *, urgent: bool = False) -> None:
        leave = asyncio.Event()

        async def stay() -> None:
            async with self.slots.take(size, urgent=urgent):
                self.inside.append(name)
                await leave.wait()

        self._tasks[name] = asyncio.create_task(stay()), leave
        await self.settle()

    async def leave(self, name: str) -> None:
        self._tasks[name][1].set()
        await self.settle()

    async def give_up(self, name: str) -> None:
        self._tasks[name][0].cancel()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


@asynccontextmanager
async def room(count: int = 10, size: int = 100) -> AsyncIterator[Room]:
    one = Room(Slots(count=count, size=size))
    yield one
    for name in list(one._tasks):
        await one.give_up(name)
    assert (one.slots.taken, one.slots.held) == (0, 0)


async def test_no_more_are_in_than_their_number_allows() -> None:
    async with room(count=2) as one:
        for name in "abc":
            await one.come(name, 0)
        assert one.inside == ["a", "b"]
        await one.leave("a")
        assert one.inside == ["a", "b", "c"]


async def test_no_more_are_in_than_their_size_allows_and_small_ones_do_not_overtake() -> None:
    async with room(size=100) as one:
        await one.come("a", 60)
        await one.come("large", 50)
        await one.come("small", 10)
        assert one.inside == ["a"]
        await one.leave("a")
        assert one.inside == ["a", "large", "small"]
        assert one.slots.held == 60


async def test_one_that_is_larger_than_all_is_let_in_alone() -> None:
    async with room(size=100) as one:
        await one.come("a", 1)
        await one.come("huge", 1_000)
        await one.come("b", 1)
        assert one.inside == ["a"]
        await one.leave("a")
        assert one.inside == ["a", "huge"]
        await one.leave("huge")
        assert one.inside == ["a", "huge", "b"]


async def test_what_is_urgent_goes_first() -> None:
    async with room(count=1) as one:
        await one.come("a", 0)
        for name in "bc":
            await one.come(name, 0)
        for name in "xy":
            await one.come(name, 0, urgent=True)
        for name in "axyb":
            await one.leave(name)
        assert one.inside == ["a", "x", "y", "b", "c"]


@pytest.mark.parametrize("name", ["inside", "waiting"])
async def test_one_that_gives_up_leaves_its_place_to_the_next(name: str) -> None:
    async with room(size=100) as one:
        await one.come("inside", 80)
        await one.come("waiting", 90)
        await one.come("next", 20)
        await one.give_up(name)
        assert one.inside == (["inside", "waiting"] if name == "inside" else ["inside", "next"])


async def test_one_that_gives_up_in_its_own_turn_gives_its_place_back() -> None:
    async with room(count=1) as one:
        await one.come("a", 0)
        await one.come("b", 0)
        one._tasks["a"][1].set()
        while one.slots._others:  # b is let in then, and does not know it yet
            await asyncio.sleep(0)
        await one.give_up("b")
        await one.come("c", 0)
        assert one.inside[-1] == "c"
