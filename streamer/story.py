"""What a run of the demo should show, what it showed, and the table that holds one against the other."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rich.table import Table

from streamer.events import SECOND, Alert, AlertState, Micros
from streamer.sinks.log import printable
from streamer.sources.scene import Expected

TOLERANCE = Micros(2 * SECOND)  # an episode starts on the window grid: up to one window before what is heard in it


@dataclass(slots=True)
class Story:
    """What came out so far: the first and the latest revision of each alert, by id."""

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


def summary(verdicts: list[Verdict], wrong: list[Alert], story: Story, start: Micros, *, fast: bool) -> Table:
    """The script on the left, what fired on the right. Delay: from the true onset to the alert's arrival on its topic."""
    table = Table(title="The scene's script and what fired", title_justify="left")
    for column in ("expected", "onset", "alert", "score", "first said after", "contributions (log-odds)", "words"):
        table.add_column(column, justify="right" if column in {"onset", "score", "first said after"} else "left")
    for verdict in verdicts:
        expected, alert = verdict.expected, verdict.alert
        if alert is None:
            table.add_row(expected.rule, f"{expected.onset:.1f} s", "[bold red]missed[/]", "", "", "", "")
            continue
        delay = (story.first[alert.id].at - start) / SECOND - expected.onset
        said = "(fast)" if fast else f"{delay:.1f} s"
        table.add_row(
            expected.rule, f"{expected.onset:.1f} s", "[green]fired[/]", f"{alert.score:.2f}", said, _shares(alert), _quotes(alert)
        )
    for alert in wrong:
        at = (alert.start - start) / SECOND
        table.add_row("[red]nothing[/]", f"{at:.1f} s", f"[red]{alert.rule}[/]", f"{alert.score:.2f}", "", _shares(alert), _quotes(alert))
    return table


def _shares(alert: Alert) -> str:
    return "  ".join(f"{modality.value} {value:+.1f}" for modality, value in alert.contributions.items() if value)


def _quotes(alert: Alert) -> str:
    return " / ".join(printable(quote.text) for quote in alert.evidence.quotes[:2])
