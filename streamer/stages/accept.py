"""What infer accepts of `windows`: only what can be fetched, encoded and scored. Anybody may write to a topic.

A window that names a place no log has would be waited for, one of the year 9999 has a score that cannot be written: each of
them would take its whole partition down with it. So it is refused here, and only it is lost.
"""

from __future__ import annotations

from streamer.errors import BadRecord, Reason
from streamer.events import SECOND, EventRef, Micros, Modality, Record, SessionMark, Window
from streamer.stages.headers import session_of, shown
from streamer.stages.times import EARLIEST, LATEST
from streamer.stages.wire.records import read_window

MARGIN = Micros(24 * 3_600 * SECOND)
"""Evidence lies beyond the events that it is of, by less than this."""


def accept_window(record: Record, partitions: int) -> Window | SessionMark:
    """What stands in `windows`, of `partitions` partitions. Raises BadRecord, naming the field."""
    session_of(record, partitions)
    what = read_window(record)
    if isinstance(what, SessionMark):
        _check_times("$", at=what.at)
        return what
    _check_times("$", start=what.start, end=what.end, trigger=what.trigger)
    if what.start >= what.end:
        raise _bad("$.end", "is not after $.start")
    if what.revision < 0:
        raise _bad("$.revision", f"{what.revision} is below 0")
    for number, ref in enumerate(what.manifest):
        _check(f"$.manifest[{number}]", ref, record.partition)
    return what


def _check(place: str, ref: EventRef, partition: int) -> None:
    """One line of the manifest: it stands in its modality's topic, in the session's own partition."""
    _check_times(place, start=ref.start, end=ref.end, arrival=ref.arrival)
    if ref.end < ref.start:
        raise _bad(f"{place}.end", "is before its start")
    if ref.origin.topic != ref.modality.value:
        raise _bad(f"{place}.origin.topic", f"{shown(ref.origin.topic)} is not {ref.modality.value}")
    if ref.origin.partition != partition:
        raise _bad(f"{place}.origin.partition", f"{ref.origin.partition} is not the window's own, {partition}")
    if ref.origin.offset < 0:
        raise _bad(f"{place}.origin.offset", f"{ref.origin.offset} is below 0")
    if ref.words and ref.modality is not Modality.TRANSCRIPTS:
        raise _bad(f"{place}.words", f"stand in a line of {ref.modality.value}")


def _check_times(place: str, **times: Micros) -> None:
    for name, at in times.items():
        if not EARLIEST + MARGIN <= at <= LATEST - MARGIN:
            raise _bad(f"{place}.{name}", "is too near to the end of the calendar")


def _bad(place: str, why: str) -> BadRecord:
    return BadRecord(Reason.BAD_PAYLOAD, f"value: {place}: {why}")
