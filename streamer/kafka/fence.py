"""The fence: a process that stood still drops what it holds and joins its group again before it does anything else.

Another worker may have its partitions by then, and the group would tell it too late: only its own clock can. Whom the group gives
up again and again though it never stood still shares its lasting name with another.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError, KafkaError

from streamer.config import KafkaSettings
from streamer.errors import Transient
from streamer.events import SECOND

GIVEN_UP, WITHIN = 4, 180.0  # times, seconds: a group that is well does not give a worker up so often


class Fence:
    """`up`: nothing of what is held may be written. `beat`: when the clock was last looked at (monotonic seconds)."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._limit = settings.session_timeout / SECOND / 2
        self._instance, self._address = settings.instance, settings.bootstrap
        self._given_up = deque[float](maxlen=GIVEN_UP)
        self._expelled = False
        self._new = True  # not known to the group, and right so
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
        self.up, self._new = False, self._expelled
        coordinator: Any = consumer._coordinator  # aiokafka has no public way to join again
        (coordinator.reset_generation if self._expelled else coordinator.request_rejoin)()

    def revoked(self, consumer: AIOKafkaConsumer) -> None:
        """Note it where the group took our partitions because it knows us no more."""
        coordinator: Any = consumer._coordinator
        if not coordinator.member_id and not self._new:
            self._given_up.append(time.monotonic())
        self._new = False

    def check_name(self) -> None:
        """Two workers of one lasting name drive each other out, and neither gets to work: whoever notices ends and says so.

        The other one mostly notices too; who is started again alone works. Raises Transient.
        """
        often = len(self._given_up) == GIVEN_UP and self._given_up[-1] - self._given_up[0] < WITHIN
        if self._instance and often:
            raise Transient(f"the group gave this worker up {GIVEN_UP} times within {WITHIN:.0f} s: {self._namesake}")

    def refused(self, exc: KafkaError) -> Transient:
        """What it means that joining failed."""
        known = not self._instance or isinstance(exc, KafkaConnectionError)
        return Transient(f"no broker at {self._address}: {exc}" if known else f"the group refused this worker: {exc}: {self._namesake}")

    @property
    def _namesake(self) -> str:
        return f"does another run as kafka.instance {self._instance}? Each needs a name of its own (`streamer role NAME --instance`)"
