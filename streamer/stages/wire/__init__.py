"""Every record that is JSON: windows, silences, scores, alerts, late records, dead letters."""

from streamer.stages.wire.dead import dead_letter, read_deadletter, write_deadletter
from streamer.stages.wire.records import (
    read_alert,
    read_late,
    read_scores,
    read_window,
    write_alert,
    write_late,
    write_scores,
    write_silence,
    write_window,
)

__all__ = [
    "dead_letter",
    "read_alert",
    "read_deadletter",
    "read_late",
    "read_scores",
    "read_window",
    "write_alert",
    "write_deadletter",
    "write_late",
    "write_scores",
    "write_silence",
    "write_window",
]
