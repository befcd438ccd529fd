"""What `streamer align inspect` prints: lines for people, a dict for programs. Both bounded, times in UTC."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from streamer.agents.align_inspect import Inspector, PartitionShown, Report
from streamer.config import Config
from streamer.events import SECOND, Micros, Modality, SessionId, Track
from streamer.kafka.client import Kafka
from streamer.stages.align.shown import SessionShown, TrackShown, Wait, WindowShown
from streamer.stages.clocks import Estimate
from streamer.stages.times import format_time

WINDOWS_SHOWN = 8
"""Of one session, for people."""
CLOCKS_SHOWN = 20
"""Sources whose clocks are furthest off, for people."""


async def inspect(config: Config, kafka: Kafka, *, session: str | None, as_json: bool, limit: int, most: int, history: int) -> None:
    """Look, with a line of progress on a terminal's standard error, and print. Raises Transient and ConfigError."""
    wanted = SessionId(session) if session is not None else None
    columns = SpinnerColumn(), TextColumn("reading the log: {task.completed:.0f} records"), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=None)
        looker = Inspector(config, kafka, session=wanted, most=most, history=history, told=lambda records: progress.advance(task, records))
        report = await looker.run()
    if as_json:
        sys.stdout.write(json.dumps(plain(report, limit=limit)) + "\n")
    else:
        sys.stdout.write("\n".join(lines(report, limit=limit)) + "\n")


def lines(report: Report, *, limit: int) -> Iterator[str]:
    """For people. `limit`: sessions; those that have waited longest."""
    sessions = ranked(report)
    opened = sum(window.revision == 0 for _, session in sessions for window in session.windows)
    yield f"{len(report.partitions)} partitions, {len(sessions)} sessions, {opened} open windows, as of {_moment(report.now)} UTC"
    yield ""
    yield from _columns([("partition", "checkpoint", "topic", "low-water", "read to", "end", "lag", "clock"), *_rows(report)])
    for partition in report.partitions:
        yield from _notes(partition, report.now)
    for partition, session in sessions[:limit]:
        yield ""
        yield from _session(partition, session, report)
    if len(sessions) > limit:
        yield ""
        yield f"and {len(sessions) - limit} more sessions: --limit {len(sessions)} shows all, --session ID one"
    yield from _clocks(report.clocks)


def plain(report: Report, *, limit: int) -> dict[str, Any]:
    """For programs: times as in our records (RFC 3339), lengths of time in seconds."""
    shown = ranked(report)[:limit]
    return {
        "now": format_time(report.now),
        "partitions": [_plain_partition(one) for one in report.partitions],
        "sessions": [_plain_session(partition, session, report.clocks) for partition, session in shown],
        "sessions_left_out": len(ranked(report)) - len(shown),
        "clocks": [_plain_clock(track, estimate) for track, estimate in furthest(report.clocks)[:limit]],
    }


def ranked(report: Report) -> list[tuple[PartitionShown, SessionShown]]:
    """Every session with its partition; whose window is open longest comes first."""
    found = [(partition, session) for partition in report.partitions for session in partition.sessions]
    return sorted(found, key=lambda one: (min((w.start for w in one[1].windows), default=1 << 62), one[1].session))


def furthest(clocks: Mapping[Track, Estimate]) -> list[tuple[Track, Estimate]]:
    """Clocks in the order of how wrong they seem."""
    return sorted(clocks.items(), key=lambda one: (not one[1].beyond, -abs(one[1].offset), -abs(one[1].drift or 0.0)))


# for people


def _moment(at: Micros) -> str:
    try:
        return datetime.fromtimestamp(at / SECOND, tz=UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return f"{at} us"


def _time(at: Micros | None, now: Micros) -> str:
    """The time of day; with its date where that is another one. Cut to milliseconds."""
    if at is None:
        return "-"
    try:
        text = format_time(at)
        return text[11:23] if text[:10] == format_time(now)[:10] else text[:23].replace("T", " ")
    except OverflowError:
        return f"{at} us"


def _rows(report: Report) -> Iterator[tuple[str, ...]]:
    for one in report.partitions:
        saved = "none" if one.saved is None else f"{max(0, report.now - one.saved) / SECOND:.1f} s old"
        for line, into in enumerate(one.inputs):
            first = (str(one.number), saved) if line == 0 else ("", "")
            position, lag = ("-" if number is None else str(number) for number in (into.position, into.lag))
            clock = _time(into.clock, report.now) if into.clock else "-"
            yield (*first, into.topic, str(into.low), position, str(into.end), lag, clock)


def _columns(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _notes(partition: PartitionShown, now: Micros) -> Iterator[str]:
    if partition.owed:
        owed = ", ".join(f"{count} to {topic}" for topic, count in partition.owed.items())
        yield f"partition {partition.number}: a worker would write now: {owed}"
    if partition.cut:
        upto = ", ".join(f"{into.topic} {_time(into.clock, now)}" for into in partition.inputs if into.clock)
        yield f"partition {partition.number}: read in part only, as of {upto}; --most reads more"


def _session(partition: PartitionShown, session: SessionShown, report: Report) -> Iterator[str]:
    behind = "" if session.behind is None else f", {session.behind / SECOND:.1f} s behind what was read"
    silence = {None: "", "idle": "; silent: all idle", "end": "; silent: all ended"}[session.silence and session.silence.value]
    watermark = f"watermark {_time(session.watermark, report.now)}{behind}" if session.watermark is not None else "no watermark yet"
    yield f"{session.session} (partition {partition.number}, {session.pace.value}): {watermark}{silence}"
    yield from _columns([_track(one, session.session, report) for one in session.tracks] or [("  no tracks",)])
    for window in session.windows[:WINDOWS_SHOWN]:
        yield f"  {_window(window, report.now)}"
    if more := session.windows[WINDOWS_SHOWN:]:
        yield f"  and {len(more)} more windows, up to {_time(more[-1].end, report.now)}"


def _track(track: TrackShown, session: SessionId, report: Report) -> tuple[str, ...]:
    waited = "waited for" if track.why_not is None else f"not waited for: {track.why_not.value}"
    clock = report.clocks.get(Track(session=session, modality=track.modality, source=track.source))
    progress = f"progress {_time(track.progress, report.now)}, bound {track.bound / SECOND:g} s"
    return f"  {track.modality.value} of {track.source}", track.state.value, progress, waited, f"clock {_clock(clock)}" if clock else ""


def _clock(estimate: Estimate) -> str:
    drift = "drift not known yet" if estimate.drift is None else f"drift {estimate.drift:+.0f} ppm"
    return f"{estimate.offset / SECOND:+.3f} s, {drift}"


def _window(window: WindowShown, now: Micros) -> str:
    events = ", ".join(f"{count} {modality.value}" for modality, count in window.events.items())
    head = f"window {_time(window.start, now)} to {_time(window.end, now)}: {events}"
    if window.revision:
        return f"{head}; is out, revision {window.revision} is due"
    return f"{head}; " + (", ".join(f"waits for {_wait(one, now)}" for one in window.waits) or "is closed with the next tick")


def _wait(wait: Wait, now: Micros) -> str:
    if wait.source is None:
        return f"the first of {wait.modality.value}: it is expected, and nothing of it has come"
    return f"{wait.modality.value} of {wait.source}: progress {_time(wait.progress, now)}, needs {_time(wait.needs, now)}"


def _clocks(clocks: Mapping[Track, Estimate]) -> Iterator[str]:
    astray = [(track, estimate) for track, estimate in furthest(clocks) if estimate.beyond]
    if not astray:
        return
    yield ""
    yield f"{len(astray)} sensor clocks are off (+: ahead, runs fast); an offset in the configuration puts one right:"
    yield from _columns([(f"  {t.session}", t.modality.value, t.source, _clock(e), f"{e.steps} steps") for t, e in astray[:CLOCKS_SHOWN]])
    if len(astray) > CLOCKS_SHOWN:
        yield f"  and {len(astray) - CLOCKS_SHOWN} more: --json shows them"


# for programs


def _instant(at: Micros | None) -> str | None:
    try:
        return None if at is None else format_time(at)
    except OverflowError:
        return None


def _seconds(length: Micros | None) -> float | None:
    return None if length is None else length / SECOND


def _plain_partition(one: PartitionShown) -> dict[str, Any]:
    inputs = [
        {"topic": i.topic, "low_water": i.low, "position": i.position, "end": i.end, "lag": i.lag, "clock": _instant(i.clock or None)}
        for i in one.inputs
    ]
    return {"partition": one.number, "checkpoint": _instant(one.saved), "inputs": inputs, "read_to_the_end": not one.cut, "owed": one.owed}


def _plain_session(partition: PartitionShown, session: SessionShown, clocks: Mapping[Track, Estimate]) -> dict[str, Any]:
    return {
        "session": session.session,
        "partition": partition.number,
        "pace": session.pace.value,
        "watermark": _instant(session.watermark),
        "behind_s": _seconds(session.behind),
        "silence": session.silence and session.silence.value,
        "tracks": [_plain_track(one, session.session, clocks) for one in session.tracks],
        "windows": list(_plain_windows(session.windows)),
        "remembered": session.remembered,
    }


def _plain_track(one: TrackShown, session: SessionId, clocks: Mapping[Track, Estimate]) -> dict[str, Any]:
    estimate = clocks.get(Track(session=session, modality=one.modality, source=one.source))
    return {
        "modality": one.modality.value,
        "source": one.source,
        "state": one.state.value,
        "progress": _instant(one.progress),
        "bound_s": _seconds(one.bound),
        "last_arrival": _instant(one.last),
        "waited_for": one.why_not is None,
        "why_not": one.why_not and one.why_not.value,
        "clock_offset_s": estimate and _seconds(estimate.offset),
        "clock_drift_ppm": estimate and estimate.drift,
    }


def _plain_windows(windows: Iterable[WindowShown]) -> Iterator[dict[str, Any]]:
    for one in windows:
        yield {
            "start": _instant(one.start),
            "end": _instant(one.end),
            "open": one.revision == 0,
            "next_revision": one.revision,
            "events": {modality.value: one.events.get(modality, 0) for modality in Modality},
            "waits_for": [
                {"modality": w.modality.value, "source": w.source, "progress": _instant(w.progress), "needs": _instant(w.needs)}
                for w in one.waits
            ],
        }


def _plain_clock(track: Track, one: Estimate) -> dict[str, Any]:
    return {
        "session": track.session,
        "modality": track.modality.value,
        "source": track.source,
        "offset_s": _seconds(one.offset),
        "drift_ppm": one.drift,
        "steps": one.steps,
        "beyond": one.beyond,
    }
