"""Ids are derived, not drawn: a replay gives the same ones. Also the partition that a key belongs to."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

from streamer.events import Micros, SessionId

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")


def _digest(*parts: object) -> str:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:24]


def event_id(start: Micros) -> str:
    """An event's id within its track: its capture time in microseconds."""
    return f"t{start}" if start >= 0 else f"n{-start}"


def window_id(session: SessionId, start: Micros, end: Micros) -> str:
    """One stretch of one session."""
    return "w" + _digest("window", session, start, end)


def alert_id(rule: str, session: SessionId, start: Micros) -> str:
    """One episode, by the start it was first announced with."""
    return "a" + _digest("alert", rule, session, start)


def deadletter_id(topic: str, partition: int, offset: int) -> str:
    """One bad record, by where it stands."""
    return "d" + _digest("deadletter", topic, partition, offset)


@lru_cache(maxsize=65_536)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as Java's default partitioner picks it (murmur2)."""
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    """Austin Appleby's MurmurHash2, 32 bit, with Kafka's seed."""
    multiplier, mask, length = 0x5BD1E995, 0xFFFFFFFF, len(data)
    value = 0x9747B28C ^ length
    for at in range(0, length - length % 4, 4):
        word = int.from_bytes(data[at : at + 4], "little") * multiplier & mask
        word = (word ^ word >> 24) * multiplier & mask
        value = (value * multiplier & mask) ^ word
    if tail := data[length - length % 4 :]:
        value = (value ^ int.from_bytes(tail, "little")) * multiplier & mask
    value = (value ^ value >> 13) * multiplier & mask
    return value ^ value >> 15
