"""The fence: a process that stood still drops what it holds and joins its group again before it does anything else.

Another worker may have its partitions by then, and the group would tell it too late: only its own clock can.
"""

from __future__ import annotations

import time
from typing import Any

from aiokafka import AIOKafkaConsumer

from streamer.events import SECOND, Micros


class Fence:
    """`up`: nothing of what is held may be written. `beat`: when the clock was last looked at (monotonic seconds)."""

    def __init__(self, session_timeout: Micros) -> None:
        self._limit = session_timeout / SECOND / 2
        self._expelled = False
        self.up = False
        self.beat = time.monotonic()

    def look(self, *, working: bool) -> float | None:
        """Ask often. The seconds that a process at work stood still, if longer than half the session timeout; the fence is up then."""
        now = time.monotonic()
        still, self.beat = now - self.beat, now
        if not working or still <= self._limit:
            return None
        self.raise_(expelled=still > 2 * self._limit)
        return still

    def raise_(self, *, expelled: bool = False) -> None:
        """Start over. `expelled`: the group has given us up already."""
        self.up, self._expelled = True, expelled

    def join_again(self, consumer: AIOKafkaConsumer) -> None:
        """What was held is dropped: ask the group for partitions, as a new member where it has given us up."""
        self.up = False
        coordinator: Any = consumer._coordinator  # aiokafka has no public way to join again
        (coordinator.reset_generation if self._expelled else coordinator.request_rejoin)()
