"""RFC 3339 times in headers and JSON, as integer microseconds.

We write one form, `2026-11-23T12:00:00.000000Z`, and read every form of RFC 3339: offsets, lower case, 0 to 9 digits of a
second (cut to microseconds, never rounded). A leap second has no place in Unix time and is refused.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache

from streamer.events import SECOND, Micros

MINUTE = 60 * SECOND
OURS = len("2026-11-23T12:00:00.000000Z")
_TO_SECOND = len("2026-11-23T12:00:00")
_POINT, _UTC = b".Z"
_EPOCH = datetime(1970, 1, 1)  # UTC without saying so: arithmetic on naive times is exact
_MICROSECOND = timedelta(microseconds=1)
EARLIEST = Micros((datetime.min - _EPOCH) // _MICROSECOND)
LATEST = Micros((datetime.max - _EPOCH) // _MICROSECOND)
_RFC3339 = re.compile(
    rb"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))",
)


def parse_time(text: bytes) -> Micros:
    """Microseconds since 1970 UTC. Raises ValueError that says what is wrong."""
    if len(text) == OURS and text[_TO_SECOND] == _POINT and text[-1] == _UTC:
        fraction = text[_TO_SECOND + 1 : -1]
        if fraction.isdigit():
            return Micros(_second(text[:_TO_SECOND]) + int(fraction))
    return parse_time_slowly(text)


def parse_time_slowly(text: bytes) -> Micros:
    """What `parse_time` does, for every form of RFC 3339."""
    found = _RFC3339.fullmatch(text)
    if not found:
        raise ValueError("is not an RFC 3339 time such as 2026-11-23T12:00:00.000000Z")
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    if second == 60:
        raise ValueError("is a leap second, which Unix time cannot hold")
    at = (datetime(year, month, day, hour, minute, second) - _EPOCH) // _MICROSECOND
    at += int((found[7] or b"0").ljust(6, b"0")[:6]) - _offset(found[8], found[9], found[10])
    if not EARLIEST <= at <= LATEST:
        raise ValueError("is outside of the years 1 to 9999 UTC")
    return Micros(at)


@lru_cache(maxsize=16_384)
def format_time(at: Micros) -> str:
    """`2026-11-23T12:00:00.000000Z`. Raises OverflowError outside of the years 1 to 9999."""
    minute, within = divmod(at, MINUTE)
    second, fraction = divmod(within, SECOND)
    return f"{_minute(minute)}{second:02d}.{fraction:06d}Z"


def _offset(sign: bytes | None, hours: bytes | None, minutes: bytes | None) -> int:
    if sign is None or hours is None or minutes is None:
        return 0
    if int(hours) > 23 or int(minutes) > 59:
        raise ValueError("has an offset beyond 23:59")
    length = int(hours) * 60 * MINUTE + int(minutes) * MINUTE
    return -length if sign == b"-" else length


@lru_cache(maxsize=1_024)
def _second(prefix: bytes) -> Micros:
    return parse_time_slowly(prefix + b"Z")


@lru_cache(maxsize=1_024)
def _minute(number: int) -> str:
    # strftime does not pad years below 1000 on Linux, isoformat does
    return (_EPOCH + timedelta(minutes=number)).isoformat(timespec="minutes") + ":"
