"""What is said of an episode, given what was said before. The rules of DESIGN's "what is sent".

raised (again after a retraction) -> upgraded, when the severity rises -> resolved, when nothing can follow;
updated, when a resolved one goes on, its peak rose by a step, or it quotes words for the first time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from streamer import ids
from streamer.events import Alert, AlertState, Evidence, Micros, QuoteEvidence, Severity
from streamer.rules import RANK, Rule
from streamer.stages.episodes import Episode
from streamer.stages.memory import MAX_ITEMS, RuleMemory, Seen, Sent, SessionMemory, Told


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The record that causes alerts: when it arrived, and the version of the rules that judge it."""

    at: Micros
    rules: str


def announce(
    memory: SessionMemory, rule: Rule, episode: Episode, sent: Sent | None, *, resolved: bool, step: float, cause: Cause
) -> Iterator[Alert]:
    """Everything there is to say now about an episode, `sent` being the alert that it is, if it was sent before."""
    severity = _severity(rule, episode)
    inside = [seen for seen in memory.windows if episode.start <= seen.start <= episode.last]
    if sent is None:
        mine = memory.rules[rule.id]
        if not inside or _cools_down(mine, rule, episode, severity):
            return
        sent = _new(mine, memory, rule, episode)
        _show(sent, rule.label, max(inside, key=lambda seen: seen.scores.get(rule.label, 0.0)))
    _track(memory, rule, sent, episode, inside)
    while state := _news(sent, severity, resolved=resolved, step=step):
        sent.severity = max(sent.severity, severity, key=RANK.__getitem__)
        yield _say(memory, rule.id, sent, state, cause)


def retract(memory: SessionMemory, rule: str, sent: Sent, cause: Cause) -> Alert:
    """What was sent no longer holds. The revision shows what its window shows now."""
    seen = next((seen for seen in memory.windows if seen.start == sent.peak_at), None)
    if seen:
        _show(sent, sent.label, seen)
        sent.score = seen.scores.get(sent.label, 0.0)
    return _say(memory, rule, sent, AlertState.RETRACTED, cause)


def close_orphans(memory: SessionMemory, rules: set[str], cause: Cause) -> Iterator[Alert]:
    """Alerts of rules that are no longer in the file are resolved, and the rule is forgotten."""
    for rule in [rule for rule in memory.rules if rule not in rules]:
        for sent in memory.rules.pop(rule).sent:
            if not sent.settled and sent.state not in (AlertState.RESOLVED, AlertState.RETRACTED):
                yield _say(memory, rule, sent, AlertState.RESOLVED, cause)


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
            settled.settled = False
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


def _track(memory: SessionMemory, rule: Rule, sent: Sent, episode: Episode, inside: list[Seen]) -> None:
    sent.threshold = rule.threshold
    sent.start, sent.last, sent.end, sent.score = episode.start, episode.last, episode.end, episode.peak
    sent.since, sent.until = min(sent.since, episode.start), max(sent.until, episode.end)
    earlier = tuple(quote for quote in sent.evidence.quotes if memory.edge is not None and quote.start < memory.edge)
    for seen in inside:
        if seen.start == episode.peak_at:
            _show(sent, rule.label, seen)
    sent.peak_at = episode.peak_at
    sent.evidence = replace(sent.evidence, quotes=_quotes(earlier, inside))


def _show(sent: Sent, label: str, seen: Seen) -> None:
    sent.window, sent.model, sent.calibrated, sent.peak_at = seen.id, seen.model, seen.calibrated, seen.start
    if seen.detail:
        sent.contributions, sent.evidence = seen.detail.contributions.get(label, {}), seen.detail.evidence
        sent.sources = seen.detail.sources
    else:
        sent.contributions, sent.evidence, sent.sources = {}, Evidence(), ()


def _quotes(earlier: tuple[QuoteEvidence, ...], inside: list[Seen]) -> tuple[QuoteEvidence, ...]:
    """The words of all windows of the episode, each segment once (the surest reading of it), in time order."""
    best = {(quote.start, quote.end): quote for quote in earlier}
    for seen in inside:
        for quote in seen.detail.evidence.quotes if seen.detail else ():
            known = best.get((quote.start, quote.end))
            if known is None or quote.similarity > known.similarity:
                best[quote.start, quote.end] = quote
    return tuple(best[key] for key in sorted(best))[:MAX_ITEMS]


def _news(sent: Sent, severity: Severity, *, resolved: bool, step: float) -> AlertState | None:
    if sent.state is AlertState.RETRACTED or sent.told is None:
        return AlertState.RAISED
    if RANK[severity] > RANK[sent.severity]:
        return AlertState.UPGRADED
    if resolved:
        return AlertState.RESOLVED if sent.state is not AlertState.RESOLVED or sent.told != _told(sent) else None
    reopened = sent.state is AlertState.RESOLVED
    rose = sent.score >= sent.told.score + step
    words = bool(sent.evidence.quotes) and not sent.told.quotes
    return AlertState.UPDATED if reopened or rose or words else None


def _told(sent: Sent) -> Told:
    return Told(start=sent.start, end=sent.end, score=sent.score, window=sent.window, quotes=bool(sent.evidence.quotes))


def _say(memory: SessionMemory, rule: str, sent: Sent, state: AlertState, cause: Cause) -> Alert:
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
    )
