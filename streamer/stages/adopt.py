"""What was sent and this state does not know: by a worker with other rules that was killed, or replaced, before it saved.

Laws:
1. Of an alert the latest revision counts; the next one follows it, so that no sink takes it for one that it knows. Of two contents of
   one revision the other rules' may have come first: it counts, and what differs is said again.
2. It is an alert like others from then on: an episode that overlaps it goes on under its id, and without one it is retracted on the
   first occasion after its last window. If its rule is gone, or watches another class, it is resolved with what that rule left open.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamer.events import Alert, Micros
from streamer.rules import RANK
from streamer.stages.memory import MAX_EXPLANATION, Judged, RuleMemory, Sent, SessionMemory, Told, cut


def adopt(memory: SessionMemory, found: Iterable[Alert], watched: str, hop: Micros, length: Micros) -> bool:
    """Take over the revisions of one alert, in any order. `watched`: by its rule (`Rule.watched`). False: all are known."""
    told = sorted(found, key=lambda alert: alert.revision)
    last = told[-1]
    mine = memory.rules.setdefault(last.rule, RuleMemory(judged=_judged(last, watched, hop)))
    if not mine.judged.digest:  # the rule was gone already
        mine.judged = _judged(last, watched, hop)
    known = next((sent for sent in mine.sent if sent.id == last.id), None)
    if known and (
        known.revision > last.revision or (known.revision, known.state, known.told) == (last.revision, last.state, _told(known, last))
    ):
        return False
    if known is None:
        known = _sent(told[0], last, length)
        mine.sent.append(known)
    _follow(known, last)
    memory.digest = ""  # rules that left nothing else behind are looked for again
    return True


def _judged(told: Alert, watched: str, hop: Micros) -> Judged:
    """Of a rule that this state never knew: what its alert tells."""
    return Judged(
        digest=told.rules,
        label=watched,
        second=watched,
        threshold=told.threshold,
        stays=told.threshold,
        cooldown=Micros(0),
        hop=hop,
    )


def _sent(first: Alert, last: Alert, length: Micros) -> Sent:
    """Its first revision has the start that it was announced with, its last one what it shows."""
    return Sent(
        id=first.id,
        anchor=first.start,
        label=last.label,
        threshold=last.threshold,
        severity=last.severity,
        start=last.start,
        last=Micros(max(last.start, last.end - length)),
        end=last.end,
        since=min(first.start, last.start),
        until=max(first.end, last.end),
        score=last.score,
        window=last.window,
        model=last.model,
        calibrated=last.calibrated,
        contributions=dict(last.contributions),
        evidence=last.evidence,
        sources=tuple(last.sources),
        explanation=cut(last.explanation, MAX_EXPLANATION),
    )


def _follow(sent: Sent, told: Alert) -> None:
    """That revision was the last thing said of it. Where the state has its episode, that stays as the state has it."""
    sent.revision, sent.state, sent.severity = told.revision, told.state, max(sent.severity, told.severity, key=RANK.__getitem__)
    sent.settled = sent.settled and not sent.open
    sent.told = _told(sent, told)


def _told(sent: Sent, told: Alert) -> Told:
    quotes = bool(told.evidence.quotes or (sent.told and sent.told.quotes))
    return Told(start=told.start, end=told.end, score=told.score, window=told.window, quotes=quotes)
