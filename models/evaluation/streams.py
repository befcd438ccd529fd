"""What an operator of each method would see in hours of a stream: false alarms per hour, events found, seconds until the alert.

Laws:
1. Events are found in one stream, false alarms are counted in another that has no event: no alarm there is excused by an event.
2. False alarms at a threshold are the most at it or any higher one: alarms that merge into one never make a threshold look better.
3. Seeds are averaged: `count`, `missed` and recall are means over seeds; delays are of all seeds' alerts together.

An interval is by block of ten segments, those with one background (`scripts.BLOCK`). A bootstrap of no alarm would be sure of none, so
a rate has the wider of it and of the exact Poisson interval (Garwood 1936).

Shape key: B windows, C classes in the order of LABELS, E events (runs of true windows), G blocks, R resamples, T thresholds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from models.classes import LABELS
from models.evaluation.alarms import JOIN_HOPS, Ints, Timeline, episodes, threshold_at_recall, time_to_alert
from models.evaluation.compare import RESAMPLES
from models.evaluation.findings import ClassTrack, Figure, MethodTrack, Point, Rate, StreamTrack
from models.evaluation.intervals import around, counts
from models.evaluation.metrics import Bools, Floats
from models.evaluation.scripts import BLOCK, SEGMENT_S, Script
from models.evaluation.truth import HOP_S, WINDOW_S, Truth, events, label

RECALL = 0.8
_CURVE = tuple(tenth / 20 for tenth in range(1, 21))
_CLOSE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stream:
    """A stream's windows. `onset_BC`: when the first event that counts there began, in seconds of the stream; NaN where none does."""

    truth: Truth
    timeline: Timeline
    onset_BC: Floats
    block_B: Ints

    @classmethod
    def of(cls, scripts: Sequence[Script]) -> Stream:
        """Of its segments, in their order (`scripts.stream`)."""
        truth = label(scripts)
        start_B = truth.start_B
        hop_B = np.round(start_B / HOP_S).astype(np.int64)
        return cls(
            truth=truth,
            timeline=Timeline(session_B=np.zeros_like(hop_B), hop_B=hop_B, hop_s=HOP_S),
            onset_BC=_onsets(scripts, truth),
            block_B=(start_B // (SEGMENT_S * BLOCK)).astype(np.int64),
        )

    @property
    def hours(self) -> float:
        """Time watched."""
        return self.timeline.hours


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Watch:
    """What one method, trained with one seed, gave for both streams: calibrated probabilities; and its calibrated thresholds."""

    method: str
    seed: int
    events_BC: Floats
    negatives_BC: Floats
    thresholds_C: Floats


def track(
    watches: Iterable[Watch],
    with_events: Stream,
    negatives: Stream,
    *,
    recall: float = RECALL,
    resamples: int = RESAMPLES,
    rng_seed: int = 0,
) -> StreamTrack:
    """Judge them. ValueError where the negatives hold an event, or probabilities are not those of the windows."""
    if negatives.truth.truth_BC.any():
        raise ValueError(f"{np.count_nonzero(negatives.truth.truth_BC.any(1))} windows of the negatives hold an event")
    by_method: dict[str, list[Watch]] = {}
    for one in watches:
        shapes = (one.events_BC.shape, one.negatives_BC.shape, one.thresholds_C.shape)
        if shapes != (with_events.truth.truth_BC.shape, negatives.truth.truth_BC.shape, (len(LABELS),)):
            raise ValueError(f"{one.method}, seed {one.seed}: {shapes} are not the shapes of the streams' windows and classes")
        by_method.setdefault(one.method, []).append(one)
    drawing = _Drawing(with_events, negatives, recall, resamples, rng_seed)
    methods = (
        MethodTrack(method=method, seeds=tuple(one.seed for one in own), classes=tuple(drawing.of(own, c) for c in range(len(LABELS))))
        for method, own in by_method.items()
    )
    return StreamTrack(wanted=recall, event_hours=with_events.hours, negative_hours=negatives.hours, methods=tuple(methods))


def false_alarm_curve(scores_B: Floats, timeline: Timeline) -> tuple[Floats, Ints]:
    """Each threshold that changes anything, from above, and the most alarms at it or a higher one, where no window is true. O(B log B).

    An alarm begins at a window that reaches the threshold when none within two hops before does. So a window begins one at thresholds
    between its own score and the greatest of those before it.
    """
    before_B = _before(scores_B, timeline)
    joins_B = np.isfinite(before_B)
    value_N = np.concatenate([scores_B, np.minimum(scores_B, before_B)[joins_B]])
    step_N = np.concatenate([np.ones(scores_B.size, np.int64), -np.ones(np.count_nonzero(joins_B), np.int64)])
    order = np.argsort(-value_N, kind="stable")
    last = np.flatnonzero(np.diff(value_N[order], append=-math.inf))
    return value_N[order][last], np.maximum.accumulate(np.cumsum(step_N[order])[last])


def most_alarms(curve: tuple[Floats, Ints], threshold: float) -> tuple[int, float]:
    """How many there are at the threshold or a higher one, at most, and the highest threshold with that many."""
    at_T, most_T = curve
    reached = int(np.count_nonzero(at_T >= threshold))
    if not reached:
        return 0, math.inf
    most = int(most_T[reached - 1])
    return most, float(at_T[np.searchsorted(most_T, most)])


def poisson(count: float, *, level: float = 0.95) -> tuple[float, float]:
    """Bounds of the mean of a count, exact for whole numbers; others are widened to the whole numbers around them (Garwood 1936)."""
    tail = (1 - level) / 2
    low, high = math.floor(count + _CLOSE), math.ceil(count - _CLOSE)
    return (_root(low - 1, 1 - tail) if low else 0.0), _root(high, tail)


def _root(count: int, chance: float) -> float:
    """The mean at which a count of at most that has that chance: it falls as the mean rises."""
    low, high = 0.0, 2.0 * count + 20.0
    for _ in range(100):
        mean = (low + high) / 2
        low, high = (mean, high) if _at_most(count, mean) > chance else (low, mean)
    return (low + high) / 2


def _at_most(count: int, mean: float) -> float:
    return math.fsum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(count + 1)) if mean > 0 else 1.0


class _Drawing:
    """Both streams, with the draws of their blocks."""

    def __init__(self, with_events: Stream, negatives: Stream, recall: float, resamples: int, rng_seed: int) -> None:
        self.events, self.negatives, self.recall = with_events, negatives, recall
        self.event_RG, self.negative_RG = (
            counts(one.block_B, np.random.default_rng(rng_seed), resamples) for one in (with_events, negatives)
        )
        self.event_G, self.negative_G = (np.unique(one.block_B, return_inverse=True)[1] for one in (with_events, negatives))

    def of(self, watches: Sequence[Watch], c: int) -> ClassTrack:
        """One class, all seeds."""
        truth_B = self.events.truth.truth_BC[:, c]
        event_B = episodes(truth_B, self.events.timeline)
        curves = [false_alarm_curve(one.negatives_BC[:, c], self.negatives.timeline) for one in watches]
        wanted = [threshold_at_recall(one.events_BC[:, c], truth_B, self.events.timeline, recall=self.recall) for one in watches]
        calibrated = [float(one.thresholds_C[c]) for one in watches]
        alert = [_alerts(one.events_BC[:, c] >= cut, event_B, self.events) for one, cut in zip(watches, calibrated, strict=True)]
        start_E = _starts(event_B, self.events.onset_BC[:, c])
        delays = time_to_alert(np.tile(start_E, len(watches)), np.concatenate(alert))
        return ClassTrack(
            label=LABELS[c],
            events=start_E.size,
            alarms=self._rate(watches, c, curves, wanted),
            recall=self._recall(alert, event_B),
            calibrated=self._rate(watches, c, curves, calibrated),
            p50_s=delays.p50_s,
            p95_s=delays.p95_s,
            missed=delays.missed / len(watches),
            curve=tuple(self._point(watches, c, curves, each) for each in _CURVE) if start_E.size else (),
        )

    def _rate(self, watches: Sequence[Watch], c: int, curves: Sequence[tuple[Floats, Ints]], cuts: Sequence[float]) -> Rate:
        """Of the negatives. NaN where there is no threshold."""
        hours, line = self.negatives.hours, self.negatives.timeline
        if any(math.isnan(cut) for cut in cuts):
            return Rate(count=math.nan, hours=hours, per_hour=math.nan, low=math.nan, high=math.nan)
        found = [most_alarms(curve, cut) for curve, cut in zip(curves, cuts, strict=True)]
        count = float(np.mean([each for each, _ in found]))
        begun_G = np.zeros(self.negative_RG.shape[1])
        for one, (_, cut) in zip(watches, found, strict=True):
            scores_B = one.negatives_BC[:, c]
            begins_B = (scores_B >= cut) & (_before(scores_B, line) < cut)
            begun_G += np.bincount(self.negative_G[begins_B], minlength=begun_G.size) / len(watches)
        hours_G = np.bincount(self.negative_G) * line.hop_s / 3600
        span = around(count / hours, self.negative_RG @ begun_G / (self.negative_RG @ hours_G), groups=begun_G.size)
        low, high = (each / hours for each in poisson(count))
        return Rate(count=count, hours=hours, per_hour=count / hours, low=min(low, span.low), high=max(high, span.high))

    def _recall(self, alert: Sequence[Floats], event_B: Ints) -> Figure:
        found_SE = ~np.isnan(np.array(alert))
        if not found_SE.size:
            return Figure(mean=math.nan, spread=math.nan)
        found_S = found_SE.mean(1)
        first_E = np.array([np.flatnonzero(event_B == at)[0] for at in range(found_SE.shape[1])])
        of_E, blocks = self.event_G[first_E], self.event_RG.shape[1]
        events_R = self.event_RG @ np.bincount(of_E, minlength=blocks)
        with np.errstate(invalid="ignore"):
            drawn_R = self.event_RG @ np.bincount(of_E, weights=found_SE.mean(0), minlength=blocks) / events_R
        span = around(float(found_S.mean()), drawn_R, groups=blocks)
        spread = float(np.std(found_S, ddof=1)) if found_S.size > 1 else math.nan
        return Figure(mean=span.figure, spread=spread, low=span.low, high=span.high)

    def _point(self, watches: Sequence[Watch], c: int, curves: Sequence[tuple[Floats, Ints]], recall: float) -> Point:
        truth_B = self.events.truth.truth_BC[:, c]
        cuts = [threshold_at_recall(one.events_BC[:, c], truth_B, self.events.timeline, recall=recall) for one in watches]
        alarms = np.mean([most_alarms(curve, cut)[0] for curve, cut in zip(curves, cuts, strict=True)])
        return Point(recall=recall, per_hour=float(alarms / self.negatives.hours))


def _before(scores_B: Floats, timeline: Timeline) -> Floats:
    """The greatest score within two hops before each window; -inf where there is none."""
    order = np.argsort(timeline.place_B)
    place_B, sorted_B = timeline.place_B[order], scores_B[order]
    most_B = np.full(scores_B.size, -np.inf)
    for back in range(1, JOIN_HOPS + 1):
        near = place_B[back:] - place_B[:-back] <= JOIN_HOPS
        most_B[back:] = np.maximum(most_B[back:], np.where(near, sorted_B[:-back], -np.inf))
    before_B = np.empty_like(most_B)
    before_B[order] = most_B
    return before_B


def _starts(event_B: Ints, onset_B: Floats) -> Floats:
    """When each event began."""
    start_E = np.full(event_B.max(initial=-1) + 1, np.inf)
    np.minimum.at(start_E, event_B[event_B >= 0], onset_B[event_B >= 0])
    return start_E


def _alerts(alarm_B: Bools, event_B: Ints, stream: Stream) -> Floats:
    """The end of the first window of each event that alarms; NaN where none does."""
    alert_E = np.full(event_B.max(initial=-1) + 1, np.inf)
    rows = np.flatnonzero(alarm_B & (event_B >= 0))
    np.minimum.at(alert_E, event_B[rows], stream.truth.start_B[rows] + WINDOW_S)
    return np.where(np.isfinite(alert_E), alert_E, np.nan)


def _onsets(scripts: Sequence[Script], truth: Truth) -> Floats:
    """A joint class begins with its glass."""
    onset_BC = np.full(truth.truth_BC.shape, np.nan)
    for at in np.unique(truth.script_B[truth.truth_BC.any(1)]).tolist():
        rows = np.flatnonzero(truth.script_B == at)
        for event in events(scripts[at]):
            names = (event.label, "intrusion", "breakage") if event.label == "glass_break" else (event.label,)
            for row in rows:
                start = float(truth.start_B[row]) - scripts[at].start
                for c in (LABELS.index(name) for name in names if name in LABELS):
                    if truth.truth_BC[row, c] and event.counts((start, start + WINDOW_S)):
                        onset_BC[row, c] = np.fmin(onset_BC[row, c], scripts[at].start + event.start)
    return onset_BC
