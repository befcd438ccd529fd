"""What is said of an episode, given what was said before. The rules of DESIGN's "what is sent".

raised (again after a retraction, and when a resolved one goes on) -> upgraded, when the severity rises -> resolved, when nothing
can follow; updated, when its peak rose by a step, or it quotes words for the first time.

Resolved, and all that changes in a resolved one save its severity, is said on an occasion only: a record that moves the newest
window on, or a mark. So a batch of revisions of older windows gives one revision of the alert, not one each. In a session that is
silent every record is one, for no other may follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from streamer import ids
from streamer.events import Alert, AlertState, Micros, QuoteEvidence, Severity
from streamer.rules import RANK, Rule
from streamer.stages.episodes import Episode
from streamer.stages.memory import MAX_ITEMS, RuleMemory, Seen, Sent, SessionMemory, Told


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The record that causes alerts: its arrival, the rules' version; whether it is an `occasion`, and the session's last (`final`)."""

    at: Micros
    rules: str
    occasion: bool = False
    final: bool = False


def begin(memory: SessionMemory, mine: RuleMemory, rule: Rule, episode: Episode) -> Sent | None:
    """The alert that an episode without one becomes. None: there is nothing to be said of it now."""
    if episode.last < edge_of(memory, mine) or _cools_down(mine, rule, episode, _severity(rule, episode)):
        return None
    shown = _best(memory, mine, rule, episode)
    if shown is None:
        return None
    sent = _new(mine, memory, rule, episode)
    _show(memory, sent, rule.label, shown)
    return sent


def announce(
    memory: SessionMemory, mine: RuleMemory, rule: Rule, episode: Episode, sent: Sent, *, resolved: bool, step: float, cause: Cause
) -> Iterator[Alert]:
    """Everything there is to say now about an episode that is the alert `sent`. `resolved`: nothing can follow it."""
    severity = _severity(rule, episode) if episode.last >= edge_of(memory, mine) else sent.severity
    _track(memory, mine, rule, sent, episode)
    while state := _news(sent, severity, resolved=resolved, step=step, cause=cause):
        sent.severity = max(sent.severity, severity, key=RANK.__getitem__)
        yield say(memory, rule.id, sent, state, cause)


def retract(memory: SessionMemory, rule: Rule, sent: Sent, cause: Cause) -> Alert:
    """What was sent no longer holds. The revision shows what its window shows now."""
    seen = memory.seen.get(sent.peak_at)
    if seen:
        _show(memory, sent, sent.label, seen)
        sent.score = seen.scores.get(rule.watched, 0.0)
        if not sent.score:  # it lacks what the rule needs: what its class scores is not why
            sent.explanation = ""
    return say(memory, rule.id, sent, AlertState.RETRACTED, cause)


def say(memory: SessionMemory, rule: str, sent: Sent, state: AlertState, cause: Cause) -> Alert:
    """The next revision of an alert."""
    sent.state, sent.revision = state, sent.revision + 1
    sent.told = _told(sent)
    return Alert(
        id=sent.id,
        revision=sent.revision,
        session=memory.session,
        rule=rule,
        label=sent.label,
        severity=sent.severity,
        state=state,
        start=sent.start,
        end=sent.end,
        score=sent.score,
        threshold=sent.threshold,
        window=sent.window,
        contributions=dict(sent.contributions),
        evidence=sent.evidence,
        sources=sent.sources,
        model=sent.model,
        rules=cause.rules,
        calibrated=sent.calibrated,
        at=cause.at,
        pace=memory.pace,
        explanation=sent.explanation,
    )


def edge_of(memory: SessionMemory, mine: RuleMemory) -> Micros:
    """Where the windows begin that may still change what a rule finds; everything, before anything was frozen."""
    edges = [edge for edge in (memory.edge, mine.edge) if edge is not None]
    return max(edges, default=Micros(-(1 << 62)))


def _severity(rule: Rule, episode: Episode) -> Severity:
    reached = rule.upgrade is not None and episode.second >= rule.upgrade.threshold
    return rule.upgrade.severity if reached and rule.upgrade else rule.severity


def _cools_down(mine: RuleMemory, rule: Rule, episode: Episode, severity: Severity) -> bool:
    """Whether a sent alert, no less severe, is so near that all of the episode lies within its cooldown, before or after it."""
    return bool(rule.cooldown) and any(
        RANK[sent.severity] >= RANK[severity] and episode.end <= sent.until + rule.cooldown and episode.start >= sent.since - rule.cooldown
        for sent in mine.sent
    )


def _new(mine: RuleMemory, memory: SessionMemory, rule: Rule, episode: Episode) -> Sent:
    name = ids.alert_id(rule.id, memory.session, episode.start)
    for settled in mine.sent:
        if settled.id == name:  # its episode once began here, moved away, and was frozen there
            settled.settled, settled.state = False, AlertState.RETRACTED
            return settled
    sent = Sent(
        id=name,
        anchor=episode.start,
        label=rule.label,
        threshold=rule.threshold,
        severity=rule.severity,
        start=episode.start,
        last=episode.last,
        end=episode.end,
        since=episode.start,
        until=episode.end,
        score=episode.peak,
    )
    mine.sent.append(sent)
    return sent


def _track(memory: SessionMemory, mine: RuleMemory, rule: Rule, sent: Sent, episode: Episode) -> None:
    if episode.last >= edge_of(memory, mine):
        sent.threshold = rule.threshold
    sent.start, sent.last, sent.end, sent.score = episode.start, episode.last, episode.end, episode.peak
    sent.since, sent.until = min(sent.since, episode.start), max(sent.until, episode.end)
    quotes = _quotes(memory, sent, episode)
    if seen := _at_peak(memory, mine, episode):
        _show(memory, sent, rule.label, seen)
    sent.peak_at = episode.peak_at
    sent.evidence = replace(sent.evidence, quotes=quotes)


def _at_peak(memory: SessionMemory, mine: RuleMemory, episode: Episode) -> Seen | None:
    frozen = mine.best if mine.best and mine.best.start == episode.peak_at else None
    return memory.seen.get(episode.peak_at, frozen)


def _best(memory: SessionMemory, mine: RuleMemory, rule: Rule, episode: Episode) -> Seen | None:
    """The window to show first: the peak's, or where its evidence is gone the best of those that still have theirs."""
    peak = _at_peak(memory, mine, episode)
    if peak and peak.detail:
        return peak
    rest = [seen for seen, _ in memory.details(episode.start, episode.last) if rule.watched in seen.scores]
    return max(rest, key=lambda seen: seen.scores[rule.watched], default=peak)


def _show(memory: SessionMemory, sent: Sent, label: str, seen: Seen) -> None:
    """Let the alert show a window. What is not held any more replaces nothing."""
    before, sent.window = sent.window, seen.id or ids.window_id(memory.session, seen.start, seen.end)
    sent.model, sent.calibrated, sent.peak_at = seen.model, seen.calibrated, seen.start
    if seen.detail:
        sent.contributions = seen.detail.contributions.get(label, {})
        sent.evidence, sent.sources = seen.detail.evidence, seen.detail.sources
        sent.explanation = seen.detail.explanations.get(label, "")
    elif sent.window != before:
        sent.explanation = ""


def _quotes(memory: SessionMemory, sent: Sent, episode: Episode) -> tuple[QuoteEvidence, ...]:
    """The words of all windows of the episode, each segment once (the surest reading of it), in time order.

    Of windows whose evidence is gone, those that the alert has quoted.
    """
    gone = max((edge for edge in (memory.edge, memory.worn) if edge is not None), default=None)
    kept = [quote for quote in sent.evidence.quotes if gone is not None and quote.start < gone]
    best = {(quote.start, quote.end): quote for quote in kept if quote.end > episode.start and quote.start < episode.end}
    for _, detail in memory.details(episode.start, episode.last):
        for quote in detail.evidence.quotes:
            known = best.get((quote.start, quote.end))
            if known is None or quote.similarity > known.similarity:
                best[quote.start, quote.end] = quote
    return tuple(best[key] for key in sorted(best))[:MAX_ITEMS]


def _news(sent: Sent, severity: Severity, *, resolved: bool, step: float, cause: Cause) -> AlertState | None:
    told = sent.told
    if sent.state is AlertState.RETRACTED or told is None:
        return AlertState.RAISED
    if RANK[severity] > RANK[sent.severity]:
        return AlertState.UPGRADED
    if not sent.open:
        return _news_of_resolved(sent, told, resolved=resolved, step=step, cause=cause) if cause.occasion else None
    if resolved and cause.occasion:
        return AlertState.RESOLVED
    rose = sent.score >= told.score + step
    return AlertState.UPDATED if rose or _new_words(sent, told) else None


def _news_of_resolved(sent: Sent, told: Told, *, resolved: bool, step: float, cause: Cause) -> AlertState | None:
    if not resolved:
        return AlertState.RAISED if sent.end > told.end else None
    moved = (sent.start, sent.end) != (told.start, told.end)
    stepped = sent.score >= told.score + step or sent.score <= told.score - step
    differs = stepped or (cause.final and (sent.score, sent.window) != (told.score, told.window))
    return AlertState.RESOLVED if moved or differs or _new_words(sent, told) else None


def _new_words(sent: Sent, told: Told) -> bool:
    return bool(sent.evidence.quotes) and not told.quotes


def _told(sent: Sent) -> Told:
    quotes = bool(sent.evidence.quotes or (sent.told and sent.told.quotes))
    return Told(start=sent.start, end=sent.end, score=sent.score, window=sent.window, quotes=quotes)
