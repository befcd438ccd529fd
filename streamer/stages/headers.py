"""One header at a time: present, once, not empty, UTF-8, well formed. Every refusal names the header.

CloudEvents 1.0, Kafka binary mode: attributes are headers `ce_NAME`, the data's type is `content-type`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from functools import lru_cache

from streamer.errors import BadRecord, Reason
from streamer.events import Headers, Micros, Pace, Record, SessionId
from streamer.ids import ID, partition_of
from streamer.stages.times import parse_time

Fields = Mapping[str, bytes | None]
"""A record's headers by name."""

TRACEPARENT = "traceparent"
UNREADABLE = "streamer-unreadable"
"""Given in the place of a record that the client library could not read (`streamer/kafka/poll.py`); the value says why."""
LONGEST_TYPE = 256  # bytes of a content-type
OURS = frozenset(f"ce_{name}" for name in ("specversion", "id", "source", "type", "time", "endtime", "pace", "subject")) | {"content-type"}
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_PACE = {b"live": Pace.LIVE, b"recorded": Pace.RECORDED}
_SHOWN = 80


def shown(value: str | bytes) -> str:
    """A foreign value as it may stand in a message: ASCII, quoted, cut to 80 characters."""
    text = ascii(value[: _SHOWN + 1])
    return text if len(value) <= _SHOWN else f"{text[:_SHOWN]}..."


def fields(headers: Headers) -> Fields:
    """Headers by name. A foreign header may repeat (the last one counts); one of ours may not."""
    found = dict(headers)
    if len(found) != len(headers):
        names = [name for name, _ in headers]
        if twice := sorted(name for name in OURS if names.count(name) > 1):
            raise BadRecord(Reason.BAD_HEADER, f"{twice[0]}: is given {names.count(twice[0])} times")
    return found


def foreign(headers: Headers) -> Headers:
    """What an envelope does not write itself: to be kept by whoever writes something derived."""
    return tuple(header for header in headers if header[0] not in OURS)


def session_of(record: Record, partitions: int | None = None) -> SessionId:
    """The key as a session id; with `partitions`, also that the record stands where its key belongs."""
    if record.headers and record.headers[0][0] == UNREADABLE:
        raise BadRecord(Reason.BAD_HEADER, (record.headers[0][1] or b"").decode("utf-8", "replace"))
    if not record.key:
        raise BadRecord(Reason.BAD_KEY, f"key: is {'missing' if record.key is None else 'empty'}")
    session = _session(record.key)
    if partitions is not None and (home := partition_of(record.key, partitions)) != record.partition:
        raise BadRecord(
            Reason.WRONG_PARTITION,
            f"key: {shown(session)} belongs to partition {home} of {partitions}, not {record.partition}",
        )
    return session


def text(found: Fields, name: str) -> str:
    """A header that must be there."""
    raw = found.get(name)
    if raw:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise BadRecord(Reason.BAD_HEADER, f"{name}: {shown(raw)} is not UTF-8") from None
    if name not in found:
        raise BadRecord(Reason.MISSING_HEADER, f"{name}: is missing")
    raise BadRecord(Reason.BAD_HEADER, f"{name}: is {'null' if raw is None else 'empty'}")


def specversion(found: Fields) -> None:
    """CloudEvents 1.0 in binary mode and nothing else."""
    if found.get("ce_specversion") == b"1.0":
        return
    if "ce_specversion" not in found and (found.get("content-type") or b"").startswith(b"application/cloudevents"):
        raise BadRecord(Reason.CONTENT_TYPE, "content-type: CloudEvents in structured mode are not read; use binary mode")
    raise BadRecord(Reason.BAD_HEADER, f"ce_specversion: {shown(text(found, 'ce_specversion'))} is not '1.0'")


def identifier(found: Fields, name: str) -> str:
    """A header that must be an id."""
    value = text(found, name)
    if not ID.match(value):
        raise BadRecord(Reason.BAD_HEADER, f"{name}: {shown(value)} is not an id ({ID.pattern[:-2]})")
    return value


def one_of(found: Fields, name: str, allowed: Collection[str]) -> str:
    """A header that must be one of a few words."""
    value = text(found, name)
    if value not in allowed:
        raise BadRecord(Reason.BAD_HEADER, f"{name}: {shown(value)} is not one of {', '.join(sorted(allowed))}")
    return value


def instant(found: Fields, name: str) -> Micros:
    """A header that must be an RFC 3339 time."""
    raw = found.get(name) or text(found, name).encode()
    try:
        return parse_time(raw)
    except ValueError as exc:
        text(found, name)
        raise BadRecord(Reason.BAD_HEADER, f"{name}: {shown(raw.decode())} {exc}") from None


def media_type(found: Fields, allowed: Collection[str]) -> str:
    """`content-type` without its parameters; must be one of `allowed`."""
    raw = found.get("content-type")
    if raw and len(raw) > LONGEST_TYPE:
        raise BadRecord(Reason.CONTENT_TYPE, f"content-type: {len(raw)} bytes exceed {LONGEST_TYPE}")
    value = _media_type(raw) if raw else text(found, "content-type")
    if value not in allowed:
        raise BadRecord(Reason.CONTENT_TYPE, f"content-type: {shown(value)} is not one of {', '.join(sorted(allowed))}")
    return value


def pace(found: Fields) -> Pace:
    """`ce_pace`; a record without it is live."""
    if "ce_pace" not in found:
        return Pace.LIVE
    return _PACE.get(found["ce_pace"] or b"") or Pace(one_of(found, "ce_pace", tuple(Pace)))


def traceparent(found: Fields) -> str | None:
    """W3C trace context, from its own header or CloudEvents' extension. As W3C asks, a malformed one is no error: there is none."""
    raw = found.get(TRACEPARENT) or found.get(f"ce_{TRACEPARENT}")
    if raw is None:
        return None
    value = raw.decode("ascii", "replace")
    return value if _TRACEPARENT.fullmatch(value) else None


@lru_cache(maxsize=16_384)
def _session(key: bytes) -> SessionId:
    try:
        value = key.decode()
    except UnicodeDecodeError:
        raise BadRecord(Reason.BAD_KEY, f"key: {shown(key)} is not UTF-8") from None
    if not ID.match(value):
        raise BadRecord(Reason.BAD_KEY, f"key: {shown(value)} is not an id ({ID.pattern[:-2]})")
    return SessionId(value)


@lru_cache(maxsize=256)
def _media_type(raw: bytes) -> str:
    return text({"content-type": raw}, "content-type").partition(";")[0].strip().lower()
