"""What a source hands over, and what it asks of the state that it feeds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from streamer.events import Clock, Micros, Record

START = Micros(0)
"""An arrival clock before anything was read."""

ReadLog = Callable[[str, int], AsyncIterator[Record]]
"""(topic, first offset) -> that partition's records up to its present end. What retention took is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Records of some partitions, each number's in arrival order and each partition's in its own. Without any it is a tick: time passed.

    `clocks` maps (topic, partition) to how far each assigned partition has been read after this batch;
    `now` is the wall clock, which counts for partitions that are caught up.
    """

    records: tuple[Record, ...]
    clocks: Mapping[tuple[str, int], Clock]
    now: Micros


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """Where to read one input partition from, and its arrival clock *before* that offset (0: nothing was read yet).

    `offset` None means the start of the log.
    """

    offset: int | None = None
    clock: Micros = START


Deliver = Callable[[Batch], Awaitable[None]]
"""How a batch reaches the work: `Stateful.handle` itself, or a Faust agent (`streamer.agents.host`)."""


class Stateful(Protocol):
    """What a source feeds: one object per process that holds the state of the partitions it was given."""

    async def restore(self, partition: int, saved: Mapping[str, bytes], read: ReadLog) -> Mapping[str, Position]:
        """Rebuild one partition's state. `saved`: this owner's checkpoint records, folded by name.

        What `checkpoint` returned stands under the name ""; other names are records that the owner wrote itself
        (`streamer.kafka.checkpoints.message`). Returns input topic -> where to read from; a topic that is missing is
        read from the start of the log.
        """

    async def handle(self, batch: Batch) -> None:
        """Do the work of one batch. When it returns, every output is acknowledged.

        Transient: the same batch comes again (so the work must bear repetition). Anything else ends the process.
        """

    async def checkpoint(self, partition: int, positions: Mapping[str, int]) -> bytes:
        """This partition's checkpoint as it stands now. Raises Transient.

        `positions`: input topic -> next offset to be read; and of the source's `outputs`, where each one ends now: an end
        beyond our own last write means that another wrote.
        """

    async def gap(self, topic: str, partition: int, wanted: int, found: int) -> None:
        """Retention has overtaken the checkpoint: records [wanted, found) are gone. Comes after `restore`."""

    def drop(self) -> None:
        """Forget everything: the partitions are somebody else's now."""
