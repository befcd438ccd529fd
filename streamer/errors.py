"""The error tree. An error's class is an action, never only a message.

* StreamerError
  x BadRecord    - the record is wrong: dead-letter it with its reason, never retry
  x Transient    - the world is wrong: try the same thing again, with back-off
  x ConfigError  - we are wrong: refuse to start, with the numbers
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a record is in `deadletter`: a closed set, because it is a metric label."""

    MISSING_HEADER = "missing_header"
    BAD_HEADER = "bad_header"
    BAD_KEY = "bad_key"
    WRONG_PARTITION = "wrong_partition"
    CONTENT_TYPE = "content_type"
    EMPTY = "empty"
    BAD_PAYLOAD = "bad_payload"
    TOO_LARGE = "too_large"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_LONG = "too_long"
    TOO_MANY_TRACKS = "too_many_tracks"
    FUTURE = "future"
    CROWDED = "crowded"
    PACE = "pace"
    EXPIRED = "expired"
    REFUSED = "refused"
    UNEXPECTED = "unexpected"


class StreamerError(Exception):
    """Root of every error that this package raises on purpose."""


class BadRecord(StreamerError):
    """The record is wrong. `reason` is the metric label; `detail` says which field, and how, for a person."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason = reason
        self.detail = detail


class Transient(StreamerError):
    """The world is wrong (broker away, disk full, webhook 503): the same step may succeed later."""


class ConfigError(StreamerError):
    """Our settings are wrong. The message holds the numbers and, where there is one, the command that mends it."""
