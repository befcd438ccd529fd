"""A session's memory as the value of one record in `checkpoints`: msgspec JSON in columns, zlib. Decide keeps it below `LIMIT`.

Columns, because most of a long session is the same thing again and again: starts one hop apart, revision 0, one class.
"""

from __future__ import annotations

import zlib
from array import array
from itertools import accumulate, pairwise

import msgspec

from streamer.events import Micros, Pace, SessionId
from streamer.stages.memory import Detail, RuleMemory, Seen, SessionMemory
from streamer.topology import TOPIC

VERSION = 2
LIMIT = TOPIC["checkpoints"].limit
MAX_STATE = 64 << 20  # bytes after inflation: far above any real state, far below what would hurt


class Columns(msgspec.Struct, frozen=True):
    """Windows. `first` start and `gaps` to the next; `at` are the places of those seen among them, then their values in order.

    `kinds` names a pair of (labels, model, calibrated) in `tables`; `scores` holds the scores of all, as many each as labels.
    """

    first: int
    gaps: list[int]
    revisions: list[int]
    at: list[int]
    lengths: list[int]
    tables: list[tuple[tuple[str, ...], str, bool]]
    kinds: list[int]
    scores: list[float]
    ids: dict[int, str]
    details: dict[int, Detail]


class Frozen(msgspec.Struct, frozen=True):
    """All of a session, as written. An older program did not say `alerts`."""

    version: int
    session: SessionId
    offset: int
    arrival: Micros
    pace: Pace
    edge: Micros | None
    newest: Micros | None
    quiet: Micros | None
    worn: Micros | None
    digest: str
    measured: int
    grown: int
    recent: list[Micros]
    rules: dict[str, RuleMemory]
    windows: Columns
    alerts: int | None = None


def freeze(memory: SessionMemory) -> bytes:
    """One session's memory as the value of a record."""
    plain = {name: getattr(memory, name) for name in Frozen.__struct_fields__ if name not in ("version", "windows")}
    return zlib.compress(msgspec.json.encode(Frozen(version=VERSION, windows=_columns(memory), **plain)), 1)


def thaw(value: bytes) -> SessionMemory:
    """The memory that `freeze` wrote. Raises ValueError when the bytes are something else."""
    inflate = zlib.decompressobj()
    try:
        plain = inflate.decompress(value, MAX_STATE)
        if not inflate.eof:
            raise ValueError("state is cut short or larger than its bound")
        found = msgspec.json.decode(plain, type=Frozen)
    except (zlib.error, msgspec.MsgspecError) as exc:
        raise ValueError(f"not a state of decide: {exc}") from exc
    if found.version != VERSION:
        raise ValueError(f"state of decide has version {found.version}, this program reads version {VERSION}")
    try:
        return _memory(found)
    except (IndexError, OverflowError) as exc:
        raise ValueError(f"not a state of decide: its columns do not fit: {exc}") from exc


def _columns(memory: SessionMemory) -> Columns:
    tables: dict[tuple[tuple[str, ...], str, bool], int] = {}
    seen = [(place, memory.seen[Micros(start)]) for place, start in enumerate(memory.starts) if start in memory.seen]
    return Columns(
        first=memory.starts[0] if memory.starts else 0,
        gaps=[following - one for one, following in pairwise(memory.starts)],
        revisions=memory.revisions.tolist(),
        at=[place for place, _ in seen],
        lengths=[one.end - one.start for _, one in seen],
        kinds=[tables.setdefault((tuple(one.scores), one.model, one.calibrated), len(tables)) for _, one in seen],
        tables=list(tables),
        scores=[score for _, one in seen for score in one.scores.values()],
        ids={place: one.id for place, one in seen if one.id},
        details={place: one.detail for place, one in seen if one.detail},
    )


def _memory(found: Frozen) -> SessionMemory:
    columns = found.windows
    starts = list(accumulate(columns.gaps, initial=columns.first)) if columns.revisions else []
    plain = {name: getattr(found, name) for name in Frozen.__struct_fields__ if name not in ("version", "windows")}
    memory = SessionMemory(starts=array("q", starts), revisions=array("q", columns.revisions), **plain)
    scores = iter(columns.scores)
    for place, length, kind in zip(columns.at, columns.lengths, columns.kinds, strict=True):
        labels, model, calibrated = columns.tables[kind]
        memory.seen[Micros(starts[place])] = Seen(
            id=columns.ids.get(place, ""),
            start=Micros(starts[place]),
            end=Micros(starts[place] + length),
            scores=dict(zip(labels, scores, strict=False)),
            model=model,
            calibrated=calibrated,
            detail=columns.details.get(place),
        )
    memory.detailed = [Micros(starts[place]) for place in sorted(columns.details)]
    return memory
