"""Decide: scores in, alerts out. Per session and rule the episodes that hold now, and what was said of them before.

Laws:
1. Which episodes exist is a function of the latest revision of each window (stages/episodes.py). Order changes nothing in the end.
2. What is sent is a function of the records of one `scores` partition, one at a time: a replay gives the same (id, revision, content).
   What a worker with other rules sent meanwhile is taken over (stages/adopt.py).
3. The first score of a (window, revision) counts; an older revision, a record at or below the last applied offset, and a score
   that may not alert change nothing.
4. An alert keeps the id it was first sent with; an episode that overlaps a sent alert is that alert. One that no longer holds is retracted.
5. A cooldown counts sent alerts, retracted or not. It hides an episode while all of it lies within the cooldown of one (what lasts
   longer is sent then), but never a higher severity; and a severity once sent never falls.
6. Beyond the horizon (behind the newest window; recorded: also at the end mark; and what does not fit in the state record) scores
   are folded in, frozen, and never retracted. Rules change at the newest window: what an old rule judged is frozen there for it.
7. An alert's open revisions are bounded: its announced peak rises in steps of `step`, it gains words once, it is upgraded once.
   A resolved alert is announced again only on an occasion (stages/announce.py), when its times, its peak by a step, or its first
   words changed; at the end mark, whatever changed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import msgspec
from msgspec.structs import replace as replace_struct

from streamer.config import AlignSettings
from streamer.errors import BadRecord, Reason
from streamer.events import SECOND, Alert, Evidence, Micros, Pace, Scores, SessionId, SessionMark, Silence
from streamer.rules import Rule, Rules
from streamer.stages.adopt import adopt
from streamer.stages.announce import Cause
from streamer.stages.frozen import LIMIT, freeze, thaw
from streamer.stages.line import Line, settle
from streamer.stages.memory import MAX_WINDOWS, Judged, RuleMemory, SessionMemory, class_of, seen_of
from streamer.topology import HOUR

MARGIN = Micros(60 * SECOND)
"""Decide's horizon beyond align's: how far newer windows may be ahead of the input that revises an older one."""
TWO_DAYS, TWO_SECONDS = Micros(48 * HOUR), Micros(2 * SECOND)
FEW = 32
"""Windows, and details, that are kept while others can be shed."""
SMALL = 32
"""Bytes of a window that matters to no rule, at most; a rule without alerts has less than `FEW` times that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecideSettings:
    """Times in microseconds, `length` a window's; `step` is how much a peak must rise to be announced again, in probability.

    `horizon` is for live sessions, `recorded` for recorded ones; `room` is the most bytes that a session's state may have.
    """

    hop: Micros
    horizon: Micros
    recorded: Micros = TWO_DAYS
    length: Micros = TWO_SECONDS
    room: int = LIMIT
    step: float = 0.1

    @classmethod
    def beyond(cls, align: AlignSettings) -> DecideSettings:
        """Settings whose horizons exceed align's: a recorded session reaches as far before its first event as after it."""
        more = align.length + MARGIN
        return cls(
            hop=Micros(align.hop),
            horizon=Micros(align.horizon + more),
            recorded=Micros(2 * align.recorded_span + more),
            length=Micros(align.length),
        )


class Decider:
    """The state of many sessions. No clock, no I/O: `arrival` and `offset` come with the record.

    `version` is that of the rules. `beyond` counts scores that came when their window was frozen, `forced` windows frozen because the
    state had no room.
    """

    def __init__(self, rules: Rules, settings: DecideSettings) -> None:
        self._rules = {rule.id: rule for rule in rules.rules}
        self._judged = {rule.id: _judged(rule, settings.hop) for rule in rules.rules}
        self._settings, self._digest, self._floors = settings, f"{rules.digest}.{settings.hop}", _floors(rules)
        self.version = rules.digest
        self._sessions: dict[SessionId, SessionMemory] = {}
        self._lines: dict[SessionId, dict[str, Line]] = {}
        self.keeps = Micros(max(HOUR, *(rule.cooldown for rule in rules.rules)))
        self.beyond = self.forced = 0

    def push(self, record: Scores | SessionMark, *, arrival: Micros, offset: int) -> list[Alert]:
        """Apply one record of `scores`; the alerts that it causes, in the order in which they are to be written."""
        memory = self._sessions.setdefault(record.session, SessionMemory(session=record.session))
        if offset <= memory.offset:
            return []
        memory.offset, memory.arrival, memory.pace = offset, max(memory.arrival, arrival), record.pace
        if isinstance(record, Scores) and not record.may_alert:
            return []
        return list(self._apply(memory, record, Cause(at=arrival, rules=self.version)))

    def close(self, session: SessionId) -> list[Alert]:
        """Before a session is forgotten: what is open is resolved, at the time at which it was due to be forgotten."""
        memory = self._sessions[session]
        cause = Cause(at=Micros(memory.arrival + self.keeps), rules=self.version)
        return [*self._turn(memory, cause), *(alert for line in self._lines_of(memory).values() for alert in line.end(cause))]

    def knows(self, told: Alert) -> bool:
        """Whether it was said here, or taken over."""
        memory = self._sessions.get(told.session)
        mine = memory.rules.get(told.rule) if memory else None
        return mine is not None and any(sent.id == told.id and sent.revision >= told.revision for sent in mine.sent)

    def adopt(self, alerts: Iterable[Alert]) -> set[SessionId]:
        """Take over what others sent; the sessions that it changes. Of two contents of one revision the first counts."""
        by_id, changed = defaultdict[str, list[Alert]](list), set[SessionId]()
        for alert in alerts:
            if all(alert.revision != other.revision for other in by_id[alert.id]):
                by_id[alert.id].append(alert)
        for told in by_id.values():
            last = told[-1]
            memory = self._sessions.setdefault(last.session, SessionMemory(session=last.session, arrival=last.at, pace=last.pace))
            if adopt(memory, told, self._watched(last), self._settings.hop, self._settings.length):
                memory.grown += sum(len(msgspec.json.encode(alert)) for alert in told)
                self._lines.pop(last.session, None)
                changed.add(last.session)
        return changed

    def _watched(self, told: Alert) -> str:
        """What the rule that sent it watched, as far as ours can tell."""
        rule = self._rules.get(told.rule)
        return rule.watched if rule and rule.label == told.label else told.label

    def review(self, session: SessionId) -> list[Alert]:
        """After `adopt`, where all records that the alerts are due to were judged: what these rules did not find is taken back.

        What they did find is said again where the other rules' last word on it differs: no record need come that would be an occasion.
        """
        memory = self._sessions[session]
        cause = Cause(at=memory.arrival, rules=self.version, occasion=True)
        turned = list(self._turn(memory, cause))
        lines = self._lines_of(memory).values()
        return turned + [alert for line in lines for alert in line.look(set(), cause, quiet=_quiet(memory))]

    def state(self, session: SessionId, *, alerts: int | None = None) -> bytes:
        """A session's memory as a record value; `restore` reads it. `alerts`: up to where it knows what stands in that topic."""
        self._sessions[session].alerts = alerts
        return freeze(self._sessions[session])

    def restore(self, value: bytes) -> SessionId:
        """Take over a session's memory. Raises ValueError if the bytes are something else."""
        memory = thaw(value)
        self.forget(memory.session)
        self._sessions[memory.session] = memory
        return memory.session

    def reached(self, session: SessionId) -> int | None:
        """The `alerts` that a session's state was saved with."""
        return self._sessions[session].alerts

    def foreign(self, session: SessionId) -> bool:
        """Whether other rules judged a session's state last."""
        return self._sessions[session].digest not in ("", self._digest)

    def offset(self, session: SessionId) -> int:
        """The last applied offset of a session; -1 when it is not known."""
        return self._sessions[session].offset if session in self._sessions else -1

    def silent_since(self, before: Micros) -> list[SessionId]:
        """Sessions whose last record arrived before this time."""
        return [session for session, memory in self._sessions.items() if memory.arrival < before]

    def forget(self, session: SessionId) -> None:
        """Drop a session's memory."""
        self._sessions.pop(session, None)
        self._lines.pop(session, None)

    # one record

    def _apply(self, memory: SessionMemory, record: Scores | SessionMark, cause: Cause) -> Iterator[Alert]:
        yield from self._turn(memory, cause)
        lines, start, over = self._lines_of(memory).values(), None, False
        if isinstance(record, SessionMark):
            memory.quiet = record.at if memory.quiet is None else max(memory.quiet, record.at)
            cause = replace(cause, occasion=True, final=record.why is Silence.END)
            over = cause.final and memory.pace is Pace.RECORDED
        else:
            start, newest = record.start, memory.newest
            if not self._learn(memory, record):
                return
            cause = replace(cause, occasion=newest is None or start > newest or _quiet(memory))
        for line in lines:
            yield from line.judge(start, cause, quiet=_quiet(memory))
        yield from self._leave(memory, over=over, cause=cause)
        memory.wear(lambda at: any(line.peaks(at) for line in lines))
        if memory.measured + memory.grown > self._settings.room:
            yield from self._shed(memory, cause)

    def _learn(self, memory: SessionMemory, scores: Scores) -> bool:
        """Put a score in its place; False when it changes nothing (law 3, law 6)."""
        if memory.edge is not None and scores.start < memory.edge:
            self.beyond += 1
            return False
        if not memory.learn(scores.start, scores.revision):
            return False
        known = scores.start in memory.seen
        found = {name: value for name in self._floors if (value := _value(scores, name)) is not None}
        values = {label: value for label, value in found.items() if known or value >= self._floors[label]}
        if known or any(values.get(rule.watched, 0.0) >= rule.stays for rule in self._rules.values()):
            seen = seen_of(scores, values)
            memory.show(seen)
            memory.grown += len(msgspec.json.encode(seen))
        memory.grown += SMALL
        return True

    # rules change

    def _turn(self, memory: SessionMemory, cause: Cause) -> Iterator[Alert]:
        """Rules that are not those that judged so far judge from the newest window on (law 6)."""
        if memory.digest == self._digest:
            return
        for name, mine in memory.rules.items():
            if mine.judged != self._judged.get(name) and mine.judged.digest:
                yield from self._turn_rule(memory, name, mine, cause)
        for name, judged in self._judged.items():
            if name not in memory.rules or memory.rules[name].judged != judged:
                mine = memory.rules.setdefault(name, RuleMemory(judged=judged))
                mine.judged, mine.edge = judged, _after(memory, self._settings.hop)
                memory.grown += FEW * SMALL
        memory.digest = self._digest
        self._lines.pop(memory.session, None)

    def _turn_rule(self, memory: SessionMemory, name: str, mine: RuleMemory, cause: Cause) -> Iterator[Alert]:
        """End what a rule judged until now. An open episode goes on if the rule still watches the same class."""
        rule, edge = self._rules.get(name), _after(memory, mine.judged.hop)
        if rule is None or rule.label != class_of(mine.judged.label):
            yield from settle(memory, name, mine, None, cause)
            mine.judged, mine.carry, mine.best = replace_struct(mine.judged, digest=""), None, None
        elif edge is not None:
            yield from Line(memory, mine, rule, step=self._settings.step).freeze(edge, cause)
            mine.carry = mine.carry and replace_struct(mine.carry, second=0.0)

    # what leaves

    def _leave(self, memory: SessionMemory, *, over: bool, cause: Cause) -> Iterator[Alert]:
        """Freeze what left the horizon (law 6)."""
        count = len(memory.starts) if over else 0
        if memory.newest is not None and not over:
            horizon = self._settings.horizon if memory.pace is Pace.LIVE else self._settings.recorded
            count = bisect_left(memory.starts, memory.newest - horizon)
            if (forced := len(memory.starts) - count - MAX_WINDOWS) > 0:
                self.forced, count = self.forced + forced, count + forced
        if count:
            yield from self._fold(memory, count, cause)
        if over:
            for line in self._lines_of(memory).values():
                yield from line.end(cause)

    def _fold(self, memory: SessionMemory, count: int, cause: Cause) -> Iterator[Alert]:
        """Fold the `count` oldest windows in, and settle the alerts that cannot change any more."""
        edge = Micros(memory.starts[count - 1] + self._settings.hop)
        for line in self._lines_of(memory).values():
            yield from line.freeze(edge, cause)
        memory.edge = edge
        memory.leave(count)
        for name, mine in list(memory.rules.items()):
            counts = edge - mine.judged.cooldown
            mine.sent = [sent for sent in mine.sent if not sent.settled or max(sent.until, sent.anchor + 1) > counts]
            if not mine.sent and name not in self._rules:
                del memory.rules[name]

    def _shed(self, memory: SessionMemory, cause: Cause) -> Iterator[Alert]:
        """Make the state fit, with room to grow: the oldest evidence goes first, then the oldest windows, then what alerts show."""
        while (size := len(freeze(memory))) > self._settings.room * 3 // 4:
            if len(memory.detailed) > FEW:
                for start in memory.detailed[: len(memory.detailed) // 2]:
                    memory.blank(start)
            elif len(memory.starts) > FEW:
                self.forced += (count := len(memory.starts) // 4)
                yield from self._fold(memory, count, cause)
            elif not _strip(memory):
                break
        memory.measured, memory.grown = size, 0

    def _lines_of(self, memory: SessionMemory) -> dict[str, Line]:
        if memory.session not in self._lines:
            self._lines[memory.session] = {
                name: Line(memory, memory.rules[name], rule, step=self._settings.step) for name, rule in self._rules.items()
            }
        return self._lines[memory.session]


def checked(record: Scores | SessionMark) -> Scores | SessionMark:
    """The record, if its times can be judged. Raises BadRecord."""
    if isinstance(record, Scores) and record.end <= record.start:
        raise BadRecord(Reason.BAD_PAYLOAD, f"value: $.end: is not after $.start ({record.end} <= {record.start})")
    return record


def _quiet(memory: SessionMemory) -> bool:
    """A mark says that nothing follows the newest window."""
    return memory.quiet is not None and (memory.newest is None or memory.newest <= memory.quiet)


def _after(memory: SessionMemory, hop: Micros) -> Micros | None:
    """Where windows begin that are newer than all so far."""
    return None if memory.newest is None else Micros(memory.newest + hop)


def _judged(rule: Rule, hop: Micros) -> Judged:
    second = rule.upgrade.label if rule.upgrade and rule.upgrade.label else rule.watched
    return Judged(
        digest=rule.digest,
        label=rule.watched,
        second=second,
        threshold=rule.threshold,
        stays=rule.stays,
        cooldown=Micros(rule.cooldown),
        hop=hop,
    )


def _value(scores: Scores, watched: str) -> float | None:
    """What a window scores in what a rule watches: 0 where it lacks a modality that it must have. None: no such class."""
    _, *needs = watched.split("@")
    score = scores.classes.get(class_of(watched))
    if score is None:
        return None
    return score.probability if all(name in score.contributions for name in needs) else 0.0


def _floors(rules: Rules) -> dict[str, float]:
    """What rules watch, and the least score of each that any of them needs."""
    floors: dict[str, float] = {}
    for rule in rules.rules:
        floors[rule.watched] = min(rule.stays, floors.get(rule.watched, 1.0))
        if rule.upgrade and rule.upgrade.label:
            floors[rule.upgrade.label] = min(rule.upgrade.threshold, floors.get(rule.upgrade.label, 1.0))
    return floors


def _strip(memory: SessionMemory) -> bool:
    """Drop the evidence of the session's last windows, and of its alerts. False: there was none."""
    every = (sent for mine in memory.rules.values() for sent in mine.sent)
    alerts = [sent for sent in every if sent.evidence != Evidence() or sent.sources or sent.explanation]
    for start in list(memory.detailed):
        memory.blank(start)
    for sent in alerts:
        sent.strip()
    return bool(alerts)
