"""Batches across sessions: events of one modality wait together until they are enough, or have waited long enough.

Laws:
1. Every item comes out once, in a batch of its own key, in the order in which it went in.
2. A batch has at most `size` items. It is full, or its oldest item has waited `wait`.
3. The batch whose oldest item has waited longest comes first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from streamer.events import Micros

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batched(Generic[Key, Item]):
    """Items of one key that go through the encoder together."""

    key: Key
    items: tuple[Item, ...]


class Batcher(Generic[Key, Item]):
    """See the laws above. `now` is any clock that does not go back, in microseconds."""

    def __init__(self, *, size: int, wait: Micros) -> None:
        self._size, self._wait = size, wait
        self._queues: dict[Key, deque[tuple[Micros, Item]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def add(self, key: Key, item: Item, *, now: Micros) -> None:
        """One more item."""
        self._queues.setdefault(key, deque()).append((now, item))

    def take(self, now: Micros) -> Batched[Key, Item] | None:
        """The batch that is full or due and has waited longest."""
        ready = [(queue[0][0], key) for key, queue in self._queues.items() if queue and self._goes(queue, now)]
        if not ready:
            return None
        key = min(ready, key=_since)[1]
        queue = self._queues[key]
        return Batched(key=key, items=tuple(queue.popleft()[1] for _ in range(min(self._size, len(queue)))))

    def next_due(self) -> Micros | None:
        """When `take` will have something even if nothing is added; None while empty. May be past."""
        waits = [queue[0][0] + (0 if len(queue) >= self._size else self._wait) for queue in self._queues.values() if queue]
        return Micros(min(waits)) if waits else None

    def _goes(self, queue: deque[tuple[Micros, Item]], now: Micros) -> bool:
        return len(queue) >= self._size or now - queue[0][0] >= self._wait


def _since(entry: tuple[Micros, object]) -> Micros:
    return entry[0]
