"""RFC 3339 and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.events import Micros
from streamer.stages.times import EARLIEST, LATEST, format_time, parse_time, parse_time_slowly
from tests.builders import T0

moments = st.integers(EARLIEST, LATEST).map(Micros)


@given(moments)
def test_our_format_round_trips_fast_and_slow(moment: Micros) -> None:
    text = format_time(moment).encode()
    assert len(text) == 27
    assert parse_time(text) == parse_time_slowly(text) == moment


def outcome(parse: object, text: bytes) -> object:
    try:
        return parse(text)  # type: ignore[operator]
    except ValueError as exc:
        return str(exc)


@given(
    st.from_regex(rb"[0-9]{4}.[0-9]{2}-[0-9]{2}.[0-9]{2}:[0-9]{2}.[0-9]{2}[.,][0-9+ _-]{6}[Zz]", fullmatch=True)
    | st.binary(min_size=27, max_size=27)
)
def test_the_fast_path_equals_the_slow_one_on_anything_of_its_length(text: bytes) -> None:
    assert outcome(parse_time, text) == outcome(parse_time_slowly, text)


@given(moments, st.integers(0, 26), st.integers(0, 255))
def test_the_fast_path_equals_the_slow_one_with_one_byte_changed(moment: Micros, place: int, byte: int) -> None:
    text = bytearray(format_time(moment).encode())
    text[place] = byte
    assert outcome(parse_time, bytes(text)) == outcome(parse_time_slowly, bytes(text))


@given(st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=st.timezones()))
def test_every_time_that_python_writes_is_read(moment: datetime) -> None:
    text = moment.isoformat()
    if len(text[19:].lstrip(".0123456789")) != 6:
        return  # offsets with seconds, before standard time, are not RFC 3339
    expected = (moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)
    assert abs(parse_time(text.encode()) - expected) < 64  # expected is a float


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T12:00:00Z", T0),
        ("2026-11-23t12:00:00z", T0),
        ("2026-11-23T13:00:00+01:00", T0),
        ("2026-11-23T06:30:00-05:30", T0),
        ("2026-11-23T12:00:00-00:00", T0),
        ("2026-11-23T12:00:00.1Z", T0 + 100_000),
        ("2026-11-23T12:00:00.123Z", T0 + 123_000),
        ("2026-11-23T12:00:00.1234567Z", T0 + 123_456),
        ("2026-11-23T12:00:00.999999999Z", T0 + 999_999),
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.9Z", -100_000),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000_000),
    ],
)
def test_foreign_forms_are_read(text: str, expected: int) -> None:
    assert parse_time(text.encode()) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2016-12-31T23:59:60Z", "leap second"),
        ("2016-12-31T23:59:60.000000Z", "leap second"),
        ("2026-11-23T12:00:00", "RFC 3339"),
        ("2026-11-23 12:00:00Z", "RFC 3339"),
        ("2026-11-23T12:00Z", "RFC 3339"),
        ("2026-11-23T12:00:00.Z", "RFC 3339"),
        ("2026-11-23T12:00:00,5Z", "RFC 3339"),
        ("2026-W48-1T12:00:00.000000Z", "RFC 3339"),
        ("20261123T120000Z", "RFC 3339"),
        ("1795435200", "RFC 3339"),
        ("２０２６-11-23T12:00:00Z", "RFC 3339"),
        ("2026-02-29T00:00:00Z", "day"),
        ("2026-13-01T00:00:00Z", "month"),
        ("2026-11-23T24:00:00Z", "hour"),
        ("2026-11-23T12:60:00.000000Z", "minute"),
        ("2026-11-23T12:00:61Z", "second"),
        ("2026-11-23T12:00:00+24:00", "offset"),
        ("0000-01-01T00:00:00Z", "year"),
        ("0001-01-01T00:00:00+01:00", "years 1 to 9999"),
        ("9999-12-31T23:59:59.000000-01:00", "years 1 to 9999"),
    ],
)
def test_what_is_no_time_says_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_time(text.encode())
