"""Fetched batches that no record can break and whose checksums cost little.

aiokafka decodes header names as UTF-8. One that is not raises out of the fetch, again and again: whoever may write to a topic
could stop all its readers. Here such a record, and with it what is left of its batch (which cannot be parsed past it, and has
the same writer), comes out as records without key and value, with the header `UNREADABLE` that says why: for the stage to
dead-letter like any other.

aiokafka computes a batch's CRC-32C in a table-driven loop, a fifth of all that fetching frames costs. The processor has an
instruction for it.

Nothing in aiokafka's public API can do either, so its class of fetched batches is wrapped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import google_crc32c
from aiokafka.consumer import fetcher
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import ConsumerRecord

from streamer.stages.headers import UNREADABLE

Raw = ConsumerRecord[bytes, bytes]

HEAD = struct.Struct(">qiiBI")
"""A record batch's first bytes: base offset, length of what follows it, leader epoch, format, checksum of what follows that."""
LENGTH_COUNTS_FROM, FORMAT_WITH_CRC32C = 12, 2
IN_HARDWARE = google_crc32c.implementation == "c"


class Batch:
    """aiokafka's batch of records, which `data` begins with at `start`; iterating it never raises UnicodeDecodeError."""

    def __init__(self, batch: Any, data: bytes, start: int) -> None:
        self._batch, self._data, self._start = batch, data, start

    def validate_crc(self) -> bool:
        """Whether the batch is as it was written."""
        _, length, _, kind, wanted = HEAD.unpack_from(self._data, self._start)
        if not IN_HARDWARE or kind != FORMAT_WITH_CRC32C:
            return bool(self._batch.validate_crc())
        end = self._start + LENGTH_COUNTS_FROM + length
        return bool(google_crc32c.value(self._data[self._start + HEAD.size : end]) == wanted)

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
    """What a fetch brought of one partition, each batch wrapped."""

    def __init__(self, data: bytes) -> None:
        self._records, self._data, self._at = MemoryRecords(data), data, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def next_batch(self) -> Batch:
        """The next one; only where `has_next`."""
        start = self._at
        batch = Batch(self._records.next_batch(), self._data, start)
        self._at += LENGTH_COUNTS_FROM + HEAD.unpack_from(self._data, start)[1]
        return batch


def make_readable() -> None:
    """From now on consumers of this process read so. May be called again."""
    fetcher.MemoryRecords = Batches  # type: ignore[assignment, attr-defined]
