"""A head's model card: what it is for, what it was made of, how good it is on the test scenes, and where it is not.

Shape key: B windows, M modalities, C classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from models.calibration import PATTERNS, Scale
from models.evaluation.examples import Examples
from models.evaluation.findings import Origin
from models.evaluation.intervals import Interval, Statistic, bootstrap
from models.evaluation.metrics import Bools, Floats, average_precision, calibration_error, mean_average_precision
from models.fusion.windows import MODALITIES
from models.head import FusionHead
from models.training.data import predict
from models.verdict import calibration_of

RESAMPLES = 500
COMPOSED = "Test data are composed from real recordings: sound, picture and words were never recorded together."


def card(head: FusionHead, path: Path, test: Examples, origin: Origin) -> str:
    """Markdown. `path`: the head's file; `test`: the test scenes, clean. ValueError where the head is not calibrated."""
    return "\n".join([*_about(head, path, origin), *_classes(head, test), *_availability(head, test), *_limits(head)]) + "\n"


def _about(head: FusionHead, path: Path, origin: Origin) -> Iterator[str]:
    about, calibration = head.about, calibration_of(head)
    data = path.read_bytes()
    weights = sum(tensor.numel() for tensor in head.state_dict().values())
    yield f"# {path.name}: a `{about.method}` fusion head"
    yield ""
    yield "From what encoders make of a window's pictures, sounds and words to a calibrated probability of each security class."
    yield ""
    yield f"- Made {origin.date} by `{origin.command}`: seed {about.seed}, recipe {about.recipe[:16]}."
    yield f"- With {_versions(origin)}, {origin.machine}."
    yield f"- {len(data) / 1e6:.2f} MB, {weights:,} numbers, SHA-256 {hashlib.sha256(data).hexdigest()}."
    yield f"- It reads the encoders {about.encoders[:24]} and no others."
    yield f"- Licence: that of this software. {COMPOSED} The recordings' own licences are in `models/recordings.toml`."
    yield "- Scenes (windows; recordings; packages): " + "; ".join(
        f"{one.name} {one.scenes} ({one.windows:,}; {one.recordings}; {', '.join(one.packages)})" for one in origin.splits
    )
    yield f"- Probabilities are calibrated on {calibration.windows:,} windows of the calibration split, thresholds on"
    yield f"  {calibration.hours:.1f} h composed of its recordings: at most {calibration.per_hour:g} false alarm an hour and class,"
    yield "  whichever modalities are left. What experts, gates and residual keep of what they learned was chosen there too, and some"
    yield "  numbers of the recipe: figures of that split are optimistic."
    yield ""


def _versions(origin: Origin) -> str:
    return ", ".join(f"{name} {version}" for name, version in origin.versions.items())


def _classes(head: FusionHead, test: Examples) -> Iterator[str]:
    probability_BC, truth_BC = _probabilities(head, test), test.truth.truth_BC
    mean = _interval(test, lambda rows: mean_average_precision(probability_BC[rows], truth_BC[rows]))
    error = calibration_error(probability_BC.ravel(), truth_BC.ravel())
    yield "## On the test scenes"
    yield ""
    yield f"Mean AP {_said(mean)}; calibration error {error:.3f}, classes pooled. Intervals: 95 %, by recording; AP in points."
    yield ""
    yield "| class | AP | base rate | windows | threshold | recall there | precision there | positives it was calibrated on |"
    yield "| :-- | --: | --: | --: | --: | --: | --: | --: |"
    for at, one in enumerate(calibration_of(head).classes):
        yield _class_row(one, probability_BC[:, at], truth_BC[:, at], test)
    yield ""


def _class_row(one: Scale, probability_B: Floats, truth_B: Bools, test: Examples) -> str:
    found = _interval(test, lambda rows: average_precision(probability_B[rows], truth_B[rows]))
    alarms_B = probability_B >= one.threshold
    hits = np.count_nonzero(alarms_B & truth_B)
    recall = f"{hits / max(1, truth_B.sum()):.2f}"
    precision = f"{hits / alarms_B.sum():.2f}" if alarms_B.any() else "no alarm"
    threshold = f"{one.threshold:.3f}" if one.threshold <= 1.0 else "never"
    calibrated = f"{one.positives}" + (f" ({one.fallback})" if one.fallback else "")
    cells = (one.name, _said(found), f"{100 * truth_B.mean():.1f}", f"{truth_B.sum()}", threshold, recall, precision, calibrated)
    return f"| {' | '.join(cells)} |"


def _availability(head: FusionHead, test: Examples) -> Iterator[str]:
    yield "| what the window has | mean AP | calibration error |"
    yield "| :-- | --: | --: |"
    for pattern in range(len(PATTERNS) - 1, 0, -1):
        keep_M = torch.tensor([bool(pattern >> m & 1) for m in range(len(MODALITIES))])
        left = Examples(windows=test.windows.only(keep_M.expand(len(test), -1)), truth=test.truth)
        probability_BC, truth_BC = _probabilities(head, left), test.truth.truth_BC
        error = calibration_error(probability_BC.ravel(), truth_BC.ravel())
        yield f"| {PATTERNS[pattern]} | {100 * mean_average_precision(probability_BC, truth_BC):.1f} | {error:.3f} |"
    yield ""


def _limits(head: FusionHead) -> Iterator[str]:
    silent = [one.name for one in calibration_of(head).classes if one.threshold > 1.0]
    yield "## Where it is weak"
    yield ""
    yield "- Scenes hold far more events than a quiet place: a probability is calibrated for them, and too high where little happens."
    yield "- Test figures were looked at while the recipe grew: that an expert keeps a share of its correction was added when they showed"
    yield "  the need. No value in it was chosen on them. These scenes and recordings have been reported on before."
    yield "- A class rests on a handful of recordings: how the head does on yours is not known. Watch a day of your own place first."
    if silent:
        yield f"- No threshold keeps the budget of false alarms for {', '.join(silent)}: by its own threshold the class never alarms."
    yield "- It knows no weapons, fire, fights or falls: there were no recordings of them."
    yield "- How it compares with other methods, and under which conditions it gets worse: `models/report/REPORT.md`."


def _probabilities(head: FusionHead, test: Examples) -> Floats:
    found: Floats = calibration_of(head).apply(predict(head.logits, test.windows), test.windows.present_BM).numpy()
    return found


def _interval(test: Examples, statistic: Statistic) -> Interval:
    return bootstrap(statistic, test.truth.group_B, np.random.default_rng(0), resamples=RESAMPLES)


def _said(found: Interval) -> str:
    return f"{100 * found.figure:.1f} ({100 * found.low:.1f}–{100 * found.high:.1f})"
