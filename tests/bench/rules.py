"""`make bench NAME=rules`: what the rules that ship find, and how often they are wrong, with the head that ships.

Probabilities of composed scenes go through decide itself, rule by rule: hysteresis, duration and all. An event is a run of windows in
which its class is true; it is found when an alert of the rule is within two windows of it, and an alert that is near no true window is a
false one. Events are counted without cooldowns: in crowded scenes they would hide half. False alarms are counted with them.

Thresholds were chosen on the calibration split (the demo's glass and siren are among its recordings), after the test split's figures had
been seen too: no blind test. Scenes are composed from real recordings.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.classes import LABELS
from models.evaluation.alarms import JOIN_HOPS, Timeline, episodes, near
from models.evaluation.benchmark import Bench, Plan, timed
from models.evaluation.metrics import Bools, Floats
from models.evaluation.truth import HOP_S, WINDOW_S
from models.fusion.windows import MODALITIES
from models.head import FusionHead
from models.profiles import bundled_head
from models.recordings import Split
from models.training.data import Data
from streamer import ids, lab
from streamer.cli import home
from streamer.events import (
    SECOND,
    Alert,
    AlertState,
    ClassScore,
    ClosedBy,
    Evidence,
    Micros,
    Modality,
    Scores,
    SessionId,
    SessionMark,
    Silence,
)
from streamer.rules import Rule, Rules, load_rules
from streamer.stages.decide import Decider, DecideSettings
from tests.bench.report import report, table

START = Micros(1_795_000_000 * SECOND)
HOP, LENGTH = Micros(round(HOP_S * SECOND)), Micros(round(WINDOW_S * SECOND))
THRESHOLDS, SWEPT = [one / 100 for one in (95, 90, 80, 70, 60, 55, 50, 45, 40, 35, 30, 25, 20, 15, 10, 5)], 5.0
SETTINGS = DecideSettings(hop=HOP, horizon=Micros(180 * SECOND), length=LENGTH)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Watched:
    """Windows with their place in time, what is true in them, what they have of each modality, and what the head says."""

    probability_BC: Floats
    truth_BC: Bools
    present_BM: Bools
    timeline: Timeline

    @classmethod
    def of(cls, head: FusionHead, data: Data, *, one_session: bool = False) -> Watched:
        """`one_session`: its scenes are minutes of one watched place."""
        assert data.timeline
        timeline = data.timeline
        if one_session:
            timeline = Timeline(session_B=np.zeros_like(timeline.session_B), hop_B=timeline.hop_B, hop_s=HOP_S)
        return cls(
            probability_BC=head.probabilities(data.windows).numpy(),
            truth_BC=data.truth_BC.numpy(),
            present_BM=data.windows.present_BM.numpy(),
            timeline=timeline,
        )

    def alerts(self, rules: Rules) -> Iterator[tuple[int, Alert]]:
        """Session and alert, as each stands in the end."""
        order = np.lexsort((self.timeline.hop_B, self.timeline.session_B))
        for session in np.unique(self.timeline.session_B):
            decider, last = Decider(rules, SETTINGS), dict[str, Alert]()
            rows = order[self.timeline.session_B[order] == session]
            for offset, record in enumerate(self._records(int(session), rows)):
                last |= {alert.id: alert for alert in decider.push(record, arrival=START, offset=offset)}
            yield from ((int(session), alert) for alert in last.values() if alert.state is not AlertState.RETRACTED)

    def _records(self, session: int, rows: Iterable[int]) -> Iterator[Scores | SessionMark]:
        name, end = SessionId(f"s{session}"), START
        for row in rows:
            shares = {Modality(modality): 0.0 for modality, there in zip(MODALITIES, self.present_BM[row], strict=True) if there}
            start = Micros(START + int(self.timeline.hop_B[row]) * HOP)
            end = Micros(start + LENGTH)
            yield Scores(
                window=ids.window_id(name, start, end),
                revision=0,
                session=name,
                start=start,
                end=end,
                closed_by=ClosedBy.WATERMARK,
                classes={
                    label: ClassScore(probability=float(self.probability_BC[row, c]), contributions=shares)
                    for c, label in enumerate(LABELS)
                },
                evidence=Evidence(),
                completeness={},
                absent=(),
                sources=(),
                model="bundled",
                calibrated=True,
                trigger=end,
            )
        yield SessionMark(session=name, at=end, why=Silence.END)

    def count(self, rule: Rule) -> dict[str, Any]:
        """How many events of the rule's class are found, and its false alarms."""
        truth_B = self.truth_BC[:, LABELS.index(rule.label)]
        near_B, event_B = near(truth_B, self.timeline), episodes(truth_B, self.timeline)
        patient = rule.model_copy(update={"cooldown": Micros(0)})
        touched = {int(event) for hit_B in self._hits(patient, reach=JOIN_HOPS) for event in np.unique(event_B[hit_B & truth_B])}
        false = sum(not (hit_B & near_B).any() for hit_B in self._hits(rule, reach=0))
        return {"events": int(event_B.max(initial=-1)) + 1, "found": len(touched), "false": false, "hours": self.timeline.hours}

    def _hits(self, rule: Rule, *, reach: int) -> Iterator[Bools]:
        """For each alert the windows that lie within it, or so many hops beside it."""
        for session, alert in self.alerts(Rules(rules=(rule,))):
            first, last = (alert.start - START) // HOP - reach, (alert.end - LENGTH - START) // HOP + reach
            hop_B = self.timeline.hop_B
            yield (self.timeline.session_B == session) & (hop_B >= first) & (hop_B <= last)


def watched(bench: Bench, head: FusionHead) -> Mapping[str, tuple[Watched, ...]]:
    """By split what events are counted in and what false alarms are counted in."""
    hours = bench.hours()
    assert hours
    streams = []
    for events in (True, False):
        _, parts = bench.stream(events=events)
        streams.append(_joined([Watched.of(head, timed(part), one_session=True) for part in parts]))
    calibration = (Watched.of(head, bench.calibration()), Watched.of(head, hours, one_session=True))
    return {Split.CALIBRATION.value: calibration, Split.TEST.value: tuple(streams)}


def _joined(parts: list[Watched]) -> Watched:
    return Watched(
        probability_BC=np.concatenate([part.probability_BC for part in parts]),
        truth_BC=np.concatenate([part.truth_BC for part in parts]),
        present_BM=np.concatenate([part.present_BM for part in parts]),
        timeline=Timeline(
            session_B=np.concatenate([part.timeline.session_B for part in parts]),
            hop_B=np.concatenate([part.timeline.hop_B for part in parts]),
            hop_s=HOP_S,
        ),
    )


def sweep(rules: Sequence[Rule], events: Watched, quiet: Watched) -> Iterator[dict[str, Any]]:
    """A row for each threshold, as long as fewer than SWEPT false alarms an hour come."""
    for rule in rules:
        share = rule.stays / rule.threshold
        for threshold in THRESHOLDS:
            other = rule.model_copy(update={"threshold": threshold, "off_threshold": share * threshold, "upgrade": None})
            found, false = events.count(other), quiet.count(other)
            an_hour = false["false"] / false["hours"]
            yield {"rule": rule.id, "threshold": threshold, "found": found["found"], "of": found["events"], "false an hour": an_hour}
            if an_hour > SWEPT:
                break


def main() -> None:
    """A row for each rule."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rules", type=Path, help="other rules than those that ship")
    options.add_argument("--head", type=Path, help="another head than the one that ships")
    options.add_argument(
        "--sweep", action="store_true", help="each rule at other thresholds, on the calibration split alone: to choose one"
    )
    given = options.parse_args()
    head = FusionHead.load(given.head) if given.head else bundled_head()
    with lab._opened(home(), Plan()) as (bench, _):
        every = watched(bench, head)
    thresholds = {one.name: one.threshold for one in head.calibration.classes} if head.calibration else {}
    if given.sweep:
        print(table(list(sweep(load_rules(given.rules).rules, *every[Split.CALIBRATION.value]))))
        return
    rows = []
    for rule in load_rules(given.rules).rules:
        row: dict[str, Any] = {"rule": rule.id, "threshold": rule.threshold, "head's": thresholds[rule.label]}
        for split, (events, quiet) in every.items():
            found, false = events.count(rule), quiet.count(rule)
            row |= {split: f"{found['found']} of {found['events']}", f"{split}, false an hour": false["false"] / false["hours"]}
        rows.append(row)
    print(table(rows))
    worst = max(row["test, false an hour"] for row in rows)
    kept = given.head is None and given.rules is None
    report("rules", worst, "false alarms an hour, of the worst rule, on the test's hours without events", None, None, keep=kept, rows=rows)


if __name__ == "__main__":
    main()
