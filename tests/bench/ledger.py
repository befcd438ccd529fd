"""What was produced against what was written: a list kept outside the pipeline, by arithmetic alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from streamer.events import SECOND, Event, Micros, Record, Window
from streamer.stages.envelope import read_head
from tests.bench.load import Load

LENGTH, HOP = 2 * SECOND, SECOND  # align's defaults

Key = tuple[str, Micros]
Seen = frozenset[tuple[str, str, Micros, Micros]]


def produced(load: Load, base: Micros) -> dict[Key, Seen]:
    """(session, start of a window) -> the events that overlap it: (modality, source, start, end)."""
    found: dict[Key, set[tuple[str, str, Micros, Micros]]] = {}
    for number in range(load.seconds):
        for session, modality, source, start, end in events(load, Micros(base + number * SECOND), number):
            for window in windows_of(start, end):
                found.setdefault((session, window), set()).add((modality, source, start, end))
    return {key: frozenset(seen) for key, seen in found.items()}


def events(load: Load, at: Micros, number: int) -> Iterable[tuple[str, str, str, Micros, Micros]]:
    """What stands in the records of one second."""
    for message in load.messages(at, number):
        record = Record(
            topic=message.topic,
            partition=0,
            offset=0,
            arrival=at,
            key=message.key,
            value=message.value,
            headers=message.headers,
        )
        head = read_head(record, 1)
        assert isinstance(head, Event)
        yield head.track.session, head.track.modality.value, head.track.source, head.start, head.end


def windows_of(start: Micros, end: Micros) -> Iterable[Micros]:
    """Starts of the windows that [start, end) overlaps; an event without length lies in those that contain it."""
    first = (start - LENGTH) // HOP * HOP + HOP
    last = start if end == start else end - 1
    return (Micros(at) for at in range(first, last + 1, HOP))


def compare(written: Iterable[Window], expected: dict[Key, Seen]) -> dict[str, int]:
    """Windows expected, missing, whose final manifest differs, that nobody expected, and (id, revision) written twice."""
    latest: dict[Key, Window] = {}
    times = Counter[tuple[str, int]]()
    for window in written:
        times[window.id, window.revision] += 1
        key = (window.session, window.start)
        if key not in latest or window.revision > latest[key].revision:
            latest[key] = window
    final = {
        key: frozenset((ref.modality.value, ref.source, ref.start, ref.end) for ref in window.manifest) for key, window in latest.items()
    }
    return {
        "windows": len(expected),
        "missing": len(expected.keys() - final.keys()),
        "differ": sum(final[key] != seen for key, seen in expected.items() if key in final),
        "unexpected": len(final.keys() - expected.keys()),
        "twice": sum(count > 1 for count in times.values()),
        "revisions": sum(times.values()) - len(final),
    }
