"""The seam to the world outside: one method. And its fake, which ships with the code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from streamer.errors import Transient
from streamer.events import Alert


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One revision of an alert, and the JSON that stands in the topic."""

    alert: Alert
    body: bytes

    @property
    def key(self) -> str:
        """The idempotency key: whoever keys by it sees each revision once."""
        return f"{self.alert.id}.{self.alert.revision}"


class Later(Transient):
    """The receiver cannot take it now. `after`: the seconds it asked for, if it did."""

    def __init__(self, message: str, *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Sink(Protocol):
    """Where alerts go."""

    async def send(self, delivery: Delivery) -> None:
        """Return once the receiver has said yes. Raises Transient: try again; BadRecord: it will never take this one."""


@dataclass(slots=True)
class MemorySink:
    """Keeps what it is given; `failures` are raised first, one for each attempt."""

    failures: list[Exception] = field(default_factory=list)
    taken: list[Delivery] = field(default_factory=list)

    async def send(self, delivery: Delivery) -> None:
        """Take it, unless a failure is due."""
        if self.failures:
            raise self.failures.pop(0)
        self.taken.append(delivery)
