"""What waits and does not move, and for how long.

Laws:
1. Each thing has a time of its own: one that moves never hides one that does not.
2. Time runs while a thing waits at the same place; moving on, or no longer waiting, starts it anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """What has waited longest, where it stands, and for how many seconds."""

    what: str
    place: int
    seconds: float


class Stalls:
    """See the laws above."""

    def __init__(self) -> None:
        self._since = dict[str, tuple[int, float]]()

    def look(self, waiting: Mapping[str, int], now: float) -> Stall | None:
        """`waiting`: what waits now -> the place where it stands; `now`: seconds of any clock that does not go back."""
        before = self._since
        self._since = {what: before[what] if before.get(what, (None,))[0] == place else (place, now) for what, place in waiting.items()}
        found = [Stall(what=what, place=place, seconds=now - since) for what, (place, since) in self._since.items()]
        return max(found, key=lambda stall: stall.seconds, default=None)
