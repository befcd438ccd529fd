"""What a run of the demo should show, what it showed, and the table that holds one against the other."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rich.table import Table
from rich.text import Text

from streamer.events import SECOND, Alert, AlertState, Micros
from streamer.sinks.log import printable, told
from streamer.sources.scene import Expected

TOLERANCE = Micros(2 * SECOND)  # an episode starts on the window grid: up to one window before what is heard in it


@dataclass(slots=True)
class Story:
    """What came out so far: the first and the latest revision of each alert, by id; whether the session has ended."""

    first: dict[str, Alert] = field(default_factory=dict)
    latest: dict[str, Alert] = field(default_factory=dict)
    seen: float = 0.0
    ended: bool = False

    def add(self, alert: Alert) -> None:
        """Take one revision; revisions of an alert come in order."""
        self.first.setdefault(alert.id, alert)
        self.latest[alert.id] = alert
        self.seen = time.monotonic()

    @property
    def final(self) -> list[Alert]:
        """Alerts that were not taken back, by start."""
        kept = [alert for alert in self.latest.values() if alert.state is not AlertState.RETRACTED]
        return sorted(kept, key=lambda alert: (alert.start, alert.rule))


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One line of the script, and the alert that answers it."""

    expected: Expected
    alert: Alert | None


def compare(script: tuple[Expected, ...], story: Story, start: Micros) -> tuple[list[Verdict], list[Alert]]:
    """Match final alerts to the script by rule and time; what matches nothing is returned beside."""
    left = story.final
    verdicts: list[Verdict] = []
    for expected in script:
        onset = start + round(expected.onset * SECOND)
        latest = onset + round(expected.within * SECOND)
        hit = next((a for a in left if a.rule == expected.rule and onset - TOLERANCE <= a.start <= latest), None)
        if hit:
            left.remove(hit)
        verdicts.append(Verdict(expected=expected, alert=hit))
    return verdicts, left


def said(alert: Alert, start: Micros) -> Text:
    """One revision as one line: seconds since the scene's start, then what the log sink says of it (its state too)."""
    return Text.assemble((f"{(alert.start - start) / SECOND:5.1f} s  ", "dim"), told(alert))


def problems(verdicts: list[Verdict], wrong: list[Alert], story: Story) -> list[str]:
    """Why the demo fails, or nothing."""
    found = [] if story.ended else ["gave up before the session had ended"]
    if missed := [verdict.expected.rule for verdict in verdicts if not verdict.alert]:
        found.append(f"missed {', '.join(missed)}")
    if wrong:
        found.append(f"{len(wrong)} not in the script ({', '.join(printable(alert.rule) for alert in wrong)})")
    return found


def summary(verdicts: list[Verdict], wrong: list[Alert], story: Story, start: Micros, *, fast: bool) -> Table:
    """The script on the left, what fired on the right. Delay: from the true onset to the alert's arrival on its topic.

    Every cell is a Text: what was said in the scene is never taken for markup.
    """
    table = Table(title="The scene's script and what fired", title_justify="left")
    for column in ("expected", "onset", "alert", "score", "first said after", "contributions (log-odds)", "words"):
        right = column in {"onset", "score", "first said after"}
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for verdict in verdicts:
        expected, alert = verdict.expected, verdict.alert
        onset = Text(f"{expected.onset:.1f} s")
        if alert is None:
            table.add_row(Text(expected.rule), onset, Text("missed", "bold red"))
            continue
        delay = (story.first[alert.id].at - start) / SECOND - expected.onset
        after = Text("(fast)" if fast else f"{delay:.1f} s")
        table.add_row(Text(expected.rule), onset, Text("fired", "green"), _score(alert), after, _shares(alert), _quotes(alert))
    for alert in wrong:
        at = Text(f"{(alert.start - start) / SECOND:.1f} s")
        rule = Text(printable(alert.rule), "red")
        table.add_row(Text("nothing", "red"), at, rule, _score(alert), Text(), _shares(alert), _quotes(alert))
    return table


def _score(alert: Alert) -> Text:
    return Text(f"{alert.score:.2f}")


def _shares(alert: Alert) -> Text:
    return Text("  ".join(f"{modality.value} {value:+.1f}" for modality, value in alert.contributions.items() if value))


def _quotes(alert: Alert) -> Text:
    return Text(" / ".join(printable(quote.text) for quote in alert.evidence.quotes[:2]))
