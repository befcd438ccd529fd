"""What decide remembers of a session. `frozen.py` writes it as a record.

Laws:
1. Of every window that may still be revised the start and the revision are held; its scores only where some rule may need them.
2. Evidence is held for the `MAX_DETAILS` windows learned last and for the peak of every episode, each cut to `MAX_ITEMS` boxes,
   sounds, quotes and origins, `MAX_QUOTE` characters a quote and `MAX_EXPLANATION` an explanation.
3. What does not fit is shed, evidence first, then the oldest windows; how much depends on the records alone, not on when it is saved.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice

import msgspec

from streamer.events import AlertState, Evidence, Micros, Modality, Origin, Pace, Scores, SessionId, Severity
from streamer.ids import window_id
from streamer.stages.episodes import Episode

MAX_WINDOWS = 1 << 18
"""Three days of windows at one a second."""
LONG_AGO = Micros(0)
MAX_DETAILS = 256
MAX_ITEMS = 32
MAX_QUOTE = 500
MAX_EXPLANATION = 1_000


class Detail(msgspec.Struct, frozen=True):
    """What an alert says besides numbers, of one window."""

    contributions: Mapping[str, Mapping[Modality, float]]
    evidence: Evidence
    sources: tuple[Origin, ...]
    explanations: Mapping[str, str] = {}


class Seen(msgspec.Struct):
    """The latest revision of one window that matters: its scores by what rules watch (`Rule.watched`), its detail while that is held."""

    id: str
    start: Micros
    end: Micros
    scores: dict[str, float]
    model: str
    calibrated: bool
    detail: Detail | None = None


class Told(msgspec.Struct, frozen=True):
    """What the last announcement of an alert said of its times and its peak, and whether words were ever quoted."""

    start: Micros
    end: Micros
    score: float
    window: str
    quotes: bool


class Sent(msgspec.Struct):
    """One alert that was sent: its latest episode, as it stands, and what was `told` of it.

    `start`, `last` are the starts of its first and last positive window; `since`/`until` the widest it ever was.
    `settled`: its stretch is frozen, so it changes no more and counts for the cooldown only. `size`: its bytes in the state.
    """

    id: str
    anchor: Micros
    label: str
    threshold: float
    severity: Severity
    start: Micros
    last: Micros
    end: Micros
    since: Micros
    until: Micros
    score: float
    revision: int = -1
    state: AlertState = AlertState.RETRACTED
    peak_at: Micros = Micros(0)
    window: str = ""
    model: str = ""
    calibrated: bool = False
    contributions: Mapping[Modality, float] = msgspec.field(default_factory=dict)
    evidence: Evidence = Evidence()
    sources: tuple[Origin, ...] = ()
    explanation: str = ""
    told: Told | None = None
    settled: bool = False
    size: int = 0

    @property
    def open(self) -> bool:
        """Somebody was told that it goes on."""
        return self.state not in (AlertState.RESOLVED, AlertState.RETRACTED)

    def settle(self) -> None:
        """It changes no more; what it shows is not needed again."""
        self.settled, self.contributions = True, {}
        self.strip()

    def strip(self) -> None:
        """Show no evidence."""
        self.evidence, self.sources, self.explanation = Evidence(), (), ""


class Judged(msgspec.Struct, frozen=True):
    """By what a rule's windows were judged: the rule's digest, and what is needed of it to go on. No digest: the rule is gone.

    `label` is what it watches (`Rule.watched`), `second` the class that can upgrade it.
    """

    digest: str
    label: str
    second: str
    threshold: float
    stays: float
    cooldown: Micros
    hop: Micros


class RuleMemory(msgspec.Struct):
    """One rule in one session. It judges nothing that starts before `edge`; `carry` is the episode there that may go on.

    `best` is the window of the carry's peak, which may yet be shown.
    """

    judged: Judged
    edge: Micros | None = None
    carry: Episode | None = None
    best: Seen | None = None
    sent: list[Sent] = msgspec.field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class SessionMemory:
    """One session. Windows that start before `edge` are frozen; `newest` is the last start of all, frozen or not.

    `offset` is the last record of `scores` that was applied; `quiet` the latest mark: nothing more up to there; `rules` the
    digest of the rules that judged it. `starts` (in order) and `revisions` are of all windows, `seen` those that matter;
    `detailed` (in order) has those with a detail, `recent` those of them that may lose it, first the first to do so; a quote
    before `worn` may stand in no detail any more. `measured`: the bytes of the
    state when they were last counted, `grown`: at most so many since. `alerts`: up to where this knew that topic when it was saved.
    """

    session: SessionId
    offset: int = -1
    arrival: Micros = LONG_AGO
    pace: Pace = Pace.LIVE
    edge: Micros | None = None
    newest: Micros | None = None
    quiet: Micros | None = None
    worn: Micros | None = None
    digest: str = ""
    measured: int = 0
    grown: int = 0
    alerts: int | None = None
    starts: array[int] = field(default_factory=lambda: array("q"))
    revisions: array[int] = field(default_factory=lambda: array("q"))
    seen: dict[Micros, Seen] = field(default_factory=dict)
    detailed: list[Micros] = field(default_factory=list)
    recent: list[Micros] = field(default_factory=list)
    rules: dict[str, RuleMemory] = field(default_factory=dict)

    def learn(self, start: Micros, revision: int) -> bool:
        """Note a revision of a window. False: it, or a later one, is known."""
        place = bisect_left(self.starts, start)
        if place < len(self.starts) and self.starts[place] == start:
            if self.revisions[place] >= revision:
                return False
            self.revisions[place] = revision
        else:
            self.starts.insert(place, start)
            self.revisions.insert(place, revision)
        self.newest = start if self.newest is None else max(self.newest, start)
        return True

    def show(self, seen: Seen) -> None:
        """Hold a window that matters; its evidence is the latest to be held."""
        self._unlist(seen.start)
        self.seen[seen.start] = seen
        if seen.detail:
            insort(self.detailed, seen.start)
            self.recent.append(seen.start)

    def wear(self, pinned: Callable[[Micros], bool], *, most: int = MAX_DETAILS) -> None:
        """Of more than `most` details that may go, drop the ones held longest, except those that are `pinned`."""
        while len(self.recent) > most:
            start = self.recent.pop(0)
            if not pinned(start):
                self.blank(start)

    def blank(self, start: Micros) -> None:
        """Drop a window's detail."""
        self._unlist(start)
        seen = self.seen[start]
        seen.detail = None
        self.worn = max(self.worn or seen.end, seen.end)

    def _unlist(self, start: Micros) -> None:
        place = bisect_left(self.detailed, start)
        if place < len(self.detailed) and self.detailed[place] == start:
            del self.detailed[place]
            if start in self.recent:
                self.recent.remove(start)

    def leave(self, count: int) -> None:
        """Forget the `count` oldest windows: they are frozen."""
        for start in self.starts[:count]:
            self.seen.pop(Micros(start), None)
        del self.starts[:count], self.revisions[:count]
        first = self.starts[0] if self.starts else None
        gone = len(self.detailed) if first is None else bisect_left(self.detailed, first)
        del self.detailed[:gone]
        if gone:
            self.recent = [start for start in self.recent if start in self.seen]

    def details(self, first: Micros, last: Micros) -> Iterator[tuple[Seen, Detail]]:
        """Windows that start in a stretch, both ends included, and still have their detail; in time order."""
        for start in self.detailed[bisect_left(self.detailed, first) : bisect_right(self.detailed, last)]:
            if detail := self.seen[start].detail:
                yield self.seen[start], detail


def seen_of(scores: Scores, values: dict[str, float]) -> Seen:
    """What is held of a window, `values` being the scores that matter. Its id only where it is not the one to be derived."""
    return Seen(
        id=scores.window if scores.window != window_id(scores.session, scores.start, scores.end) else "",
        start=scores.start,
        end=scores.end,
        scores=values,
        model=scores.model,
        calibrated=scores.calibrated,
        detail=detail_of(scores, values),
    )


def detail_of(scores: Scores, labels: Mapping[str, float]) -> Detail:
    """The part of a score that alerts of some classes quote, cut to its bounds."""
    evidence, classes = scores.evidence, set(map(class_of, labels))
    quotes = (quote if len(quote.text) <= MAX_QUOTE else replace(quote, text=cut(quote.text, MAX_QUOTE)) for quote in evidence.quotes)
    frame = evidence.frame
    return Detail(
        contributions={label: dict(score.contributions) for label, score in scores.classes.items() if label in classes},
        evidence=Evidence(
            frame=replace(frame, boxes=frame.boxes[:MAX_ITEMS]) if frame else None,
            sounds=evidence.sounds[:MAX_ITEMS],
            quotes=tuple(islice(quotes, MAX_ITEMS)),
        ),
        sources=scores.sources[:MAX_ITEMS],
        explanations={
            label: cut(score.explanation, MAX_EXPLANATION)
            for label, score in scores.classes.items()
            if label in classes and score.explanation
        },
    )


def class_of(watched: str) -> str:
    """The security class in what a rule watches."""
    return watched.partition("@")[0]


def cut(text: str, most: int) -> str:
    """At most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"
