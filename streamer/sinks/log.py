"""One line per alert for a person at a terminal, and below one that is new, why. What was said in the scene is shown, but never obeyed:
no control characters.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime

from rich.console import Console
from rich.text import Text

from streamer.events import SECOND, Alert, AlertState, Micros, Modality, Severity
from streamer.sinks.sink import Delivery

_SEVERITY = {Severity.INFO: "cyan", Severity.WARNING: "yellow", Severity.CRITICAL: "bold white on red"}
_STATE = {AlertState.UPGRADED: "bold red", AlertState.RETRACTED: "strike dim", AlertState.RESOLVED: "green"}
_SHORT = {Modality.FRAMES: "video", Modality.AUDIO: "sound", Modality.TRANSCRIPTS: "words"}
_QUOTE, _EXPLANATION = 120, 1_000  # characters
_NEW = (AlertState.RAISED, AlertState.UPGRADED)


class LogSink:
    """Prints to a rich console (stdout when none is given). Its yes is the line."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(soft_wrap=True, highlight=False)

    async def send(self, delivery: Delivery) -> None:
        """Print it."""
        self._console.print(told(delivery.alert), soft_wrap=True)


def told(alert: Alert, indent: int = 9) -> Text:
    """Its line, and below that of a new one, so far to the right, why."""
    if not alert.explanation or alert.state not in _NEW:
        return line(alert)
    why = " " * indent + printable(alert.explanation, _EXPLANATION)
    return line(alert).append("\n").append(why, style="dim italic")


def line(alert: Alert) -> Text:
    """Time (UTC), severity, state, rule, score, contributions in log-odds, words; and whether the score is calibrated."""
    text = Text(f"{_clock(alert.start)} ", style="dim")
    text.append(f"{alert.severity.value.upper():<8} ", style=_SEVERITY[alert.severity])
    text.append(f"{alert.state.value:<9} ", style=_STATE.get(alert.state, ""))
    text.append(f"{printable(alert.session)} {printable(alert.rule)} ", style="bold")
    text.append(f"{alert.score:.2f}", style="bold")
    text.append("" if alert.calibrated else " uncalibrated", style="dim")
    parts = [f"{_SHORT[modality]} {share:+.1f}" for modality, share in alert.contributions.items() if share]
    text.append(f"  [{', '.join(parts)}]" if parts else "", style="dim")
    for sound in alert.evidence.sounds[:2]:
        text.append(f"  heard {printable(sound.label)} {sound.probability:.2f}")
    for quote in alert.evidence.quotes[:2]:
        text.append(f"  “{printable(quote.text)}”", style="italic")
    return text


def printable(text: str, most: int = _QUOTE) -> str:
    """Text without anything that a terminal could obey or that could reorder it (Unicode categories C* and Z* but the space)."""
    shown = "".join(c if c == " " or unicodedata.category(c)[0] not in "CZ" else "�" for c in text[:most])
    return shown if len(text) <= most else shown + "…"


def _clock(at: Micros) -> str:
    return datetime.fromtimestamp(at / SECOND, tz=UTC).strftime("%H:%M:%S")
