"""The other file that imports `models`: what trains heads and judges them, for the command line. Nothing here runs in the pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.progress import Progress

from models.evaluation import report
from models.evaluation.aims import Aim
from models.evaluation.aims import judge as aims_of
from models.evaluation.benchmark import Bench, Plan, judge, learn
from models.evaluation.examples import Encoders, bar
from models.evaluation.media import Media
from models.fusion.methods import METHODS
from models.packages import PackageError, resolve
from models.training.train import train as train_head
from streamer.errors import ConfigError

EVERY = tuple(METHODS)
LEAST_HOURS = 0.5
"""Of a stream: intervals are by blocks of ten minutes."""


def train(home: Path | None, out: Path, *, method: str, seed: int, curves: Path | None = None, resume: Path | None = None) -> None:
    """A calibrated head of one method, as one file. Raises ConfigError.

    `resume`: a folder of checkpoints, to go on from and to write to; `curves`: one for TensorBoard.
    """
    with _opened(home, Plan()) as (bench, progress):
        for folder in filter(None, (out.parent, resume)):
            folder.mkdir(parents=True, exist_ok=True)
        head = train_head(
            method,
            *bench.learning(),
            bench.plan.recipe,
            seed=seed,
            encoders=bench.fingerprint,
            progress=progress,
            log_dir=curves,
            checkpoint_dir=resume,
        )
        head.save(out)


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


@contextmanager
def _opened(home: Path | None, plan: Plan) -> Iterator[tuple[Bench, Progress]]:
    torch.set_num_threads(1)  # operators this small are slower on two
    try:
        with bar() as progress:
            yield Bench(plan, Media.load(home), Encoders.bundled(home), resolve(home) / "examples", progress), progress
    except (PackageError, ValueError, ImportError) as exc:
        raise ConfigError(str(exc)) from exc
