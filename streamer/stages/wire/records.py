"""Windows, silences, scores, alerts and late records on Kafka: JSON, with a schema in `streamer/schemas`.

Writers give a Message, readers raise BadRecord. `keep` are headers of the record that this one derives from.
"""

from __future__ import annotations

from streamer.events import Alert, Headers, Late, Message, Record, Scores, SessionMark, Window
from streamer.ids import event_id
from streamer.stages.wire.body import dump, load, message, parse, same_session

WINDOW, SILENCE, SCORES = "streamer.window", "streamer.silence", "streamer.scores"
ALERT, LATE, GAP = "streamer.alert", "streamer.late", "streamer.gap"
UNKNOWN = b"unknown"
"""Key of a record that belongs to no session."""
_STAGE = {"windows": "align", "scores": "infer"}


def write_window(window: Window, *, keep: Headers = (), partition: int | None = None) -> Message:
    """One revision of a window, to `windows`; without `partition` to its key's."""
    name = f"{window.id}.{window.revision}"
    return message("windows", window.session.encode(), WINDOW, name, "align", window.start, window.end, dump(window), keep, partition)


def write_silence(topic: str, mark: SessionMark, *, keep: Headers = (), partition: int | None = None) -> Message:
    """A session falls silent: to `windows`, and forwarded to `scores`; without `partition` to its key's."""
    name = f"{event_id(mark.at)}.{mark.why.value}"
    return message(topic, mark.session.encode(), SILENCE, name, _STAGE[topic], mark.at, None, dump(mark), keep, partition)


def write_scores(scores: Scores, *, keep: Headers = ()) -> Message:
    """What one revision of a window shows, to `scores`."""
    name = f"{scores.window}.{scores.revision}"
    return message("scores", scores.session.encode(), SCORES, name, "infer", scores.start, scores.end, dump(scores), keep)


def write_alert(alert: Alert, *, keep: Headers = ()) -> Message:
    """One revision of an alert, to `alerts`."""
    name = f"{alert.id}.{alert.revision}"
    return message("alerts", alert.session.encode(), ALERT, name, "decide", alert.start, alert.end, dump(alert), keep)


def write_late(late: Late, *, keep: Headers = ()) -> Message:
    """A record beyond the horizon, or (reason `gap`) a stretch of log that is gone; the latter has no session.

    Without a session the record goes to the partition that it speaks of, not to its key's.
    """
    key = late.session.encode() if late.session else UNKNOWN
    name = f"{late.origin.topic}.{late.origin.partition}.{late.origin.offset}"
    kind = GAP if late.reason == "gap" else LATE
    partition = None if late.session else late.origin.partition
    return message("late", key, kind, name, "align", late.arrival, None, dump(late), keep, partition)


def read_window(record: Record) -> Window | SessionMark:
    """What stands in `windows`."""
    kind, plain = parse(record, frozenset({WINDOW, SILENCE}))
    return _silence(record, plain) if kind == SILENCE else _window(record, plain)


def read_scores(record: Record) -> Scores | SessionMark:
    """What stands in `scores`."""
    kind, plain = parse(record, frozenset({SCORES, SILENCE}))
    if kind == SILENCE:
        return _silence(record, plain)
    scores = load(plain, Scores)
    same_session(record, scores.session)
    return scores


def read_alert(record: Record) -> Alert:
    """What stands in `alerts`."""
    alert = load(parse(record, frozenset({ALERT}))[1], Alert)
    same_session(record, alert.session)
    return alert


def read_late(record: Record) -> Late:
    """What stands in `late`."""
    late = load(parse(record, frozenset({LATE, GAP}))[1], Late)
    same_session(record, late.session or UNKNOWN.decode())
    return late


def _window(record: Record, plain: object) -> Window:
    window = load(plain, Window)
    same_session(record, window.session)
    return window


def _silence(record: Record, plain: object) -> SessionMark:
    mark = load(plain, SessionMark)
    same_session(record, mark.session)
    return mark
