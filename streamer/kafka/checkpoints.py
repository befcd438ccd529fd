"""Checkpoint records: small, versioned, in the compacted topic `checkpoints`, at the partition they speak of.

One owner (a stage) keeps one record per partition, under the name "", and may keep others beside it (one per session,
say). The embedded broker does not compact, so whoever reads folds by key. Reading costs about 10 us per record left in
the partition: thousands on a broker that compacts, two a second and owner of uptime on one that does not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from streamer.errors import ConfigError
from streamer.events import Message, Micros, Record

TOPIC = "checkpoints"
VERSION = 1


class Place(msgspec.Struct, frozen=True):
    """One input: the first offset not yet done with, and the arrival clock before it (microseconds)."""

    offset: int
    clock: Micros


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One partition of one stage: topic -> place for inputs, topic -> offset to read back from for outputs."""

    version: int = VERSION
    inputs: dict[str, Place]
    outputs: dict[str, int] = {}


def encode(checkpoint: Checkpoint) -> bytes:
    """As small JSON."""
    return msgspec.json.encode(checkpoint)


def decode(value: bytes) -> Checkpoint:
    """Raises ConfigError where a version or a program we do not know wrote it."""
    try:
        found = msgspec.json.decode(value, type=Checkpoint)
    except msgspec.MsgspecError as exc:
        raise ConfigError(f"a record in {TOPIC} is not a checkpoint: {exc}") from exc
    if found.version != VERSION:
        raise ConfigError(f"a record in {TOPIC} has version {found.version}, this program reads version {VERSION}")
    return found


def message(owner: str, partition: int, value: bytes | None, *, name: str = "") -> Message:
    """The record that replaces what `owner` kept under `name`; value None deletes it."""
    return Message(topic=TOPIC, key=f"{owner}/{name}".encode(), value=value, partition=partition)


async def fold(owner: str, log: AsyncIterator[Record]) -> dict[str, bytes]:
    """What stands for `owner` at the log's end: name -> value."""
    prefix, found = f"{owner}/".encode(), dict[str, bytes]()
    async for record in log:
        if not record.key or not record.key.startswith(prefix):
            continue
        name = record.key.removeprefix(prefix).decode("utf-8", "replace")
        if record.value is None:
            found.pop(name, None)
        else:
            found[name] = record.value
    return found
