"""What `streamer deadletter` shows, and what it keeps from the terminal."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from streamer.config import KafkaSettings
from streamer.errors import BadRecord, ConfigError, Reason
from streamer.events import DeadLetter, Headers, Micros, Record
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.deadletters import details, listing, print_list, print_one, read_deadletters
from streamer.stages.wire import dead_letter, write_deadletter

HOSTILE = "\x1b[2J[bold]x[/bold]\u202e"


def letter(number: int, *, stage: str = "align", key: bytes | None = b"house", value: bytes | None = b"\xff\x00\x1b[2J") -> DeadLetter:
    headers: Headers = (("ce_id", HOSTILE.encode()), ("odd", b"\xff"), ("none", None))
    record = Record(topic="frames", partition=1, offset=number, arrival=Micros(10**15), key=key, value=value, headers=headers)
    return dead_letter(stage, record, BadRecord(Reason.BAD_HEADER, f"ce_id: {HOSTILE}"))


def shown(table: Table) -> str:
    out = io.StringIO()
    Console(file=out, width=300, force_terminal=False).print(table)
    return out.getvalue()


async def test_all_partitions_are_read_and_filters_hold(broker: KafkaSettings) -> None:
    letters = [letter(n, stage="infer" if n % 2 else "align", key=f"house-{n % 4}".encode()) for n in range(12)]
    kafka = Kafka(broker)
    async with Producer(kafka) as producer:
        await producer.send([write_deadletter(one) for one in letters])
    found = [one async for one in read_deadletters(kafka)]
    assert sorted(one.id for one in found) == sorted(one.id for one in letters)
    by_stage = [one async for one in read_deadletters(kafka, stage="infer", session="house-3")]
    assert {one.origin.offset for one in by_stage} == {3, 7, 11}
    assert [one async for one in read_deadletters(kafka, reason="future")] == []


async def test_one_is_found_by_the_beginning_of_its_id_and_its_payload_saved(tansu: KafkaSettings, tmp_path: Path) -> None:
    one, two = letter(1), letter(2, value=None)
    kafka, console, out = Kafka(tansu), Console(file=io.StringIO(), width=300), tmp_path / "payload"
    async with Producer(kafka) as producer:
        await producer.send([write_deadletter(one), write_deadletter(one), write_deadletter(two)])
    await print_one(kafka, console, one.id[:12], save=out)
    await print_list(kafka, console, stage="align")
    await print_list(kafka, console, stage="infer")
    assert out.read_bytes() == one.payload
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert one.id in text and two.id in text and "no dead letters" in text
    for wrong, message in (("d", "2 dead letters"), ("x", "no dead letters"), (two.id, "no payload")):
        with pytest.raises(ConfigError, match=message):
            await print_one(kafka, console, wrong, save=out)


def test_a_payload_is_shown_by_its_size_digest_and_first_bytes_only() -> None:
    one = letter(7)
    text = shown(details(one))
    assert one.payload and hashlib.sha256(one.payload).hexdigest() in text and "ff 00 1b 5b 32 4a" in text and "6 bytes" in text
    assert "frames, partition 1, offset 7" in text and "bad_header" in text


def test_nothing_that_stands_in_a_dead_letter_reaches_the_terminal_as_control_or_markup() -> None:
    for text in (shown(details(letter(7))), shown(listing([letter(7)]))):
        assert all(c.isprintable() or c == "\n" for c in text)
    assert "[bold]x[/bold]" in shown(details(letter(7)))


def test_a_payload_left_out_and_an_empty_one_are_told_apart() -> None:
    assert "empty" in shown(details(letter(7, value=None)))
    large = letter(7, value=b"x" * (9 << 20))
    assert large.payload is None and "left out" in shown(details(large)) and str(9 << 20) in shown(listing([large]))
