"""From blocking sources to the event loop. The seam is `Source`: one method, run in a thread of its own.

Laws of `Feed`
1. Items keep their order.
2. No more than `limit` bytes wait (one item more, if it is larger than that).
3. When it is full a lossless feed makes its source wait; a lossy one drops its oldest media, counted, never a mark.
4. What the source raises reaches the reader after everything that came before.
5. `close` returns at once: a thread that hangs in a dead camera is left behind (it is a daemon).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from streamer.events import SECOND, Message, Micros
from streamer.stages.ingest import Moment, Picture, Take, due


@dataclass(frozen=True, slots=True, kw_only=True)
class Up:
    """The source delivers from now on; `again` after it had delivered before."""

    again: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Down:
    """The source does not deliver for now. `why` holds no credentials."""

    why: str


class Fault(StrEnum):
    """What can be wrong with a source's media while it goes on: a closed set, because it is a metric label."""

    CLOCK = "clock"
    TOO_LARGE = "too_large"
    UNENCODABLE = "unencodable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """Something was wrong, and the source goes on. `why` holds no credentials."""

    fault: Fault
    why: str


State = Up | Down | Odd


class Source(Protocol):
    """A camera, microphone or file. Blocking: a `Feed` reads it in a thread."""

    def check(self) -> None:
        """Raises ConfigError where it cannot work as configured, before anything starts."""

    def read(self, stop: threading.Event) -> Iterator[Take | State]:
        """In event-time order per modality, until its end or until `stop` is set; a live source reconnects by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What a feed hands on: a message to write, or what becomes of the source."""

    message: Message | None = None
    state: State | None = None

    @property
    def size(self) -> int:
        """Bytes that wait; marks and states weigh nothing."""
        return len(self.message.value or b"") if self.message else 0


def wall() -> Micros:
    """Now."""
    return Micros(time.time_ns() // 1_000)


def moment() -> Moment:
    """Now, on both of our clocks."""
    return Moment(wall=wall(), steady=Micros(time.monotonic_ns() // 1_000))


def paced(takes: Iterable[Take], stop: threading.Event) -> Iterator[Take]:
    """Each take once the clock has reached it; ends early when `stop` is set."""
    for take in takes:
        if (wait := due(take) - wall()) > 0 and stop.wait(wait / SECOND):
            return
        yield take


def order(take: Take) -> tuple[Micros, bool]:
    """Event-time order of a source's takes; at the same moment sound goes before the picture."""
    return due(take), isinstance(take, Picture)


class Feed:
    """Runs `items(stop)` in a daemon thread; `batch` is the loop's side."""

    def __init__(self, items: Callable[[threading.Event], Iterator[Item]], *, limit: int, lossy: bool, name: str) -> None:
        self.dropped = 0
        self._items, self._limit, self._lossy = items, limit, lossy
        self._queue: deque[Item] = deque()
        self._held = 0
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._ended = False
        self._error: Exception | None = None
        self._ready = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def close(self) -> None:
        """Stop reading; what waits can still be taken."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()

    async def batch(self, most: int) -> list[Item]:
        """What waits, up to about `most` bytes; waits for at least one item. Empty at the end. Raises what the source raised."""
        while True:
            self._ready.clear()
            ended = self._ended  # looked at first: what came before the end is in the queue by then
            if taken := self._take(most):
                return taken
            if ended:
                if self._error:
                    raise self._error
                return []
            await self._ready.wait()

    def _take(self, most: int) -> list[Item]:
        taken: list[Item] = []
        with self._changed:
            while self._queue and most > 0:
                item = self._queue.popleft()
                taken.append(item)
                most -= item.size
                self._held -= item.size
            self._changed.notify_all()
        return taken

    def _work(self) -> None:
        try:
            for item in self._items(self._stop):
                self._put(item)
                if self._stop.is_set():
                    break
        except Exception as exc:  # it belongs to the reader (law 4)
            self._error = exc
        finally:
            self._ended = True
            self._wake()

    def _put(self, item: Item) -> None:
        with self._changed:
            if self._lossy:
                self._drop(item.size)
            else:
                self._changed.wait_for(lambda: self._stop.is_set() or not self._held or self._held + item.size <= self._limit)
            self._queue.append(item)
            self._held += item.size
        self._wake()

    def _drop(self, room: int) -> None:
        while self._held and self._held + room > self._limit:
            oldest = next(item for item in self._queue if item.size)
            self._queue.remove(oldest)
            self._held -= oldest.size
            self.dropped += 1

    def _wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._ready.set)
