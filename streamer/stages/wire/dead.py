"""Dead letters: a record that a stage could not use, with why, where it stood, and all that it said.

A dead letter always fits its topic: a payload over its own topic's limit, or too large once in base64, is left out
(`payload` is null, `payload_size` is not); headers are kept up to 64 KiB together.
"""

from __future__ import annotations

import base64
from typing import Any

from streamer.errors import BadRecord, Reason
from streamer.events import DeadLetter, Headers, Message, Origin, Record
from streamer.ids import ID, deadletter_id
from streamer.stages.headers import TRACEPARENT
from streamer.stages.wire.body import dump, load, message, parse
from streamer.stages.wire.records import UNKNOWN
from streamer.topology import TOPIC

DEADLETTER = "streamer.deadletter"
HEADER_BYTES = 64 * 1024
HEADER_FRAME = 32
"""What one header costs beside its name and value."""
DETAIL_LENGTH = 1_000
_LIMIT = TOPIC["deadletter"].limit
LARGEST_PAYLOAD = (_LIMIT - 8 * HEADER_BYTES) // 4 * 3
"""Bytes that still fit once they are base64, beside headers that JSON makes six times longer (control characters)."""


def dead_letter(stage: str, record: Record, error: Exception) -> DeadLetter:
    """What to write about `record`. An error that is no BadRecord is our own fault: its type is named, its text is not."""
    bad = error if isinstance(error, BadRecord) else BadRecord(Reason.UNEXPECTED, f"{type(error).__name__} in {stage}")
    headers = _bounded(record.headers)
    lost = len(record.headers) - len(headers)
    detail = bad.detail[:DETAIL_LENGTH] + (f" ({lost} headers beyond {HEADER_BYTES} bytes left out)" if lost else "")
    value = record.value
    return DeadLetter(
        id=deadletter_id(record.topic, record.partition, record.offset),
        stage=stage,
        reason=bad.reason.value,
        detail=detail,
        origin=Origin(topic=record.topic, partition=record.partition, offset=record.offset),
        session=_session(record.key),
        arrival=record.arrival,
        headers=headers,
        payload=value if value is not None and len(value) <= min(TOPIC[record.topic].limit, LARGEST_PAYLOAD) else None,
        payload_size=len(value or b""),
    )


def write_deadletter(letter: DeadLetter) -> Message:
    """To `deadletter`; keeps the bad record's trace."""
    body = dump(letter) | {"headers": [_header(name, value) for name, value in letter.headers]}
    keep = tuple((name, value) for name, value in letter.headers if name == TRACEPARENT)
    key = letter.session.encode() if letter.session else UNKNOWN
    return message("deadletter", key, DEADLETTER, letter.id, letter.stage, letter.arrival, None, body, keep)


def read_deadletter(record: Record) -> DeadLetter:
    """What stands in `deadletter`. Raises BadRecord."""
    plain = parse(record, frozenset({DEADLETTER}))[1]
    if isinstance(plain, dict) and isinstance(plain.get("headers"), list):
        plain = plain | {"headers": [_read_header(entry) for entry in plain["headers"]]}
    return load(plain, DeadLetter)


def _session(key: bytes | None) -> str | None:
    text = (key or b"").decode("utf-8", "replace")
    return text if ID.match(text) else None


def _bounded(headers: Headers) -> Headers:
    left, kept = HEADER_BYTES, []
    for name, value in headers:
        left -= len(name.encode()) + len(value or b"") + HEADER_FRAME
        if left >= 0:
            kept.append((name, value))
    return tuple(kept)


def _header(name: str, value: bytes | None) -> dict[str, str | None]:
    try:
        return {"name": name, "value": value if value is None else value.decode()}
    except UnicodeDecodeError:
        return {"name": name, "base64": base64.b64encode(value or b"").decode()}


def _read_header(entry: Any) -> tuple[Any, Any]:
    """A (name, base64 or null) pair, as the noun's codec reads bytes."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise BadRecord(Reason.BAD_PAYLOAD, "value: $.headers[...]: is not an object with a name")
    value = entry.get("base64", entry.get("value"))
    if value is not None and not isinstance(value, str):
        raise BadRecord(Reason.BAD_PAYLOAD, "value: $.headers[...]: is not text")
    if "base64" in entry or value is None:
        return entry["name"], value
    return entry["name"], base64.b64encode(value.encode()).decode()
