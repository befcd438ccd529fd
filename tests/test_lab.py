"""`streamer models`: each command on the small benchmark, and what it refuses."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.progress import Progress
from typer.testing import CliRunner, Result

from models.classes import LABELS
from models.evaluation.benchmark import Bench, Plan
from models.evaluation.library import SPOKEN
from models.evaluation.media import Media
from models.head import FusionHead
from models.profiles import Encoders
from models.small.text import SmallTexts
from models.training.recipe import Recipe
from streamer import lab
from streamer.cli import app
from tests.models.evaluation.test_benchmark import PLAN, media

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
            yield Bench(PLAN, media, Encoders.tiny(), folder / "examples", progress), progress

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
    assert "What counted most" in told.stdout or "No single moment decides it" in told.stdout


def test_a_modality_is_left_out_and_where_the_head_looks_is_drawn(head: Path, folder: Path) -> None:
    path = folder / "pictures" / "attention.svg"
    told = run("explain", head, "--scene", "1", "--least", "0.0", "--without", "audio", "--attention", path)
    assert told.exit_code == 0 and "Without the sound" in told.stdout and str(path) in told.stdout
    assert "frames, gates" in path.read_text() and "audio, gates" not in path.read_text()


def test_without_matplotlib_it_says_what_to_install(head: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'streamer\[training\]'"):
        list(lab.explain(None, head, scene=1, leave_out=frozenset(), least=0.0, attention=folder / "none.svg"))


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
        (("explain", __file__, "--attention", "map.gif"), ".svg or .png"),
    ],
)
def test_what_is_unknown_is_refused_with_what_is_known(words: tuple[str, ...], named: str) -> None:
    found = run(*words)
    assert found.exit_code == 2 and named in found.output


def test_a_small_encoder_is_trained_from_sentences_and_an_unknown_one_is_refused(folder: Path) -> None:
    path = folder / "text.safetensors"
    precision, epoch = lab.encoder(None, path, architecture="text-gru", seed=0, recipe=Recipe(epochs=1))
    assert 0.0 < precision < 1.0 and epoch == 1
    assert SmallTexts.load(path)(["help"])[0].chances.keys() == set(SPOKEN)
    assert "text-gru" in run("encoder", "guess").stderr


def test_a_heads_card_names_its_file_every_class_and_what_is_weak(head: Path) -> None:
    card = head.with_suffix(".md").read_text("utf-8")
    assert hashlib.sha256(head.read_bytes()).hexdigest() in card and "composed from real recordings" in card
    assert all(f"| {name} |" in card for name in LABELS) and "| frames+audio |" in card and "Where it is weak" in card
