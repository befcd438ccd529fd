"""How much decoded media infer holds at a time: so many events, and so many bytes. What is urgent goes first."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

Waiter = tuple[int, asyncio.Future[None]]


class Slots:
    """Laws:

    1. At most `count` are taken, and at most `size` bytes together; one that is larger than that has it all to itself.
    2. What is urgent is let in before all that is not; among equals, who came first. A large one is not overtaken by small ones.
    """

    def __init__(self, *, count: int, size: int) -> None:
        self._count, self._size = count, size
        self._urgent, self._others = deque[Waiter](), deque[Waiter]()
        self.taken = 0
        self.held = 0

    @asynccontextmanager
    async def take(self, size: int, *, urgent: bool = False) -> AsyncIterator[None]:
        """Wait for a place of `size` bytes, and keep it inside of the `with`."""
        turn = asyncio.get_running_loop().create_future()
        (self._urgent if urgent else self._others).append((size, turn))
        self._let_in()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():  # else it was cancelled before its turn
                self.taken -= 1
                self.held -= size
            self._let_in()

    def _let_in(self) -> None:
        while queue := self._urgent or self._others:
            size, turn = queue[0]
            if not turn.cancelled():
                if self.taken == self._count or (self.held and self.held + size > self._size):
                    return
                self.taken += 1
                self.held += size
                turn.set_result(None)
            queue.popleft()
