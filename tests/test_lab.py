"""`streamer models`: each command on the small benchmark, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.progress import Progress
from typer.testing import CliRunner, Result

from models.evaluation.benchmark import Bench, Plan
from models.evaluation.media import Media
from models.head import FusionHead
from streamer import lab
from streamer.cli import app
from tests.models.evaluation.test_benchmark import PLAN, media
from tests.models.evaluation.test_examples import TINY

__all__ = ["media"]  # a fixture


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["models", *map(str, words)], env={"COLUMNS": "240"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(autouse=True)
def small(media: Media, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The benchmark is that of PLAN, on the demo's recordings and tiny encoders."""

    @contextmanager
    def opened(home: Path | None, plan: Plan) -> Iterator[tuple[Bench, Progress]]:
        with Progress(disable=True) as progress:
            yield Bench(PLAN, media, TINY, folder / "examples", progress), progress

    monkeypatch.setattr(lab, "_opened", opened)


@pytest.fixture
def head(folder: Path) -> Path:
    path = folder / "heads" / "gated.safetensors"
    if not path.is_file():
        found = run("train", "--out", path, "--resume", folder / "checkpoints")
        assert found.exit_code == 0 and str(path) in found.stdout
    return path


def test_a_head_is_trained_evaluated_and_explained(head: Path) -> None:
    assert FusionHead.load(head).about.method == "gated"
    found = run("evaluate", head, "--condition", "clean", "--condition", "dark")
    assert found.exit_code == 0 and "clean" in found.stdout and "dark" in found.stdout and "intrusion" in found.stdout
    told = run("explain", head, "--scene", "1", "--least", "0.0")
    assert told.exit_code == 0 and "The sound" in told.stdout and "Without the sound" not in told.stdout
    assert "Without the sound" in run("explain", head, "--scene", "1", "--least", "0.0", "--without", "audio").stdout


def test_methods_are_compared_and_missed_aims_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run("compare", "--out", folder / "report", "--seeds", "1")
    assert (
        found.exit_code == 0 and "Dominance gap" in found.stdout and "composed from real" in (folder / "report" / "REPORT.md").read_text()
    )


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("train", "--method", "guess"), "bottleneck"),
        (("evaluate", __file__, "--condition", "fog"), "packet_loss"),
        (("explain", __file__, "--without", "smell"), "transcripts"),
        (("explain", __file__, "--scene", "100000"), "test scenes"),
    ],
)
def test_what_is_unknown_is_refused_with_what_is_known(words: tuple[str, ...], named: str) -> None:
    found = run(*words)
    assert found.exit_code == 2 and named in found.output
