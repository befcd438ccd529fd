"""Decide: scores in, alerts out. Per session and rule the episodes that hold now, and what was said of them before.

Laws:
1. Which episodes exist is a function of the latest revision of each window (stages/episodes.py). Order changes nothing in the end.
2. What is sent is a function of the records of one `scores` partition, one at a time: a replay gives the same (id, revision, content).
3. The first score of a (window, revision) counts; an older revision, and a record at or below the last applied offset, change nothing.
4. An alert keeps the id it was first sent with; an episode that overlaps a sent alert is that alert. One that no longer holds is retracted.
5. A cooldown counts sent alerts, retracted or not. It hides an episode while all of it lies within the cooldown of one (what lasts
   longer is sent then), but never a higher severity; and a severity once sent never falls.
6. Beyond the horizon (live: behind the newest window; recorded: at the end mark) scores are folded in, frozen, and never retracted.
7. An alert's open revisions are bounded: its announced peak rises in steps of `step`, it gains words once, it is upgraded once.
   A resolved alert is announced again only when its times or its peak change.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from streamer.config import AlignSettings
from streamer.errors import BadRecord, Reason
from streamer.events import SECOND, Alert, AlertState, Evidence, Micros, Pace, Scores, SessionId, SessionMark, Silence
from streamer.rules import Rule, Rules
from streamer.stages.announce import Cause, announce, close_orphans, retract
from streamer.stages.episodes import Episode, Levels, Point, fold
from streamer.stages.memory import (
    MAX_DETAILS,
    MAX_WINDOWS,
    RuleMemory,
    Seen,
    Sent,
    SessionMemory,
    detail_of,
    freeze,
    thaw,
)

MARGIN = Micros(60 * SECOND)
"""Decide's horizon beyond align's: how far newer windows may be ahead of the input that revises an older one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecideSettings:
    """Times in microseconds; `step` is how much a peak must rise to be announced again, in probability."""

    hop: Micros
    horizon: Micros
    step: float = 0.1

    @classmethod
    def beyond(cls, align: AlignSettings) -> DecideSettings:
        """Settings whose horizon exceeds align's."""
        return cls(hop=Micros(align.hop), horizon=Micros(align.horizon + align.length + MARGIN))


class Decider:
    """The state of many sessions. No clock, no I/O: `arrival` and `offset` come with the record."""

    def __init__(self, rules: Rules, settings: DecideSettings) -> None:
        self._rules, self._settings, self._digest = rules, settings, rules.digest
        self._sessions: dict[SessionId, SessionMemory] = {}

    def push(self, record: Scores | SessionMark, *, arrival: Micros, offset: int) -> list[Alert]:
        """Apply one record of `scores`; the alerts that it causes, in the order in which they are to be written."""
        memory = self._sessions.setdefault(record.session, SessionMemory(session=record.session))
        if offset <= memory.offset:
            return []
        memory.offset, memory.arrival, memory.pace = offset, max(memory.arrival, arrival), record.pace
        if isinstance(record, SessionMark):
            memory.quiet = record.at if memory.quiet is None else max(memory.quiet, record.at)
        elif not self._learn(memory, record):
            return []
        alerts = list(self._judge(memory, Cause(at=arrival, rules=self._digest)))
        self._freeze(memory, ended=isinstance(record, SessionMark) and record.why is Silence.END)
        return alerts

    def state(self, session: SessionId) -> bytes:
        """A session's memory as a record value; `restore` reads it."""
        return freeze(self._sessions[session])

    def restore(self, value: bytes) -> SessionId:
        """Take over a session's memory. Raises ValueError if the bytes are something else."""
        memory = thaw(value)
        self._sessions[memory.session] = memory
        return memory.session

    def offset(self, session: SessionId) -> int:
        """The last applied offset of a session; -1 when it is not known."""
        return self._sessions[session].offset if session in self._sessions else -1

    def silent_since(self, before: Micros) -> list[SessionId]:
        """Sessions whose last record arrived before this time."""
        return [session for session, memory in self._sessions.items() if memory.arrival < before]

    def forget(self, session: SessionId) -> None:
        """Drop a session's memory."""
        self._sessions.pop(session, None)

    def _learn(self, memory: SessionMemory, scores: Scores) -> bool:
        """Put a score in its place; False when it changes nothing (law 3, law 6)."""
        if memory.edge is not None and scores.start < memory.edge:
            return False
        place = bisect_left(memory.windows, scores.start, key=lambda seen: seen.start)
        known = place < len(memory.windows) and memory.windows[place].start == scores.start
        if known and memory.windows[place].revision >= scores.revision:
            return False
        memory.windows[place : place + known] = [self._seen(memory, scores)]
        return True

    def _seen(self, memory: SessionMemory, scores: Scores) -> Seen:
        values = {label: score.probability for label, score in scores.classes.items()}
        shown = any(sent.peak_at == scores.start for rule in memory.rules.values() for sent in rule.sent)
        wanted = shown or any(values.get(rule.label, 0.0) >= rule.stays for rule in self._rules.rules)
        return Seen(
            id=scores.window,
            start=scores.start,
            end=scores.end,
            revision=scores.revision,
            scores=values,
            model=scores.model,
            calibrated=scores.calibrated,
            detail=detail_of(scores) if wanted else None,
        )

    def _judge(self, memory: SessionMemory, cause: Cause) -> Iterator[Alert]:
        yield from close_orphans(memory, {rule.id for rule in self._rules.rules}, cause)
        for rule in self._rules.rules:
            mine = memory.rules.setdefault(rule.id, RuleMemory())
            episodes = [e for e in self._episodes(memory, rule) if e.longest * self._settings.hop >= rule.duration]
            pairs = match(episodes, mine.sent)
            matched = {id(sent) for _, sent in pairs if sent}
            for alert in mine.sent:
                if id(alert) not in matched and not alert.settled and alert.state is not AlertState.RETRACTED:
                    yield retract(memory, rule.id, alert, cause)
            for episode, sent in pairs:
                resolved = episode.closed or self._quiet(memory)
                yield from announce(memory, rule, episode, sent, resolved=resolved, step=self._settings.step, cause=cause)

    def _episodes(self, memory: SessionMemory, rule: Rule) -> list[Episode]:
        return fold(_points(memory.windows, rule), self._levels(rule), carry=memory.rules[rule.id].carry, before=memory.before)

    def _levels(self, rule: Rule) -> Levels:
        return Levels(threshold=rule.threshold, stays=rule.stays, hop=self._settings.hop)

    @staticmethod
    def _quiet(memory: SessionMemory) -> bool:
        """A mark says that nothing follows the newest window."""
        newest = memory.windows[-1].start if memory.windows else memory.before
        return memory.quiet is not None and (newest is None or newest <= memory.quiet)

    def _freeze(self, memory: SessionMemory, *, ended: bool) -> None:
        """Fold in what left the horizon (law 6), and settle the alerts that cannot change any more."""
        windows, hop = memory.windows, self._settings.hop
        over = bool(ended and memory.pace is Pace.RECORDED)
        count = max(0, len(windows) - MAX_WINDOWS)
        if over:
            count = len(windows)
        elif memory.pace is Pace.LIVE and windows:
            count = max(count, bisect_left(windows, windows[-1].start - self._settings.horizon, key=lambda seen: seen.start))
        if count:
            leaving, memory.windows = windows[:count], windows[count:]
            edge = Micros(leaving[-1].start + hop)
            for rule in self._rules.rules:
                self._settle(memory, rule, leaving, edge)
            memory.edge, memory.before = edge, leaving[-1].start
        if over:
            for mine in memory.rules.values():
                mine.carry, mine.sent = None, [_settled(sent) for sent in mine.sent]
        _drop_details(memory.windows)

    def _settle(self, memory: SessionMemory, rule: Rule, leaving: list[Seen], edge: Micros) -> None:
        mine = memory.rules[rule.id]
        done = fold(_points(leaving, rule), self._levels(rule), carry=mine.carry, before=memory.before)
        mine.carry = done[-1] if done and not done[-1].closed else None
        keep = mine.carry.start if mine.carry else edge
        for sent in mine.sent:
            if sent.last < min(edge, keep):
                sent.settled = True
        counts = Micros(edge - rule.cooldown)
        mine.sent = [sent for sent in mine.sent if not sent.settled or max(sent.until, sent.anchor + 1) > counts]
        for sent in mine.sent:
            if sent.settled:
                sent.evidence, sent.sources = Evidence(), ()


def checked(record: Scores | SessionMark) -> Scores | SessionMark:
    """The record, if its numbers can be judged. Raises BadRecord."""
    if isinstance(record, Scores):
        if record.end <= record.start:
            raise BadRecord(Reason.BAD_PAYLOAD, f"value: $.end: is not after $.start ({record.end} <= {record.start})")
        for label, score in record.classes.items():
            if not 0 <= score.probability <= 1:
                raise BadRecord(Reason.BAD_PAYLOAD, f"value: $.classes.{label[:64]}.probability: {score.probability} is not in 0..1")
    return record


def match(episodes: list[Episode], sent: list[Sent]) -> list[tuple[Episode, Sent | None]]:
    """Which episode is which sent alert (law 4): first by the start it was announced with, then by overlap, oldest first.

    An episode takes one alert and an alert one episode; the others are new, or to be retracted.
    """
    free = [alert for alert in sent if not alert.settled]
    owner = dict[int, Sent]()
    for within in (_has_anchor, _overlaps):
        for alert in list(free):
            for place, episode in enumerate(episodes):
                if place not in owner and within(episode, alert):
                    owner[place] = alert
                    free.remove(alert)
                    break
    return [(episode, owner.get(place)) for place, episode in enumerate(episodes)]


def _has_anchor(episode: Episode, sent: Sent) -> bool:
    return episode.start <= sent.anchor <= episode.last


def _overlaps(episode: Episode, sent: Sent) -> bool:
    return episode.start <= sent.last and sent.start <= episode.last


def _points(windows: list[Seen], rule: Rule) -> Iterator[Point]:
    """What a fold needs: positive windows, and the newest. The others count as windows without a score do: as negative."""
    label, stays, newest = rule.label, rule.stays, windows[-1] if windows else None
    other = (rule.upgrade.label or label) if rule.upgrade else label
    for seen in windows:
        score = seen.scores.get(label, 0.0)
        if score >= stays or seen is newest:
            yield Point(seen.start, seen.end, score, seen.scores.get(other, 0.0))


def _settled(sent: Sent) -> Sent:
    sent.settled = True
    return sent


def _drop_details(windows: list[Seen]) -> None:
    held = [seen for seen in windows if seen.detail is not None]
    for seen in held[: max(0, len(held) - MAX_DETAILS)]:
        seen.detail = None
