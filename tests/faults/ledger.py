"""The ledger against what the pipeline wrote: every acknowledged record accounted for, every window as the slow reference has it.

The reference is that of the aligner's own tests (`tests/stages/align_streams.py`): each record judged alone by its partition's
running clock, each window against every event that fits. It knows nothing of processes, crashes or brokers.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from streamer.config import AlignSettings
from streamer.events import DeadLetter, Event, EventRef, Late, Mark, Micros, Modality, Origin, SessionId, Track, Window
from tests.faults.feed import Line
from tests.stages.align_streams import Log, judge, reference

Key = tuple[str, int]
Ref = tuple[str, str, str, int, int, int]
Manifest = frozenset[Ref]


def read_ledger(path: Path) -> list[Line]:
    """All lines, in the order of the log."""
    lines = [Line(**json.loads(text)) for text in path.read_text().splitlines()]
    return sorted(lines, key=lambda line: (line.topic, line.partition, line.offset))


def origin(line: Line) -> Origin:
    """Where the record stands."""
    return Origin(topic=line.topic, partition=line.partition, offset=line.offset)


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What must come of a ledger. `exact`: no write was in doubt, so it is known which copy of an event came first."""

    lines: list[Line]
    windows: dict[Key, Manifest]
    late: set[Origin]
    dead: set[Origin]
    exact: bool


def expected(lines: list[Line], settings: AlignSettings) -> Expected:
    """By the slow reference, one partition number at a time."""
    exact = not any(line.doubts for line in lines)
    logs: dict[int, Log] = defaultdict(Log)
    for line in lines:
        if line.kind != "broken":
            logs[line.partition]._append(item(line))
    windows: dict[Key, Manifest] = {}
    late, dead = set[Origin](), {origin(line) for line in lines if line.kind == "broken"}
    for log in logs.values():
        verdict = judge(log, settings)
        late |= {event.origin for event in verdict["late"]}
        dead |= {event.origin for event in verdict["future"]}
        windows |= {key: manifest(refs, exact=exact) for key, refs in reference(log, settings).items()}
    return Expected(lines=lines, windows=windows, late=late, dead=dead, exact=exact)


def item(line: Line) -> Event | Mark:
    """As the reference takes it."""
    track = Track(session=SessionId(line.session), modality=Modality(line.modality), source=line.source)
    arrival, where = Micros(line.arrival), origin(line)
    if line.kind == "mark":
        return Mark(track=track, until=Micros(line.start), final=line.final, arrival=arrival, origin=where)
    return Event(track=track, id=line.id, start=Micros(line.start), end=Micros(line.end), arrival=arrival, origin=where)


def manifest(refs: Iterable[EventRef], *, exact: bool) -> Manifest:
    """What is compared of a manifest: which events, and, where it is known, which copy of each."""
    return frozenset((r.modality.value, r.source, r.id, r.start, r.end, r.origin.offset if exact else 0) for r in refs)


@dataclass(kw_only=True)
class Verdict:
    """Counts. Those of `wrong` must be 0; `missed` names some of what is behind them.

    `repeated`: (id, revision) that stand twice in `windows`, with the same content or another; a reader takes the first.
    """

    records: int = 0
    events: int = 0
    duplicates: int = 0
    marks: int = 0
    late: int = 0
    dead: int = 0
    windows: int = 0
    revisions: int = 0
    repeated: int = 0
    lost: int = 0
    missing: int = 0
    differ: int = 0
    unexpected: int = 0
    misjudged: int = 0
    missed: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> dict[str, int]:
        """Lost records; windows that are missing, differ or are nobody's; records wrongly late or dead-lettered, or wrongly not."""
        return {name: getattr(self, name) for name in ("lost", "missing", "differ", "unexpected", "misjudged")}

    def row(self) -> dict[str, int]:
        """For the record."""
        return {name: value for name, value in asdict(self).items() if name != "missed"}


def verdict(want: Expected, windows: Iterable[Window], late: Iterable[Late], dead: Iterable[DeadLetter]) -> Verdict:
    """Hold what was written against the ledger."""
    latest, times = _latest(windows)
    found = {key: manifest(window.manifest, exact=want.exact) for key, window in latest.items()}
    late_found, dead_found = {one.origin for one in late}, {one.origin for one in dead}
    aligned = {(key[0], *ref[:3]) for key, refs in found.items() for ref in refs}
    events = [line for line in want.lines if line.kind == "event"]
    lost = [
        line
        for line in want.lines
        if line.kind != "mark" and origin(line) not in late_found | dead_found and _identity(line) not in aligned
    ]
    missing = [key for key in want.windows if key not in found]
    differ = [key for key, refs in want.windows.items() if key in found and found[key] != refs]
    misjudged = (want.late ^ late_found) | (want.dead ^ dead_found)
    return Verdict(
        records=len(want.lines),
        events=len({_identity(line) for line in events}),
        duplicates=len(events) - len({_identity(line) for line in events}),
        marks=sum(line.kind == "mark" for line in want.lines),
        late=len(late_found),
        dead=len(dead_found),
        windows=len(want.windows),
        revisions=len(times) - len(latest),
        repeated=sum(count > 1 for count in times.values()),
        lost=len(lost),
        missing=len(missing),
        differ=len(differ),
        unexpected=len(found.keys() - want.windows.keys()),
        misjudged=len(misjudged),
        missed=[
            *(f"lost {line}" for line in lost[:5]),
            *(f"missing {key}" for key in missing[:5]),
            *(f"differs {key}: {_difference(want.windows[key], found[key])} (written {latest[key].revision})" for key in differ[:5]),
            *(f"unexpected {key}" for key in sorted(found.keys() - want.windows.keys())[:5]),
            *(f"misjudged {one}" for one in sorted(misjudged, key=str)[:5]),
        ],
    )


def _difference(want: Manifest, found: Manifest) -> str:
    return f"lacks {sorted(want - found)[:3]}, has {sorted(found - want)[:3]} too much"


def _identity(line: Line) -> tuple[str, str, str, str]:
    return line.session, line.modality, line.source, line.id


def _latest(windows: Iterable[Window]) -> tuple[Mapping[Key, Window], Counter[tuple[str, int]]]:
    """The last revision of each window, of each the first that was written; and how often each stands there."""
    latest: dict[Key, Window] = {}
    times = Counter[tuple[str, int]]()
    for window in windows:
        times[window.id, window.revision] += 1
        key = (window.session, window.start)
        if key not in latest or window.revision > latest[key].revision:
            latest[key] = window
    return latest, times
