"""A noun as JSON and back. The JSON has the noun's own field names; its times are RFC 3339, its lengths microseconds.

`{"id": "w3f...", "start": "2026-11-23T12:00:00.000000Z", ...}`. Fields that a reader does not know are ignored.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import cache, partial
from operator import attrgetter
from types import NoneType
from typing import Any, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from streamer.errors import BadRecord, Reason
from streamer.events import Headers, Message, Micros, Record
from streamer.ids import ID
from streamer.stages import headers as header
from streamer.stages.envelope import payload
from streamer.stages.headers import shown
from streamer.stages.times import format_time, parse_time

Noun = TypeVar("Noun")

JSON = "application/json"
TIMES = frozenset({"start", "end", "at", "arrival", "trigger"})
"""Names of fields that hold a point in time; other `Micros` are lengths and stay numbers."""
_IDS = frozenset({"id", "window", "session", "source"})
_COUNTS = frozenset({"revision", "partition", "offset", "events", "payload_size"})
_SHARES = frozenset({"probability", "confidence", "covered", "score", "threshold", "left", "top", "right", "bottom"})
LARGEST = 2**53 - 1
"""The largest whole number that every reader of JSON reads as it was written."""

_Check = Callable[[Any, str], None]
"""Raises BadRecord for a value that its schema does not allow; the text says where it stands."""


class _Codec(NamedTuple):
    """How one field's value becomes text and micros again."""

    text: Callable[[Any], Any]
    micros: Callable[[Any], Any]


def dump(noun: Any) -> dict[str, Any]:
    """A noun by field name, its times as text; what has no times in it is left for msgspec to encode."""
    kind: type = type(noun)
    names, values, texts = _dumper(kind)
    plain = dict(zip(names, values(noun), strict=True))
    for name, text in texts:
        plain[name] = text(plain[name])
    return plain


def load(plain: object, noun: type[Noun]) -> Noun:
    """Plain values as a noun whose ids, counts and shares are as its schema has them. Raises BadRecord, naming the field."""
    try:
        found = msgspec.convert(_with_micros(plain, noun), noun)
    except msgspec.ValidationError as exc:
        raise BadRecord(Reason.BAD_PAYLOAD, f"value: {exc}") from None
    _check_fields(found, "$")
    return found


def parse(record: Record, kinds: frozenset[str]) -> tuple[str, Any]:
    """A JSON record's ce_type (one of `kinds`) and its value as plain values. Raises BadRecord."""
    header.session_of(record)
    found = header.fields(record.headers)
    header.specversion(found)
    kind = header.one_of(found, "ce_type", kinds)
    header.media_type(found, (JSON,))
    try:
        return kind, msgspec.json.decode(payload(record))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise BadRecord(Reason.BAD_PAYLOAD, f"value: {exc}") from None


def same_session(record: Record, session: str) -> None:
    """The value speaks of the session that the key names. Raises BadRecord."""
    if (record.key or b"").decode() != session:
        raise BadRecord(Reason.BAD_KEY, f"key: {shown(record.key or b'')} is not $.session {shown(session)}")


def message(
    topic: str,
    key: bytes,
    kind: str,
    name: str,
    stage: str,
    start: Micros,
    end: Micros | None,
    body: object,
    keep: Headers,
    partition: int | None = None,
) -> Message:
    """A JSON record in its envelope. (ce_source, ce_id) = (stage/key, `name`) is unique, as CloudEvents asks."""
    headers: Headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", name.encode()),
        ("ce_source", stage.encode() + b"/" + key),
        ("ce_type", kind.encode()),
        ("ce_time", format_time(start).encode()),
    )
    if end is not None:
        headers = (*headers, ("ce_endtime", format_time(end).encode()))
    headers = (*headers, ("content-type", JSON.encode()), *keep)
    return Message(topic=topic, key=key, value=msgspec.json.encode(body), headers=headers, partition=partition)


@cache
def _dumper(noun: type) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]], tuple[tuple[str, Callable[[Any], Any]], ...]]:
    """The fields' names, what gets their values, and those in which there is a time, with what makes it text."""
    codecs = _codecs(noun)
    return tuple(codecs), attrgetter(*codecs), tuple((name, codec.text) for name, codec in codecs.items() if codec)


@cache
def _codecs(noun: type) -> dict[str, _Codec | None]:
    """By field name; None where nothing in the field is a time."""
    hints = get_type_hints(noun)
    return {field.name: _codec(field.name, hints[field.name]) for field in dataclasses.fields(noun)}


def _codec(name: str, kind: Any) -> _Codec | None:
    args = get_args(kind)
    if NoneType in args:
        inner = _codec(name, next(arg for arg in args if arg is not NoneType))
        return _Codec(partial(_unless_none, inner.text), inner.micros) if inner else None
    if kind is Micros and name in TIMES:
        return _Codec(format_time, partial(_micros, name))
    if get_origin(kind) is tuple and (inner := _codec(name, args[0])):
        return _Codec(lambda values: list(map(inner.text, values)), lambda values: _each(inner.micros, values))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and any(_codecs(kind).values()):
        return _Codec(dump, partial(_with_micros, noun=kind))
    return None


@cache
def _checks(noun: type) -> tuple[tuple[str, _Check], ...]:
    """The fields in which something may be wrong, with what finds it."""
    hints = get_type_hints(noun)
    found = ((field.name, _check(field.name, hints[field.name])) for field in dataclasses.fields(noun))
    return tuple((name, check) for name, check in found if check)


def _check(name: str, kind: Any) -> _Check | None:
    args = get_args(kind)
    if NoneType in args:
        inner = _check(name, next(arg for arg in args if arg is not NoneType))
        return partial(_check_unless_none, inner) if inner else None
    if get_origin(kind) is tuple and (inner := _check("", args[0])):
        return partial(_check_each, inner)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _check_fields if _checks(kind) else None
    if get_origin(kind) and len(args) == 2 and (inner := _check("", args[1])):
        return lambda values, where: _check_each(inner, values.values(), where)
    for names, check in ((_IDS, _check_id), (_COUNTS, _check_count), (_SHARES, _check_share)):
        if name in names:
            return check
    return None


def _check_fields(noun: Any, where: str) -> None:
    kind: type = type(noun)
    for name, check in _checks(kind):
        check(getattr(noun, name), f"{where}.{name}")


def _check_unless_none(inner: _Check, value: Any, where: str) -> None:
    if value is not None:
        inner(value, where)


def _check_each(inner: _Check, values: Iterable[Any], where: str) -> None:
    for value in values:
        inner(value, where + "[...]")


def _check_id(value: str, where: str) -> None:
    if not ID.match(value):
        raise BadRecord(Reason.BAD_PAYLOAD, f"value: {where}: {shown(value)} is no id")


def _check_count(value: int, where: str) -> None:
    if not 0 <= value <= LARGEST:
        raise BadRecord(Reason.BAD_PAYLOAD, f"value: {where}: {str(value)[:32]} is not in 0..{LARGEST}")


def _check_share(value: float, where: str) -> None:
    if not 0 <= value <= 1:
        raise BadRecord(Reason.BAD_PAYLOAD, f"value: {where}: {value} is not in 0..1")


def _with_micros(plain: Any, noun: type) -> Any:
    """Of a wrong shape: unchanged, for msgspec to say what is wrong."""
    if type(plain) is not dict:
        return plain
    codecs = _codecs(noun)
    return {name: codec.micros(value) if (codec := codecs.get(name)) else value for name, value in plain.items()}


def _unless_none(text: Callable[[Any], Any], value: Any) -> Any:
    return value if value is None else text(value)


def _each(micros: Callable[[Any], Any], values: Any) -> Any:
    return [micros(value) for value in values] if type(values) is list else values


def _micros(name: str, value: Any) -> Any:
    if type(value) is str:
        try:
            return parse_time(value.encode())
        except ValueError as exc:
            raise BadRecord(Reason.BAD_PAYLOAD, f"value: {name}: {shown(value)} {exc}") from None
    if isinstance(value, int | float):
        raise BadRecord(Reason.BAD_PAYLOAD, f"value: {name}: is a number, not an RFC 3339 time")
    return value
