"""Steps: one thing that happens, as plain data with its words. Each can happen whatever happened before, so any part of a list can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from streamer.events import SECOND, Message, Micros
from streamer.stages.times import parse_time
from tests.simulator.broker import Fault
from tests.stages.align_streams import NOON

WHO = {"frames": "camera", "audio": "microphone", "transcripts": "recognizer"}
WHAT = {"frames": "a frame", "audio": "a chunk", "transcripts": "words"}


def clock(at: int) -> str:
    """Seconds after noon."""
    return f"{(at - NOON) / SECOND:g} s"


@dataclass(frozen=True, slots=True)
class Append:
    """Somebody writes a record; `kind` says what is wrong with it, if anything is."""

    arrival: Micros
    message: Message
    kind: str = "event"

    def words(self) -> str:
        """One line of the story."""
        topic, headers = self.message.topic, dict(self.message.headers)
        who = f"{WHO[topic]} `{(headers.get('ce_source') or b'?').decode()}` of `{self.message.key.decode()}`"
        start, end = (_time(headers.get(name)) for name in ("ce_time", "ce_endtime"))
        kind = (headers.get("ce_type") or b"").decode()
        if kind == "streamer.end":
            what = f"says that it ends at {start}"
        elif kind == "streamer.progress":
            what = f"says that nothing more comes before {start}"
        else:
            what = f"writes {WHAT[topic]} of {start}" + (f" to {end}" if end != "?" else "")
        odd = "" if self.kind in ("event", "mark", "end") else f" ({self.kind})"
        return f"{who} {what}{odd}; it arrives at {clock(self.arrival)}"


def _time(raw: bytes | None) -> str:
    return clock(parse_time(raw)) if raw else "?"


@dataclass(frozen=True, slots=True)
class Wait:
    """Time passes."""

    until: Micros

    def words(self) -> str:
        """One line of the story."""
        return f"time passes until {clock(self.until)}"


@dataclass(frozen=True, slots=True)
class Read:
    """A worker reads one batch: up to so many records of each topic, in the order of arrival (`order` < 3) or topic by topic."""

    role: str
    worker: str
    counts: Mapping[str, int]
    order: int = 0
    fault: Fault | None = None

    def words(self) -> str:
        """One line of the story."""
        counts = ", ".join(f"{count} of {topic}" for topic, count in self.counts.items() if count) or "nothing"
        return f"{self.role} {self.worker} reads (up to) {counts}{_told(self.fault)}"


@dataclass(frozen=True, slots=True)
class Save:
    """A worker writes its checkpoints."""

    role: str
    worker: str
    fault: Fault | None = None

    def words(self) -> str:
        """One line of the story."""
        return f"{self.role} {self.worker} saves{_told(self.fault)}"


@dataclass(frozen=True, slots=True)
class Crash:
    """kill -9."""

    role: str
    worker: str

    def words(self) -> str:
        """One line of the story."""
        return f"{self.role} {self.worker} is killed"


@dataclass(frozen=True, slots=True)
class Rebalance:
    """The group gives each partition to a worker. Those in `asleep` do not learn of it: they go on writing."""

    role: str
    owners: tuple[str, ...]
    asleep: frozenset[str] = frozenset()

    def words(self) -> str:
        """One line of the story."""
        given = ", ".join(f"partition {number} to {owner}" for number, owner in enumerate(self.owners))
        unaware = f"; {' and '.join(sorted(self.asleep))} does not know it yet and goes on" if self.asleep else ""
        return f"the group gives {self.role}'s {given}{unaware}"


@dataclass(frozen=True, slots=True)
class Notice:
    """A replaced worker learns of it; `save`: not before it has written its last checkpoint."""

    role: str
    worker: str
    save: bool

    def words(self) -> str:
        """One line of the story."""
        return f"{self.role} {self.worker} learns whose the partitions are{', and saves first' if self.save else ''}"


@dataclass(frozen=True, slots=True)
class Retain:
    """Retention takes the first records of a partition, but for the last few."""

    topic: str
    partition: int
    keep: int

    def words(self) -> str:
        """One line of the story."""
        return f"retention leaves {self.keep} records of {self.topic}/{self.partition}"


Step = Append | Wait | Read | Save | Crash | Rebalance | Notice | Retain


def _told(fault: Fault | None) -> str:
    if fault is None:
        return ""
    what = {"crash": "it is killed", "lost": "the broker's answer is lost", "late": "what follows arrives with its next step"}[fault.kind]
    return f"; {what} after {fault.after} writes"
