"""One rule in one session: what it finds now, what was said of that, and what is still to be said of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from streamer.events import Alert, AlertState, Micros
from streamer.rules import Rule
from streamer.stages.announce import Cause, announce, begin, edge_of, retract, say
from streamer.stages.episodes import Episode, Levels, Point
from streamer.stages.memory import Judged, RuleMemory, Seen, Sent, SessionMemory
from streamer.stages.naming import concerned, has_anchor, match
from streamer.stages.timeline import Change, Timeline

Pairs = list[tuple[Episode, Sent | None]]


class Line:
    """Works on `mine`, the rule's part of `memory`. What else it holds follows from them, and is built anew after a restart.

    `owner`: the alert of each episode that has one, by the episode's start. `pending`: alerts to be looked at on the next
    occasion, by id; a look at any other would find nothing to say. An alert that is in `pending` alone has no episode (yet);
    `strange` ones are of the class that the rule once watched, and were taken over since.
    """

    def __init__(self, memory: SessionMemory, mine: RuleMemory, rule: Rule, *, step: float) -> None:
        self.memory, self.mine, self.rule, self.step = memory, mine, rule, step
        judged, edge = mine.judged, edge_of(memory, mine)
        seen = [memory.seen[start] for start in sorted(memory.seen) if start >= edge]
        levels = Levels(threshold=judged.threshold, stays=judged.stays, hop=judged.hop)
        self.timeline = Timeline(levels, mine.carry, (_point(judged, one) for one in seen))
        unsettled = [sent for sent in mine.sent if not sent.settled]
        self.strange = [sent for sent in unsettled if sent.label != rule.label]
        held = [sent for sent in unsettled if sent.label == rule.label and sent.state is not AlertState.RETRACTED]
        self.owner = {sent.start: sent for sent in held if (found := self.timeline.at(sent.start)) and found.start == sent.start}
        self.pending = {sent.id: sent for sent in held}

    def judge(self, start: Micros | None, cause: Cause, *, quiet: bool) -> Iterator[Alert]:
        """What there is to say after a revision of the window at `start`, or after a mark. `quiet`: nothing follows for now."""
        looked = set[str]()
        if start is not None and start >= edge_of(self.memory, self.mine):
            seen = self.memory.seen.get(start)
            change = self.timeline.put(start, _point(self.mine.judged, seen) if seen else None)
            pairs, gone = self._renamed(change) if change else (self._holding(start), [])
            for lost in gone:
                yield self._retract(lost, cause)
            for episode, known in pairs:
                if sent := known or begin(self.memory, self.mine, self.rule, episode):
                    looked.add(sent.id)
                    yield from self._announce(episode, sent, cause, quiet=quiet)
        if cause.final:
            self.pending |= {sent.id: sent for sent in self.owner.values()}
        if cause.occasion:
            yield from self.look(looked, cause, quiet=quiet)

    def look(self, looked: set[str], cause: Cause, *, quiet: bool) -> Iterator[Alert]:
        """Look at the other alerts of which there may be something to say."""
        for sent in _in_order(sent for name, sent in self.pending.items() if name not in looked):
            if episode := self._owned(sent):
                yield from self._announce(episode, sent, cause, quiet=quiet)
        yield from self._review(cause, quiet=quiet)

    def _review(self, cause: Cause, *, quiet: bool) -> Iterator[Alert]:
        """Take back what other rules sent (stages/adopt.py) and these do not find; end what is of another class."""
        for sent in self.strange:
            yield from self._end(sent, cause)
        self.strange = []
        for sent in _in_order(self.pending.values()):
            if self._owned(sent) is None and self._unfounded(sent, quiet=quiet):
                yield from self._take_back(sent, cause)

    def _owned(self, sent: Sent) -> Episode | None:
        """The episode that the alert is of, if it is of one."""
        episode = self.timeline.at(sent.start)
        return episode if episode and self.owner.get(episode.start) is sent else None

    def _unfounded(self, sent: Sent, *, quiet: bool) -> bool:
        """All windows of an alert without an episode were judged."""
        newest, hop = self.memory.newest, self.mine.judged.hop
        near = self.timeline.between(sent.start, sent.last)  # one of them may yet become long enough
        silent = quiet and self.memory.quiet is not None and sent.last <= self.memory.quiet
        return silent or (newest is not None and newest > sent.last and all(episode.closed(newest, hop) for episode in near))

    def _take_back(self, sent: Sent, cause: Cause) -> Iterator[Alert]:
        """Before the edge these rules judge nothing: there it only ends."""
        if sent.last >= edge_of(self.memory, self.mine):
            yield self._retract(sent, cause)
            return
        yield from self._end(sent, cause)

    def _end(self, sent: Sent, cause: Cause) -> Iterator[Alert]:
        self.pending.pop(sent.id, None)
        if sent.open:
            yield say(self.memory, self.rule.id, sent, AlertState.RESOLVED, cause)
        sent.settle()

    def freeze(self, edge: Micros, cause: Cause) -> Iterator[Alert]:
        """Windows before `edge` leave, and change no alert any more."""
        edge = max(edge, self.mine.edge or edge)
        self.timeline.freeze(edge)
        self.mine.carry = carry = self.timeline.carry
        self.mine.best = self._best(carry) if carry and carry.start not in self.owner else None
        yield from self._settle(carry.start if carry else edge, cause)

    def end(self, cause: Cause) -> Iterator[Alert]:
        """Nothing goes on: what is open is resolved, and all is settled."""
        self.timeline = Timeline(self.timeline.levels)
        self.mine.carry = self.mine.best = None
        yield from self._settle(None, cause)

    def peaks(self, start: Micros) -> bool:
        """Whether a window is the peak of an episode."""
        episode = self.timeline.at(start)
        return episode is not None and episode.peak_at == start

    def _announce(self, episode: Episode, sent: Sent, cause: Cause, *, quiet: bool) -> Iterator[Alert]:
        newest, hop = self.memory.newest, self.mine.judged.hop
        resolved = quiet or (newest is not None and episode.closed(newest, hop))
        yield from announce(self.memory, self.mine, self.rule, episode, sent, resolved=resolved, step=self.step, cause=cause)
        self.owner[episode.start] = sent
        if cause.occasion and resolved:
            self.pending.pop(sent.id, None)
        else:
            self.pending[sent.id] = sent
        size = len(msgspec.json.encode(sent))
        self.memory.grown += max(0, size - sent.size)
        sent.size = size

    def _retract(self, sent: Sent, cause: Cause) -> Alert:
        self.pending.pop(sent.id, None)
        return retract(self.memory, self.rule, sent, cause)

    def _holding(self, start: Micros) -> Pairs:
        """The episode in which the window lies, if it is an alert: its words may be new though its score is not."""
        episode = self.timeline.at(start)
        sent = self.owner.get(episode.start) if episode else None
        return [(episode, sent)] if episode and sent else []

    def _renamed(self, change: Change) -> tuple[Pairs, list[Sent]]:
        """The episodes that a change made or moved, each with its alert; and the alerts that hold no more (law 4 of decide)."""
        before = [sent for episode in change.old if (sent := self.owner.pop(episode.start, None))]
        new = [episode for episode in change.new if self._long(episode)]
        if len(change.old) == len(change.new) == len(before) == len(new) == 1 and has_anchor(new[0], before[0]):
            return [(new[0], before[0])], []  # one that went on: it keeps its alert
        for sent in before:
            new += self._between(sent.anchor, sent.anchor)
        alerts = [sent for sent in self.mine.sent if not sent.settled and sent.label == self.rule.label]
        episodes, touched = concerned(new, alerts, self._between)
        for episode in episodes:
            self.owner.pop(episode.start, None)
        pairs = match(episodes, touched, self.timeline.carry)
        kept = {id(sent) for _, sent in pairs if sent}
        gone = {sent.id: sent for sent in (*before, *touched) if id(sent) not in kept and sent.state is not AlertState.RETRACTED}
        return pairs, list(gone.values())

    def _between(self, first: Micros, last: Micros) -> list[Episode]:
        return [episode for episode in self.timeline.between(first, last) if self._long(episode)]

    def _long(self, episode: Episode) -> bool:
        return episode.longest * self.mine.judged.hop >= self.rule.duration

    def _best(self, carry: Episode) -> Seen | None:
        kept = self.mine.best if self.mine.best and self.mine.best.start == carry.peak_at else None
        return self.memory.seen.get(carry.peak_at, kept)

    def _settle(self, before: Micros | None, cause: Cause) -> Iterator[Alert]:
        yield from settle(self.memory, self.rule.id, self.mine, before, cause)
        self.owner = {start: sent for start, sent in self.owner.items() if not sent.settled}
        self.pending = {name: sent for name, sent in self.pending.items() if not sent.settled}


def settle(memory: SessionMemory, rule: str, mine: RuleMemory, before: Micros | None, cause: Cause) -> Iterator[Alert]:
    """Alerts whose last window lies `before` (None: all) change no more. One that is open is resolved first."""
    for sent in mine.sent:
        if not sent.settled and (before is None or sent.last < before):
            if sent.open:
                yield say(memory, rule, sent, AlertState.RESOLVED, cause)
            sent.settle()


def _in_order(alerts: Iterable[Sent]) -> list[Sent]:
    return sorted(alerts, key=lambda sent: (sent.start, sent.id))


def _point(judged: Judged, seen: Seen) -> Point:
    return Point(seen.start, seen.end, seen.scores.get(judged.label, 0.0), seen.scores.get(judged.second, 0.0))
