"""JSON records: every noun round-trips, every written value follows its published schema, bad ones are named."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from streamer import events
from streamer.errors import BadRecord, Reason
from streamer.events import Alert, DeadLetter, Late, Message, Micros, Record, Scores, SessionMark, Window
from streamer.schemas import RECORDS, schema
from streamer.stages import wire
from streamer.stages.envelope import write_frame
from streamer.stages.times import EARLIEST, LATEST
from streamer.stages.wire.body import LARGEST, TIMES
from streamer.stages.wire.dead import HEADER_BYTES, LARGEST_PAYLOAD
from streamer.topology import TOPIC
from tests.builders import (
    T0,
    a_dead_letter,
    a_frame,
    a_late,
    a_record,
    a_silence,
    a_window,
    an_absence,
    an_alert,
    some_scores,
    some_words,
    with_header,
)

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
shares = st.floats(0, 1)
NAMED: dict[str, st.SearchStrategy[Any]] = {
    "id": ids,
    "source": ids,
    "window": ids,
    "session": ids,
    "confidence": shares,
    "probability": shares,
    "covered": shares,
    "score": shares,
    "threshold": shares,
    "left": shares,
    "top": shares,
    "right": shares,
    "bottom": shares,
    "language": st.sampled_from(["en", "pt-BR", "und"]),
    "text": texts,
    "classes": st.dictionaries(
        texts | st.sampled_from(sorted(TIMES)), st.deferred(lambda: noun(events.ClassScore)), min_size=1, max_size=2
    ),
    "reason": st.sampled_from([reason.value for reason in Reason]),
    "headers": st.lists(st.tuples(texts, st.none() | st.binary(max_size=10)), max_size=4).map(tuple),
}
TYPED: dict[Any, st.SearchStrategy[Any]] = {
    str: texts,
    int: st.integers(0, LARGEST),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    bytes: st.binary(max_size=20),
    type(None): st.none(),
}


def of_type(name: str, kind: Any) -> st.SearchStrategy[Any]:
    """Values of one field, by its name where the schema bounds it, else by its type."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if type(None) in args:
        return st.none() | of_type(name, next(arg for arg in args if arg is not type(None)))
    if name in NAMED:
        return NAMED[name]
    if kind is Micros:
        return st.integers(EARLIEST, LATEST) if name in TIMES else st.integers(-(2**60), 2**60)
    if origin is tuple:
        return st.lists(of_type("", args[0]), max_size=2).map(tuple)
    if origin is not None:
        return st.dictionaries(of_type("", args[0]), of_type("", args[1]), max_size=3)
    if dataclasses.is_dataclass(kind):
        return noun(typing.cast(type, kind))
    kind = getattr(kind, "__supertype__", kind)
    return TYPED[kind] if kind in TYPED else st.sampled_from(list(kind))


def noun(kind: type) -> st.SearchStrategy[Any]:
    """Any value of a noun, built from its own field types: a new field is drawn without a change here."""
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{field.name: of_type(field.name, hints[field.name]) for field in dataclasses.fields(kind)})


CODECS: dict[str, tuple[type, Callable[[Any], Message], Callable[[Record], Any], Any]] = {
    "window": (Window, wire.write_window, wire.read_window, a_window()),
    "silence": (SessionMark, lambda mark: wire.write_silence("windows", mark), wire.read_window, a_silence()),
    "scores": (Scores, wire.write_scores, wire.read_scores, some_scores(absent=(an_absence(),))),
    "alert": (Alert, wire.write_alert, wire.read_alert, an_alert()),
    "late": (Late, wire.write_late, wire.read_late, a_late()),
    "deadletter": (DeadLetter, wire.write_deadletter, wire.read_deadletter, a_dead_letter()),
}
OPTIONAL = {("scores", "may_alert"), ("alert", "explanation")}
"""Fields that older writers do not know."""
each_noun = pytest.mark.parametrize("name", CODECS)


def errors(name: str, message: Message) -> list[str]:
    found = Draft202012Validator(schema(name), format_checker=Draft202012Validator.FORMAT_CHECKER).iter_errors(
        msgspec.json.decode(message.value or b"")
    )
    return [f"{error.json_path}: {error.message}" for error in found]


@each_noun
def test_any_noun_round_trips_and_follows_its_schema(name: str) -> None:
    kind, write, read, _ = CODECS[name]

    @settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
    @given(noun(kind))
    def check(value: Any) -> None:
        message = write(value)
        assert read(a_record(message)) == value
        assert errors(name, message) == []

    check()


@pytest.mark.parametrize("name", RECORDS)
def test_every_published_schema_is_itself_valid(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))
    assert schema(name)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@each_noun
def test_a_schema_names_exactly_the_fields_of_its_noun(name: str) -> None:
    fields = [field.name for field in dataclasses.fields(CODECS[name][0])]
    assert list(schema(name)["properties"]) == fields
    assert schema(name)["required"] == [field for field in fields if (name, field) not in OPTIONAL]


@each_noun
def test_a_schema_refuses_a_record_without_any_one_of_its_fields(name: str) -> None:
    body = msgspec.json.decode(CODECS[name][1](CODECS[name][3]).value or b"")
    validator = Draft202012Validator(schema(name))
    assert validator.is_valid(body)
    for field in schema(name)["required"]:
        assert not validator.is_valid({key: value for key, value in body.items() if key != field}), field


@each_noun
def test_every_field_of_the_wrong_type_is_named(name: str) -> None:
    _, write, read, value = CODECS[name]
    record = a_record(write(value))
    body = msgspec.json.decode(record.value or b"")
    for field in body:
        with pytest.raises(BadRecord) as caught:
            read(dataclasses.replace(record, value=msgspec.json.encode(body | {field: [17]})))
        assert caught.value.reason == Reason.BAD_PAYLOAD
        assert field in caught.value.detail


@each_noun
@pytest.mark.parametrize("header", ["ce_specversion", "ce_type", "content-type"])
@pytest.mark.parametrize("values", [(), (None,), (b"",), (b"\xff",), (b"odd",), (b"1.0", b"1.0")], ids=str)
def test_a_wrong_header_is_named(name: str, header: str, values: tuple[bytes | None, ...]) -> None:
    _, write, read, value = CODECS[name]
    with pytest.raises(BadRecord) as caught:
        read(with_header(a_record(write(value)), header, *values))
    assert caught.value.detail.startswith(f"{header}: ")


@each_noun
@pytest.mark.parametrize(
    "value", [None, b"", b"{", b"\xff", b"[]", b"17", b"[" * 100_000, b'{"start":' * 900, b'{"a":"\xff"}'], ids=lambda v: repr(v)[:12]
)
def test_a_value_that_is_no_such_json_is_a_bad_record(name: str, value: bytes | None) -> None:
    _, write, read, good = CODECS[name]
    with pytest.raises(BadRecord) as caught:
        read(a_record(write(good), value=value))
    assert caught.value.reason in (Reason.BAD_PAYLOAD, Reason.EMPTY)


@pytest.mark.parametrize("name", ["window", "silence", "scores", "alert", "late"])
def test_a_value_that_speaks_of_another_session_than_its_key_is_refused(name: str) -> None:
    _, write, read, value = CODECS[name]
    with pytest.raises(BadRecord) as caught:
        read(a_record(write(value), key=b"elsewhere"))
    assert caught.value.reason == Reason.BAD_KEY


WRONG: tuple[Any, ...] = ("", "a b", "a\nb", "é", "-a", "a" * 65, -1, LARGEST + 1, -0.5, 1.5)
"""Values of the right type that one or another field may not have."""


def changed(plain: Any) -> Iterator[Any]:
    """`plain` with one text or number at any depth replaced by each wrong value of its type."""
    if isinstance(plain, dict):
        yield from ((plain | {key: other}) for key, value in plain.items() for other in changed(value))
    elif isinstance(plain, list):
        yield from ([*plain[:at], other, *plain[at + 1 :]] for at, value in enumerate(plain) for other in changed(value))
    elif type(plain) in (str, int, float):
        yield from (value for value in WRONG if type(value) is type(plain))


@each_noun
def test_readers_refuse_the_ids_counts_and_shares_that_the_schema_refuses(name: str) -> None:
    _, write, read, value = CODECS[name]
    record, validator, refused = a_record(write(value)), Draft202012Validator(schema(name)), 0
    for body in changed(msgspec.json.decode(record.value or b"")):
        found = [e for whole in validator.iter_errors(body) for e in (whole, *(whole.context or ()))]
        if any(e.validator in ("minimum", "maximum") or (e.validator == "pattern" and "{0,63}" in str(e.validator_value)) for e in found):
            refused += 1
            with pytest.raises(BadRecord):
                read(dataclasses.replace(record, value=msgspec.json.encode(body)))
    assert refused > 5


def test_scores_of_a_writer_that_does_not_know_may_alert_may_alert() -> None:
    record = a_record(wire.write_scores(some_scores()))
    body = msgspec.json.decode(record.value or b"")
    del body["may_alert"]
    read = wire.read_scores(dataclasses.replace(record, value=msgspec.json.encode(body)))
    assert isinstance(read, Scores) and read.may_alert


def test_what_a_writer_that_does_not_know_explanations_wrote_is_read_without_them() -> None:
    scored, alerted = wire.write_scores(some_scores()), wire.write_alert(an_alert())
    body = msgspec.json.decode(scored.value or b"")
    del body["classes"]["glass_break"]["explanation"]
    read = wire.read_scores(dataclasses.replace(a_record(scored), value=msgspec.json.encode(body)))
    assert isinstance(read, Scores) and read.classes["glass_break"].explanation == ""
    body = msgspec.json.decode(alerted.value or b"")
    del body["explanation"]
    assert wire.read_alert(dataclasses.replace(a_record(alerted), value=msgspec.json.encode(body))).explanation == ""


def test_times_are_text_and_a_time_as_a_number_is_refused() -> None:
    record = a_record(wire.write_window(a_window()))
    body = msgspec.json.decode(record.value or b"")
    assert body["start"] == "2026-11-23T12:00:00.000000Z"
    with pytest.raises(BadRecord, match="start: is a number"):
        wire.read_window(dataclasses.replace(record, value=msgspec.json.encode(body | {"start": T0})))


def test_a_window_quotes_its_words() -> None:
    assert b'"words":{"text":"help me","confidence":0.9,"language":"en"}' in (wire.write_window(a_window()).value or b"")


def test_a_silence_is_read_from_windows_and_from_scores() -> None:
    mark = a_silence()
    assert wire.read_window(a_record(wire.write_silence("windows", mark))) == mark
    assert wire.read_scores(a_record(wire.write_silence("scores", mark))) == mark


def test_fields_of_a_newer_version_are_ignored() -> None:
    record = a_record(wire.write_alert(an_alert()))
    body = msgspec.json.decode(record.value or b"") | {"new": {"start": None}}
    assert wire.read_alert(dataclasses.replace(record, value=msgspec.json.encode(body))) == an_alert()


def test_a_gap_has_its_own_type_and_stays_in_its_partition() -> None:
    gap = a_late(session=None, id=None, start=None, reason="gap", origin=dataclasses.replace(a_late().origin, partition=2))
    message = wire.write_late(gap)
    assert (message.key, message.partition, dict(message.headers)["ce_type"]) == (b"unknown", 2, b"streamer.gap")
    assert wire.read_late(a_record(message)) == gap


def test_headers_to_keep_are_written() -> None:
    keep = (("traceparent", b"00-1"), ("x", None))
    assert wire.write_scores(some_scores(), keep=keep).headers[-2:] == keep


# dead letters


def frame_record(**change: Any) -> Record:
    return a_record(write_frame(a_frame(), keep=(("traceparent", b"00-1"), ("odd", b"\xff\x00"), ("odd", None))), offset=41, **change)


def reread(letter: DeadLetter) -> DeadLetter:
    return wire.read_deadletter(a_record(wire.write_deadletter(letter)))


def test_a_dead_letter_keeps_origin_headers_payload_and_trace() -> None:
    record = frame_record()
    letter = wire.dead_letter("align", record, BadRecord(Reason.BAD_HEADER, "ce_time: odd"))
    assert reread(letter) == letter
    assert (letter.stage, letter.reason, letter.detail) == ("align", "bad_header", "ce_time: odd")
    assert (letter.origin.topic, letter.origin.partition, letter.origin.offset) == ("frames", record.partition, 41)
    assert (letter.headers, letter.payload, letter.payload_size) == (record.headers, record.value, len(record.value or b""))
    message = wire.write_deadletter(letter)
    assert message.key == record.key
    assert ("traceparent", b"00-1") in message.headers


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"a b", b"yard\n", b"x" * 5_000])
def test_a_dead_letter_of_a_bad_key_has_the_key_unknown(key: bytes | None) -> None:
    letter = wire.dead_letter("align", frame_record(key=key), BadRecord(Reason.BAD_KEY, "key: odd"))
    assert letter.session is None
    assert wire.write_deadletter(letter).key == b"unknown"
    assert reread(letter) == letter


@pytest.mark.parametrize(("size", "kept"), [(LARGEST_PAYLOAD, True), (LARGEST_PAYLOAD + 1, False), (TOPIC["frames"].limit + 1, False)])
def test_a_payload_too_large_is_left_out_and_its_size_is_not(size: int, kept: bool) -> None:
    letter = wire.dead_letter("align", frame_record(value=bytes(size)), BadRecord(Reason.TOO_LARGE, "value: large"))
    assert ((letter.payload is not None), letter.payload_size) == (kept, size)


def test_the_worst_dead_letter_still_fits_its_topic() -> None:
    headers = tuple((f"h{count}", b"\x00" * 40) for count in range(10_000))
    letter = wire.dead_letter(
        "align", frame_record(value=bytes(LARGEST_PAYLOAD), headers=headers), BadRecord(Reason.BAD_HEADER, "\x00" * 90_000)
    )
    assert letter.payload is not None
    assert "headers beyond" in letter.detail
    assert sum(len(value or b"") for _, value in letter.headers) < HEADER_BYTES
    assert len(wire.write_deadletter(letter).value or b"") <= TOPIC["deadletter"].limit


def test_an_unexpected_error_is_named_by_type_and_its_text_is_not_told() -> None:
    letter = wire.dead_letter("infer", frame_record(), ZeroDivisionError("secret"))
    assert (letter.reason, letter.detail) == ("unexpected", "ZeroDivisionError in infer")


def test_a_null_value_is_told_from_nothing_by_size_zero() -> None:
    letter = wire.dead_letter("align", frame_record(value=None), BadRecord(Reason.EMPTY, "value: is null"))
    assert (letter.payload, letter.payload_size) == (None, 0)
    assert reread(letter) == letter


def test_long_words_fit_the_published_schema() -> None:
    window = a_window()
    said = dataclasses.replace(window.manifest[2], words=some_words("a" * 4_000))
    assert errors("window", wire.write_window(dataclasses.replace(window, manifest=(said,)))) == []
