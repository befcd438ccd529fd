"""Fetched batches that no record can break.

aiokafka decodes header names as UTF-8. One that is not raises out of the fetch, again and again: whoever may write to a topic
could stop all its readers. Here such a record, and with it what is left of its batch (which cannot be parsed past it, and has
the same writer), comes out as records without key and value, with the header `UNREADABLE` that says why: for the stage to
dead-letter like any other. Nothing in aiokafka's public API can do that, so its class of fetched records is extended.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.structs import ConsumerRecord

from streamer.stages.headers import UNREADABLE

Raw = ConsumerRecord[bytes, bytes]


class Batch:
    """aiokafka's batch of records; iterating it never raises UnicodeDecodeError."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        offset = self._batch.base_offset
        try:
            for record in self._batch:
                yield record
                offset = record.offset + 1
        except UnicodeDecodeError as exc:
            why = (UNREADABLE, f"a header's name is not UTF-8: {bytes(exc.object)[:40]!r}".encode())
            for lost in range(offset, self._batch.next_offset):
                yield SimpleNamespace(
                    offset=lost,
                    key=None,
                    value=None,
                    headers=[why],
                    timestamp=self._batch.max_timestamp,
                    timestamp_type=self._batch.timestamp_type,
                    checksum=None,
                )


class Batches:
    """aiokafka's fetched batches, each one wrapped."""

    def __init__(self, records: Any) -> None:
        self._records = records

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def next_batch(self) -> Batch:
        """The next one."""
        return Batch(self._records.next_batch())


class ReadableRecords(fetcher.PartitionRecords):
    """What a fetch brought of one partition."""

    def __init__(self, tp: Any, records: Any, *more: Any) -> None:
        super().__init__(tp, Batches(records), *more)  # type: ignore[no-untyped-call]


def make_readable() -> None:
    """From now on consumers of this process read so. May be called again."""
    fetcher.PartitionRecords = ReadableRecords  # type: ignore[misc]
