"""Fits a `Calibration` on the calibration split, and on nothing else.

Laws:
1. Scales come first, on every window of the split; temperatures then correct each pattern; thresholds are read off the result, where
   there are hours of the same media as a camera gives them, off those: scenes are crowded with what resembles an event. A threshold
   keeps the budget in each view of the hours: also where nothing but pictures is left.
2. A class with fewer than FEWEST positives or negatives keeps its logit as it is (scale 1, bias 0), and no threshold below CAUTIOUS:
   its threshold rests on negatives alone. It has no say in the temperatures.
3. A class whose logits do not rise with the truth keeps the least scale: its base rate, whatever the logit.
4. A pattern with fewer than FEWEST_WINDOWS windows, or than FEWEST positive or negative labels, takes the temperature of the fitted
   pattern that differs in the fewest modalities (of those the one with the most windows, then the first); with none fitted, 1.
5. Fitting a temperature never makes its pattern's smoothed likelihood worse.
6. Views (the windows again, with modalities taken away) tell temperatures alone: scales, counts and thresholds take each window once.

Sources: smoothed targets, Platt 1999; Newton's method with back-tracking, Lin, Lin & Weng 2007; temperature by likelihood, Guo et al. 2017.
Shape key: as in models/calibration.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from models.calibration import HOTTEST, LEAST_SCALE, NEVER, PATTERNS, Calibration, Fallback, Scale, Temperature, patterns
from models.evaluation.alarms import Timeline, lowest_threshold
from models.evaluation.metrics import Bools, Floats
from models.fusion.windows import MODALITIES

VERSION = 2
"""Whoever changes what is fitted, or how thresholds are found (`evaluation/alarms.py`), raises it: heads that were kept are made anew."""
FEWEST = 5
FEWEST_WINDOWS = 50
CAUTIOUS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """The calibration split: what the fusion said of windows that it never trained on, and what was true (bool) there."""

    name: str
    classes: tuple[str, ...]
    logits_BC: Tensor
    truth_BC: Tensor
    present_BM: Tensor
    timeline: Timeline

    def __post_init__(self) -> None:
        B, shape, present = self.timeline.place_B.size, (self.timeline.place_B.size, len(self.classes)), tuple(self.present_BM.shape)
        if not B or not self.logits_BC.shape == self.truth_BC.shape == shape or present != (B, len(MODALITIES)):
            found = f"logits {tuple(self.logits_BC.shape)}, truth {tuple(self.truth_BC.shape)}, present {present}"
            raise ValueError(f"{found}: must be of {B} windows (1 at least), {len(self.classes)} classes, {len(MODALITIES)} modalities")
        if not self.logits_BC.isfinite().all():
            raise ValueError(f"{int((~self.logits_BC.isfinite()).sum())} logits of split {self.name!r} are not finite")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Views:
    """Windows of the calibration split as they would be without some of their modalities, in any number and order."""

    logits_BC: Tensor
    truth_BC: Tensor
    present_BM: Tensor


def fit(split: Split, *, per_hour: float, views: Views | None = None, hours: Sequence[Split] = ()) -> Calibration:
    """Calibrate on that split. Temperatures are fitted on `views`, or without any on the split itself.

    `per_hour`: false alarms per hour that a class may make in each of `hours` (the same ones, seen in different ways), or without any in
    the split. ValueError where classes differ.
    """
    watched = hours or (split,)
    if wrong := [one.classes for one in watched if one.classes != split.classes]:
        raise ValueError(f"classes of the hours {wrong[0]} must be those of the split, {split.classes}")
    logits_BC, truth_BC = _arrays(split)
    scales = tuple(scale(name, logits_BC[:, c], truth_BC[:, c]) for c, name in enumerate(split.classes))
    draft = Calibration(
        split=split.name,
        windows=len(logits_BC),
        hours=watched[0].timeline.hours,
        per_hour=per_hour,
        classes=scales,
        temperatures=_temperatures(scales, views or split),
    )
    threshold_C = np.max([_thresholds(draft, one) for one in watched], axis=0)
    return replace(draft, classes=tuple(_cut(one, threshold) for one, threshold in zip(scales, threshold_C.tolist(), strict=True)))


def _thresholds(draft: Calibration, of: Split) -> list[float]:
    probability_BC, truth_BC = draft.apply(of.logits_BC.detach().cpu(), of.present_BM.cpu()).numpy(), _arrays(of)[1]
    found = range(len(draft.classes))
    return [lowest_threshold(probability_BC[:, c], truth_BC[:, c], of.timeline, per_hour=draft.per_hour) for c in found]


def scale(name: str, logits_B: Floats, truth_B: Bools) -> Scale:
    """One class, its threshold still at NEVER."""
    positives = int(truth_B.sum())
    negatives = truth_B.size - positives
    a, b = 1.0, 0.0
    fallback: Fallback | None = "few_positives" if positives < FEWEST else "few_negatives" if negatives < FEWEST else None
    if fallback is None:
        a, b = platt(logits_B, targets(truth_B))
        if a < LEAST_SCALE:
            a, b, fallback = LEAST_SCALE, math.log((positives + 1) / (negatives + 1)) - LEAST_SCALE * float(logits_B.mean()), "no_order"
    return Scale(name=name, scale=a, bias=b, threshold=NEVER, positives=positives, negatives=negatives, fallback=fallback)


def targets(truth_B: Bools) -> Floats:
    """Platt's smoothed targets: (positives + 1) / (positives + 2) for a positive, 1 / (negatives + 2) for a negative."""
    positives = np.count_nonzero(truth_B)
    return np.where(truth_B, (positives + 1) / (positives + 2), 1 / (truth_B.size - positives + 2))


def platt(logits_B: Floats, target_B: Floats) -> tuple[float, float]:
    """Scale and bias of greatest likelihood; scale 0 where the logits differ by no more than rounding. It may be below 0."""
    middle, spread = float(logits_B.mean()), float(logits_B.std())
    if spread <= 1e-6 * max(1.0, abs(middle)):
        return 0.0, math.log(float(target_B.mean()) / (1 - float(target_B.mean())))
    design_B2 = np.stack([(logits_B - middle) / spread, np.ones_like(logits_B)], axis=1)
    mean = target_B.mean()
    theta_2 = np.array([0.0, math.log(mean / (1 - mean))])
    for _ in range(100):
        chance_B = _sigmoid(design_B2 @ theta_2)
        slope_2 = design_B2.T @ (chance_B - target_B)
        if np.abs(slope_2).max() < 1e-9 * logits_B.size:
            break
        curve_22 = (design_B2 * (chance_B * (1 - chance_B))[:, None]).T @ design_B2 + 1e-12 * np.eye(2)
        step_2, rate = np.linalg.solve(curve_22, slope_2), 1.0
        loss = _loss(design_B2 @ theta_2, target_B)
        while rate > 1e-10 and _loss(design_B2 @ (theta_2 - rate * step_2), target_B) > loss - 1e-4 * rate * float(slope_2 @ step_2):
            rate /= 2
        theta_2 = theta_2 - rate * step_2
    return float(theta_2[0] / spread), float(theta_2[1] - theta_2[0] * middle / spread)


def temperature(odds_N: Floats, target_N: Floats) -> float:
    """The temperature of greatest likelihood in 1/HOTTEST..HOTTEST: the likelihood is concave in its inverse, so by bisection."""
    low, high = -math.log(HOTTEST), math.log(HOTTEST)  # of the inverse's logarithm
    for _ in range(50):
        middle = (low + high) / 2
        too_sure = float(np.sum((_sigmoid(math.exp(middle) * odds_N) - target_N) * odds_N)) > 0
        low, high = (low, middle) if too_sure else (middle, high)
    return min(max(math.exp(-(low + high) / 2), 1 / HOTTEST), HOTTEST)


def _arrays(of: Split | Views) -> tuple[Floats, Bools]:
    return of.logits_BC.detach().double().cpu().numpy(), of.truth_BC.bool().cpu().numpy()


def _temperatures(scales: Sequence[Scale], of: Split | Views) -> dict[str, Temperature]:
    told = [c for c, each in enumerate(scales) if each.fallback is None]
    logits_BC, truth_BC = (array_BC[:, told] for array_BC in _arrays(of))
    odds_BC = np.array([scales[c].scale for c in told]) * logits_BC + np.array([scales[c].bias for c in told])
    pattern_B = patterns(of.present_BM).cpu().numpy()
    count_P = np.bincount(pattern_B, minlength=len(PATTERNS)).tolist()
    target_BC = np.stack([targets(truth_B) for truth_B in truth_BC.T], axis=1) if odds_BC.size else odds_BC
    fitted = {}
    for p, count in enumerate(count_P):
        labels = truth_BC[pattern_B == p]
        if count >= FEWEST_WINDOWS and FEWEST <= labels.sum() <= labels.size - FEWEST:
            fitted[p] = temperature(odds_BC[pattern_B == p].ravel(), target_BC[pattern_B == p].ravel())

    def taken(p: int) -> Temperature:
        if not fitted:
            return Temperature(value=1.0, windows=count_P[p], fitted_on=None)
        best = min(fitted, key=lambda q: ((p ^ q).bit_count(), -count_P[q], q))
        return Temperature(value=fitted[best], windows=count_P[p], fitted_on=PATTERNS[best])

    return {name: taken(p) for p, name in enumerate(PATTERNS)}


def _cut(one: Scale, threshold: float) -> Scale:
    least = CAUTIOUS if one.fallback in ("few_positives", "few_negatives") else 0.0
    return replace(one, threshold=min(max(threshold, least), NEVER))


def _sigmoid(odds_N: Floats) -> Floats:
    return np.exp(-np.logaddexp(0, -odds_N))


def _loss(odds_N: Floats, target_N: Floats) -> float:
    return float(np.sum(np.logaddexp(0, odds_N) - target_N * odds_N))
