"""Looking into `deadletter`: reading it, and showing what stands there without ever printing a payload raw."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from streamer.errors import BadRecord, ConfigError
from streamer.events import SECOND, DeadLetter, Headers, Micros
from streamer.kafka.client import Kafka
from streamer.kafka.log import LogReader
from streamer.stages.wire import read_deadletter

TOPIC = "deadletter"
FIRST_BYTES = 64
_LONGEST = 200  # characters shown of any one value


async def read_deadletters(
    kafka: Kafka, *, stage: str | None = None, reason: str | None = None, session: str | None = None
) -> AsyncIterator[DeadLetter]:
    """All dead letters that stand in the log now and fit every filter given, partition by partition. Raises Transient."""
    wanted = {"stage": stage, "reason": reason, "session": session}
    async with LogReader(kafka) as reader:
        for partition in range(kafka.settings.partitions):
            async for record in reader.read(TOPIC, 0, partition=partition):
                try:
                    found = read_deadletter(record)
                except BadRecord:
                    continue  # somebody else's record in our topic
                if all(value is None or getattr(found, name) == value for name, value in wanted.items()):
                    yield found


async def print_list(
    kafka: Kafka, console: Console, *, stage: str | None = None, reason: str | None = None, session: str | None = None
) -> None:
    """Print one line per dead letter, oldest first. Raises Transient."""
    found = [replace(one, payload=None) async for one in read_deadletters(kafka, stage=stage, reason=reason, session=session)]
    console.print(listing(sorted(found, key=lambda one: (one.arrival, one.id))) if found else "no dead letters")


async def print_one(kafka: Kafka, console: Console, letter: str, *, save: Path | None = None) -> None:
    """Print the dead letter whose id begins with `letter`, and write its payload to `save`.

    Raises ConfigError where none or several begin so, or there is no payload to save; Transient.
    """
    found = {one.id: one async for one in read_deadletters(kafka) if one.id.startswith(letter)}
    if len(found) != 1:
        raise ConfigError(f"{len(found) or 'no'} dead letters have an id that begins with {letter!r}")
    (one,) = found.values()
    console.print(details(one))
    if save:
        if one.payload is None:
            raise ConfigError(f"{one.id} has no payload to save")
        save.write_bytes(one.payload)


def listing(letters: Iterable[DeadLetter]) -> Table:
    """One row each: when, stage, reason, session, origin, size, id."""
    table = Table("arrived (UTC)", "stage", "reason", "session", "origin", "bytes", "id", box=None, pad_edge=False)
    for one in letters:
        origin = f"{one.origin.topic}/{one.origin.partition}@{one.origin.offset}"
        table.add_row(*map(_plain, (_time(one.arrival), one.stage, one.reason, one.session or "-", origin, str(one.payload_size), one.id)))
    return table


def details(letter: DeadLetter) -> Table:
    """Everything about one: of the payload its size, digest and first bytes in hex."""
    table = Table(show_header=False, box=None, pad_edge=False)
    origin = f"{letter.origin.topic}, partition {letter.origin.partition}, offset {letter.origin.offset}"
    rows = [
        ("id", letter.id),
        ("arrived", _time(letter.arrival)),
        ("stage", letter.stage),
        ("reason", letter.reason),
        ("detail", letter.detail),
        ("session", letter.session or "-"),
        ("origin", origin),
        *_headers(letter.headers),
        ("payload", f"{letter.payload_size} bytes"),
    ]
    if letter.payload is None:
        rows.append(("", "left out: too large for a dead letter" if letter.payload_size else "empty"))
    else:
        rows += [("sha256", hashlib.sha256(letter.payload).hexdigest()), ("first bytes", letter.payload[:FIRST_BYTES].hex(" "))]
    for name, value in rows:
        table.add_row(_plain(name), _plain(value))
    return table


def _headers(headers: Headers) -> list[tuple[str, str]]:
    return [(f"header {name}", "null" if value is None else value.decode("utf-8", "backslashreplace")) for name, value in headers]


def _time(at: Micros) -> str:
    try:
        return datetime.fromtimestamp(at / SECOND, tz=UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    except (ValueError, OverflowError, OSError):
        return f"{at} us"


def _plain(text: str) -> str:
    """Markup and control characters as text: what is here was written by whoever broke the record."""
    shown = ascii(text[:_LONGEST])[1:-1].replace("[", "\\[")
    return shown if len(text) <= _LONGEST else shown + "..."
