"""What must hold at the end of every schedule, told from outside: from the logs alone, by slow and obvious means.

Laws checked:
1. Conservation of input: `late` and `deadletter` name exactly the records that belong there; all others are in a window, or
   are duplicates or marks.
2. The final manifests are those of the reference. Where retention overtook, what is missing was lost, and its window says so
   if any revision of it went out after that was found; and what only a lost record would have made late may be there.
3. Each revision is whole, unless a replaced worker wrote in between: then the last one is.
4. The final alerts that are not retracted are those of a run without disturbance; (id, revision) has one content. Where workers of
   decide have different rules: nothing stays open.
5. Nobody is called idle whose partition has not been read the idle timeout past its last event. Of copies the first counts: a
   manifest names that one, and a successor does not read the others again. An end that stands in the log may be said again.
6. In the end nothing is held, and the checkpoints are at the ends of their logs.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator

import msgspec

from streamer.errors import BadRecord
from streamer.events import (
    SECOND,
    Alert,
    AlertState,
    ClosedBy,
    Event,
    EventRef,
    Mark,
    Micros,
    Modality,
    Origin,
    Pace,
    SessionId,
    SessionMark,
    Silence,
    Track,
    Window,
)
from streamer.ids import window_id
from streamer.kafka import checkpoints
from streamer.stages.envelope import read_head
from streamer.stages.wire import read_deadletter, read_late
from tests.simulator.broker import by_hand
from tests.simulator.outcome import Outcome, decider_of
from tests.simulator.schedule import PARTITIONS, TAPE
from tests.simulator.workers import Host, Scorer, Seen, judged
from tests.stages.align_streams import NOON, Log, Manifests, final, judge, reference

Episode = tuple[str, str, int, int]
"""Rule, session, start, end."""
STEPS_BACK = SECOND
"""By how much timestamps of a schedule step back."""


def failures(outcome: Outcome) -> list[str]:
    """What does not hold, in words; empty when all does."""
    logs = [_log(outcome, number) for number in range(PARTITIONS)]
    wanted = {key: refs for log in logs for key, refs in reference(log, outcome.settings).items()}
    found: list[str] = []
    found += _conservation(outcome, logs)
    found += _manifests(outcome, wanted)
    found += _whole(outcome)
    found += _alerts(outcome, wanted)
    if not outcome.schedule.gaps:  # what was lost was not heard
        found += [line for number, log in enumerate(logs) for line in _silences(outcome, number, log)]
    found += _forgotten(outcome)
    return found


def _log(outcome: Outcome, number: int, *, kept: bool = False) -> Log:
    """One partition number as the reference reads it. What cannot be read is a mark of nobody: it only moves the clock.

    `kept`: without what retention took.
    """
    log = Log()
    for modality in Modality:
        place = modality.value, number
        for record in outcome.broker.read(place, 0) if kept else outcome.broker.logs[place]:
            try:
                log._append(read_head(record, PARTITIONS))
            except BadRecord:
                nobody = Track(session=SessionId("-"), modality=modality, source="-")
                origin = Origin(topic=modality.value, partition=number, offset=record.offset)
                log._append(Mark(track=nobody, until=record.arrival, final=False, arrival=record.arrival, origin=origin))
    return log


def _name(origin: Origin) -> str:
    return f"{origin.topic}/{origin.partition}@{origin.offset}"


# 1


def _conservation(outcome: Outcome, logs: Iterable[Log]) -> Iterator[str]:
    verdicts = [judge(log, outcome.settings) for log in logs]
    late = {event.origin for verdict in verdicts for event in verdict["late"]}
    dead = {event.origin for verdict in verdicts for event in verdict["future"]}
    dead |= {item.origin for log in logs for item in log.all if item.track.session == "-"}
    dead |= {mark.origin for log in logs for mark in _ahead(log, outcome)}
    told_late = {read_late(record).origin for record in outcome.broker.everything("late") if read_late(record).reason != "gap"}
    told_dead = {read_deadletter(record).origin for record in outcome.broker.everything("deadletter")}
    for topic, wanted, told in (("late", late, told_late), ("deadletter", dead, told_dead)):
        for origin in sorted(told - wanted, key=_name):
            yield f"{_name(origin)} is in `{topic}` and does not belong there"
        if not outcome.schedule.gaps:
            for origin in sorted(wanted - told, key=_name):
                yield f"{_name(origin)} belongs in `{topic}` and is not there"


def _ahead(log: Log, outcome: Outcome) -> Iterator[Mark]:
    """Marks of live sessions that are from the future."""
    for items in log.topics.values():
        clock = 0
        for item in items:
            clock = max(clock, item.arrival)
            if (
                isinstance(item, Mark)
                and item.track.session != "-"
                and item.pace is Pace.LIVE
                and item.until - clock > outcome.settings.skew
            ):
                yield item


# 2, 3


def _manifests(outcome: Outcome, wanted: Manifests) -> Iterator[str]:
    kept = _kept(outcome)
    told, lenient = final(window for window in kept), dict[tuple[SessionId, int], frozenset[EventRef]]()
    if outcome.schedule.gaps:
        for number in range(PARTITIONS):
            lenient |= reference(_log(outcome, number, kept=True), outcome.settings)
    latest = {(window.session, int(window.start)): window for window in sorted(kept, key=lambda window: window.revision)}
    for key in sorted(wanted.keys() | told.keys()):
        missing, odd = wanted.get(key, frozenset()) - told.get(key, frozenset()), told.get(key, frozenset()) - wanted.get(key, frozenset())
        where = f"the window of `{key[0]}` at {(key[1] - NOON) / SECOND:g} s"
        if outcome.schedule.gaps:  # of an event that was written twice the second record may be left
            odd = frozenset(ref for ref in odd if not any(_same(ref, one) for one in wanted.get(key, ()))) - lenient.get(key, frozenset())
            missing = frozenset(ref for ref in missing if not any(_same(ref, one) for one in told.get(key, ())))
        if odd:
            yield f"{where} holds {_refs(odd)}, which do not belong there"
        if missing and not outcome.schedule.gaps:
            yield f"{where} lacks {_refs(missing)}" + ("" if key in told else ": it was never written")
        elif missing and key in latest:
            silent = {ref.modality for ref in missing if _must_say(outcome, latest[key], ref)} - _says(latest[key])
            if silent:
                yield f"{where} lacks {_refs(missing)}, and does not say that {', '.join(sorted(silent))} were lost"


def _same(one: EventRef, other: EventRef) -> bool:
    return (one.modality, one.source, one.id) == (other.modality, other.source, other.id)


def _says(window: Window) -> set[Modality]:
    return {modality for modality, presence in window.completeness.items() if presence.gap}


def _must_say(outcome: Outcome, window: Window, lost: EventRef) -> bool:
    """Whether it was known that this was lost when the window's last revision was written; what was out before is left as it is.

    A gap names where it begins. One that was told before the record was written is about others.
    """
    place, order = lost.origin, outcome.broker.order
    found = [
        (late.origin.offset, -order[record.topic, record.partition, record.offset])
        for record in outcome.broker.logs["late", place.partition]
        if (late := read_late(record)).reason == "gap" and late.origin.topic == place.topic and late.origin.offset <= place.offset
        if order[record.topic, record.partition, record.offset] > order[place.topic, place.partition, place.offset]
    ]
    return bool(found) and -max(found)[1] < _written(outcome, window, place.partition)


def _written(outcome: Outcome, window: Window, number: int) -> int:
    """When the first record of this revision was written."""
    offsets = range(outcome.broker.end(("windows", number)))
    return next(outcome.broker.order["windows", number, offset] for offset in offsets if outcome.broker.window(number, offset) == window)


def _refs(refs: Iterable[EventRef]) -> str:
    return ", ".join(f"{_name(ref.origin)} ({ref.modality.value} of {(ref.start - NOON) / SECOND:g} s)" for ref in sorted(refs, key=_order))


def _order(ref: EventRef) -> tuple[int, str, int]:
    return ref.start, ref.modality.value, ref.origin.offset


def _kept(outcome: Outcome) -> list[Window]:
    """What a reader has who keeps the first record of each (id, revision)."""
    kept: dict[tuple[str, int], Window] = {}
    for told in outcome.windows():
        if isinstance(told, Window):
            kept.setdefault((told.id, told.revision), told)
    return list(kept.values())


def _whole(outcome: Outcome) -> Iterator[str]:
    by_id = defaultdict[str, list[Window]](list)
    for window in _kept(outcome):
        by_id[window.id].append(window)
    for revisions in by_id.values():
        revisions.sort(key=lambda window: window.revision)
        if [window.revision for window in revisions] != list(range(len(revisions))):
            yield f"`{revisions[0].session}` has revisions {[window.revision for window in revisions]} of one window"
        for before, after in itertools.pairwise(revisions):
            if not outcome.slept and not set(before.manifest) <= set(after.manifest):
                yield f"revision {after.revision} of a window of `{after.session}` lacks what revision {before.revision} had"


# 4


def _alerts(outcome: Outcome, wanted: Manifests) -> Iterator[str]:
    told: dict[tuple[str, int], Alert] = {}
    if outcome.schedule.mixed:
        yield from _open(outcome.alerts())
        return
    for alert in outcome.alerts():
        first = told.setdefault((alert.id, alert.revision), alert)
        if msgspec.json.encode(first) != msgspec.json.encode(alert):
            yield f"alert {alert.rule} of `{alert.session}` has two contents under revision {alert.revision}"
    if outcome.schedule.gaps:
        return
    have, want = episodes(told.values()), episodes(undisturbed(outcome, wanted))
    for episode in sorted(have ^ want):
        rule, session, start, end = episode
        which = "is told and does not hold" if episode in have else "holds and is not told"
        yield f"an alert {rule} of `{session}`, {(start - NOON) / SECOND:g} s to {(end - NOON) / SECOND:g} s, {which}"


def _open(alerts: Iterable[Alert]) -> Iterator[str]:
    """Alerts that a receiver who knows (id, revision) by its first content takes to be going on."""
    first, last = dict[tuple[str, int], Alert](), dict[str, Alert]()
    for alert in alerts:
        first.setdefault((alert.id, alert.revision), alert)
    for alert in sorted(first.values(), key=lambda alert: alert.revision):
        last[alert.id] = alert
    for alert in last.values():
        if alert.state not in (AlertState.RESOLVED, AlertState.RETRACTED):
            yield f"alert {alert.rule} of `{alert.session}`, {alert.state.value} under revision {alert.revision}, stays open"


def episodes(alerts: Iterable[Alert]) -> set[Episode]:
    """Final alerts that are not retracted; those with a cooldown depend on what was sent before, and are left out."""
    last: dict[str, Alert] = {}
    for alert in sorted(alerts, key=lambda alert: alert.revision):
        last[alert.id] = alert
    return {
        (alert.rule, alert.session, alert.start, alert.end)
        for alert in last.values()
        if alert.state is not AlertState.RETRACTED and alert.rule != "calm"
    }


def undisturbed(outcome: Outcome, wanted: Manifests) -> Iterator[Alert]:
    """What decide says when each window comes once, whole, in order, and then all is silent."""
    decider, offset = decider_of(outcome.schedule), 0
    for session in sorted({session for session, _ in wanted}):
        pace = Pace.RECORDED if session == TAPE else Pace.LIVE
        starts = sorted(start for name, start in wanted if name == session)
        for start in starts:
            window = _window(session, start, start + outcome.settings.length, wanted[session, start], pace)
            yield from decider.push(judged(window), arrival=Micros(0), offset=offset)
            offset += 1
        why = Silence.END if pace is Pace.RECORDED else Silence.IDLE
        over = SessionMark(session=session, at=Micros(starts[-1] + outcome.settings.length), why=why, pace=pace)
        yield from decider.push(over, arrival=Micros(0), offset=offset)
        offset += 1


def _window(session: SessionId, start: int, end: int, refs: Iterable[EventRef], pace: Pace) -> Window:
    return Window(
        id=window_id(session, Micros(start), Micros(end)),
        session=session,
        start=Micros(start),
        end=Micros(end),
        revision=0,
        closed_by=ClosedBy.WATERMARK,
        manifest=tuple(sorted(refs, key=_order)),
        completeness={},
        trigger=Micros(start),
        pace=pace,
    )


# 5


def _silences(outcome: Outcome, number: int, log: Log) -> Iterator[str]:
    first = dict[tuple[Track, str], Origin]()
    for event in judge(log, outcome.settings)["fit"]:
        first.setdefault((event.track, event.id), event.origin)
    fit = set(first.values())
    fit |= {item.origin for item in log.all if isinstance(item, Mark)} - {mark.origin for mark in _ahead(log, outcome)}
    for worker in outcome.workers.values():
        for (partition, offset), seen in worker.seen.items() if isinstance(worker, Host) else ():
            mark = outcome.broker.window(number, offset) if partition == number else None
            if isinstance(mark, SessionMark) and mark.pace is Pace.LIVE and not _said_again(outcome, mark, number, offset):
                yield from _active(outcome, mark, _ended(outcome, mark, number, offset), number, seen, log, fit)


def _said_again(outcome: Outcome, mark: SessionMark, number: int, offset: int) -> bool:
    """An end that whoever wrote before had heard."""
    return mark.why is Silence.END and any(outcome.broker.window(number, before) == mark for before in range(offset))


def _ended(outcome: Outcome, mark: SessionMark, number: int, offset: int) -> int:
    """Up to where an end that stands in the log before says that every track of that session is over: a restart reads it there."""
    before = (outcome.broker.window(number, at) for at in range(offset))
    ends = (one for one in before if isinstance(one, SessionMark) and one.session == mark.session and one.why is Silence.END)
    return max((one.at for one in ends), default=0)


def _active(outcome: Outcome, mark: SessionMark, over: int, number: int, seen: Seen, log: Log, fit: set[Origin]) -> Iterator[str]:
    """Tracks of which whoever called the session silent had heard that they are not. A session long over is forgotten."""
    for modality, items in log.topics.items():
        clock = seen.clocks[modality.value, number]
        heard = max(clock.arrival, seen.now) if clock.caught_up else clock.arrival
        gone = outcome.broker.first[modality.value, number]  # what retention took may never have been heard
        last = _last(items[: seen.ends[modality.value, number]], mark.session, fit, gone, over)
        for source, (when, ended) in last.items():
            silent = heard - when >= outcome.settings.idle - STEPS_BACK or seen.now - when >= outcome.settings.session_end
            if not ended and not silent:
                yield f"`{mark.session}` is called silent, but {modality.value} of `{source}` spoke {(heard - when) / SECOND:g} s before"


def _last(items: Iterable[Event | Mark], session: SessionId, fit: set[Origin], gone: int, over: int) -> dict[str, tuple[int, bool]]:
    """By source: the clock at its last event of those that are in a window, and whether it has ended (nothing reached further since, or
    nothing further than `over`).
    """
    last: dict[str, tuple[int, bool]] = {}
    progress: dict[str, int] = {}
    clock = 0
    for item in items:
        clock = max(clock, item.arrival)
        if item.track.session != session or item.origin not in fit or item.origin.offset < gone:
            continue
        source, until = item.track.source, item.until if isinstance(item, Mark) else item.end
        when, ended = last.get(source, (0, False))
        if isinstance(item, Mark):
            last[source] = when, item.final or (ended and until <= progress.get(source, until - 1))
        else:
            last[source] = clock, ended and until <= progress.get(source, until - 1)
        progress[source] = max(until, progress.get(source, until))
    return {source: (when, ended or progress[source] <= over) for source, (when, ended) in last.items()}


# 6


def _forgotten(outcome: Outcome) -> Iterator[str]:
    for worker in outcome.workers.values():
        if isinstance(worker, Scorer) or worker.owner != "align":
            continue
        for number, lane in worker.state.lanes.items():  # type: ignore[attr-defined]
            tally = lane.aligner.tally
            held = tally.open_windows, tally.open_events, tally.held_events
            if held != (0, 0, 0) and not outcome.schedule.gaps:
                yield f"in the end {worker.name} holds open windows, open events, held events {held} of partition {number}"
            if lane.aligner.watermarks() and not outcome.schedule.gaps:
                yield f"in the end {worker.name} remembers {sorted(lane.aligner.watermarks())} of partition {number}"
            saved = checkpoints.decode(by_hand(checkpoints.fold("align", outcome.broker.reader(number)("checkpoints", 0)))[""])
            for topic, place in saved.inputs.items():
                if place.offset < outcome.broker.end((topic, number)) and not outcome.schedule.gaps:
                    yield f"in the end {topic}/{number} would be read again from {place.offset} of {outcome.broker.end((topic, number))}"
