"""The other file that imports `models`: what trains heads and judges them, for the command line. Nothing here runs in the pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.progress import Progress

from models.account import accounts, without
from models.evaluation import report
from models.evaluation.aims import Aim
from models.evaluation.aims import judge as aims_of
from models.evaluation.attention_plot import SUFFIXES, draw
from models.evaluation.benchmark import Bench, Plan, judge, learn
from models.evaluation.card import card
from models.evaluation.compare import CLEAN
from models.evaluation.corruptions import CONDITIONS as EVERY_CONDITION
from models.evaluation.examples import bar
from models.evaluation.media import Media
from models.evaluation.metrics import average_precision, calibration_error, mean_average_precision
from models.evaluation.truth import WINDOW_S
from models.fusion.methods import METHODS
from models.fusion.windows import MODALITIES
from models.head import FusionHead
from models.packages import PackageError, resolve
from models.paragraph import paragraph
from models.profiles import Encoders
from models.recordings import Split
from models.small.corpus import train_small
from models.small.train import KINDS
from models.tokens import SECOND
from models.training.recipe import Recipe
from models.training.train import train as train_head
from streamer.errors import ConfigError

EVERY, CONDITIONS, SENSES, SCENES = tuple(METHODS), tuple(EVERY_CONDITION), MODALITIES, Plan().scenes[Split.TEST]
SMALL = tuple(KINDS)
DRAWN = SUFFIXES
"""How a picture's file may end."""
LEAST_HOURS = 0.5
"""Of a stream: intervals are by blocks of ten minutes."""


def train(
    home: Path | None, out: Path, *, method: str, seed: int, command: str, curves: Path | None = None, resume: Path | None = None
) -> Path:
    """A calibrated head of one method, as one file; returns its model card, which lies beside it. Raises ConfigError.

    `resume`: a folder of checkpoints, to go on from and to write to; `curves`: one for TensorBoard.
    """
    page = out.with_suffix(".md")
    with _opened(home, Plan()) as (bench, progress):
        for folder in filter(None, (out.parent, resume)):
            folder.mkdir(parents=True, exist_ok=True)
        head = train_head(
            method,
            *bench.learning(),
            bench.plan.recipe,
            seed=seed,
            hours=bench.hours(),
            encoders=bench.fingerprint,
            progress=progress,
            log_dir=curves,
            checkpoint_dir=resume,
        )
        head.save(out)
        origin = bench.origin(date=datetime.now(UTC).date().isoformat(), command=command)
        page.write_text(card(head, out, bench.test(CLEAN), origin), "utf-8")
    return page


def encoder(
    home: Path | None,
    out: Path,
    *,
    architecture: str,
    seed: int,
    curves: Path | None = None,
    resume: Path | None = None,
    recipe: Recipe | None = None,
) -> tuple[float, int]:
    """A small encoder of our own, from scratch; its mean AP on validation, and the epoch that gave it. Raises ConfigError.

    `recipe`: another than its architecture's own.
    """
    torch.set_num_threads(1)
    with _translated(), bar() as progress:
        for folder in filter(None, (out.parent, resume)):
            folder.mkdir(parents=True, exist_ok=True)
        found = train_small(architecture, home, out, seed=seed, recipe=recipe, progress=progress, log_dir=curves, checkpoint_dir=resume)
    return found.precision, found.epoch


def compare(home: Path | None, out: Path, *, command: str, seeds: int = 5, scale: float = 1.0) -> list[Aim]:
    """Train and judge every method; the report lies in `out`. `scale`: of the number of scenes and hours. Raises ConfigError."""
    plan = Plan()
    plan = Plan(
        scenes={split: max(1, round(count * scale)) for split, count in plan.scenes.items()},
        seeds=tuple(range(seeds)),
        event_hours=max(LEAST_HOURS, plan.event_hours * scale),
        negative_hours=max(LEAST_HOURS, plan.negative_hours * scale),
    )
    with _opened(home, plan) as (bench, progress):
        learned = {seed: learn(bench, seed, progress) for seed in plan.seeds}
        found = judge(bench, learned, date=datetime.now(UTC).date().isoformat(), command=command)
        report.write(found, out)
    return aims_of(found)


def evaluate(home: Path | None, path: Path, conditions: Sequence[str]) -> Iterator[tuple[str, float, float, dict[str, float]]]:
    """By condition: mean AP, calibration error, and AP by class, of one head on the test scenes. Raises ConfigError."""
    with _opened(home, Plan()) as (bench, _):
        head = FusionHead.load(path)
        for name in conditions:
            found = bench.test(name)
            probability_BC, truth_BC = head.probabilities(found.windows).numpy(), found.truth.truth_BC
            by_class = {label: average_precision(probability_BC[:, c], truth_BC[:, c]) for c, label in enumerate(head.about.classes)}
            error = calibration_error(probability_BC.ravel(), truth_BC.ravel())
            yield name, mean_average_precision(probability_BC, truth_BC), error, by_class


def explain(
    home: Path | None, path: Path, *, scene: int, leave_out: frozenset[str], least: float, attention: Path | None = None
) -> Iterator[tuple[float, str]]:
    """Second and paragraph, for each window of a test scene and each class that is worth one. Raises ConfigError.

    `leave_out`: modalities, as if they had not come. `attention`: a picture of where the head looks, SVG or PNG.
    """
    with _opened(home, Plan()) as (bench, _):
        head, script = FusionHead.load(path), bench.scripts[Split.TEST][scene]
        events = without(bench.events(script), leave_out)
        starts, length = range(0, int(script.seconds - WINDOW_S + 1) * SECOND, SECOND), round(WINDOW_S * SECOND)
        if attention:
            attention.parent.mkdir(parents=True, exist_ok=True)
            draw(head, events, starts, length, attention)
        for start in starts:
            for account in accounts(head, events, start, start + length, least=least):
                yield start / SECOND, paragraph(account)


@contextmanager
def _opened(home: Path | None, plan: Plan) -> Iterator[tuple[Bench, Progress]]:
    torch.set_num_threads(1)  # operators this small are slower on two
    with _translated(), bar() as progress:
        yield Bench(plan, Media.load(home), Encoders.bundled(home), resolve(home) / "examples", progress), progress


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (PackageError, ValueError, ImportError, OSError) as exc:
        raise ConfigError(str(exc)) from exc
