"""`streamer models`: train heads, and judge them by the benchmark of composed scenes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    no_args_is_help=True,
    help="Train fusion heads and compare them, on scenes composed from real recordings (first: `streamer recordings pull`).",
)
console = Console(markup=False, emoji=False)
HOME = "streamer.home"
"""Where the command line says in its context's `meta` where recordings, weights and examples lie."""

Head = Annotated[Path, typer.Argument(help="A head that `streamer models train` made.", exists=True, dir_okay=False)]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same weights, to the bit.")]


@app.command()
def train(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="The head: one safetensors file, with its calibration.")] = Path("out/models/head.safetensors"),
    method: Annotated[str, typer.Option(help="A fusion method; an unknown one names them all.")] = "gated",
    seed: Seed = 0,
    curves: Annotated[Path | None, typer.Option(help="Folder for TensorBoard.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Folder of checkpoints: an interrupted training goes on from there.")] = None,
) -> None:
    """Train one head: experts first, then what fuses them, then its calibration. Its model card is written beside it.

    The first time, scenes are encoded: ten minutes.
    """
    from streamer import lab

    if method not in lab.EVERY:
        raise typer.BadParameter(f"{method!r} is none of {', '.join(lab.EVERY)}", param_hint="--method")
    command = " ".join(["streamer", *sys.argv[1:]])
    page = lab.train(context.meta[HOME], out, method=method, seed=seed, command=command, curves=curves, resume=resume)
    console.print(f"{out}: {out.stat().st_size / 1e6:.2f} MB; its model card: {page}", soft_wrap=True)


@app.command()
def encoder(
    context: typer.Context,
    architecture: Annotated[str, typer.Argument(help="sound-cnn, sound-crnn, picture-cnn, picture-vit or text-gru.")],
    out: Annotated[Path | None, typer.Option(help="One safetensors file (default: out/models/ARCHITECTURE.safetensors).")] = None,
    seed: Seed = 0,
    curves: Annotated[Path | None, typer.Option(help="Folder for TensorBoard.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Folder of checkpoints: an interrupted training goes on from there.")] = None,
) -> None:
    """Train a small encoder of our own from scratch, on the training recordings. Text takes seconds, sound a quarter of an hour.

    On recordings of other packages the pretrained encoders are far better at sounds and pictures (models/README.md).
    """
    from streamer import lab

    if architecture not in lab.SMALL:
        raise typer.BadParameter(f"{architecture!r} is none of {', '.join(lab.SMALL)}", param_hint="ARCHITECTURE")
    path = out or Path("out/models") / f"{architecture}.safetensors"
    figure, epoch = lab.encoder(context.meta[HOME], path, architecture=architecture, seed=seed, curves=curves, resume=resume)
    console.print(f"{path}: {path.stat().st_size / 1e6:.2f} MB; mean AP on validation {figure:.3f}, epoch {epoch}", soft_wrap=True)


@app.command()
def compare(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for report.json, REPORT.md and the plots.")] = Path("out/models/report"),
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds each method is trained with.")] = 5,
    scale: Annotated[float, typer.Option(min=0.02, help="Share of the scenes and hours: at 1, two to three hours of one core.")] = 1.0,
) -> None:
    """Train every method, judge all of them under every condition, and write the report.

    What was encoded and trained before is used again. Exit code 0 also where aims are missed: the report says which.
    """
    from streamer import lab

    for aim in lab.compare(context.meta[HOME], out, command=" ".join(["streamer", *sys.argv[1:]]), seeds=seeds, scale=scale):
        console.print(f"{'met   ' if aim.met else 'MISSED'} {aim.name}: {aim.found} (wanted {aim.wanted})", soft_wrap=True)
    console.print(f"{out / 'REPORT.md'}", soft_wrap=True)


@app.command()
def evaluate(
    context: typer.Context,
    head: Head,
    condition: Annotated[list[str], typer.Option(help="May be given several times; an unknown one names them all.")] = ["clean"],  # noqa: B006
) -> None:
    """AP by class and calibration error of one head on the test scenes, under some conditions."""
    from rich.table import Table

    from streamer import lab

    if unknown := [name for name in condition if name not in lab.CONDITIONS]:
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(lab.CONDITIONS)}", param_hint="--condition")
    columns = {
        name: {"mean AP": mean, **by_class, "calibration error": error}
        for name, mean, error, by_class in lab.evaluate(context.meta[HOME], head, condition)
    }
    table = Table("", *columns)
    for row in next(iter(columns.values())):
        table.add_row(row, *(f"{column[row]:.3f}" for column in columns.values()))
    console.print(table)


@app.command()
def explain(
    context: typer.Context,
    head: Head,
    scene: Annotated[int, typer.Option(min=0, help="Which scene of the test.")] = 0,
    without: Annotated[list[str], typer.Option(help="A modality to leave out: frames, audio, transcripts.")] = [],  # noqa: B006
    least: Annotated[float, typer.Option(min=0, max=1, help="Also classes below their threshold, from this probability on.")] = 0.5,
    attention: Annotated[
        Path | None, typer.Option(help="Also draw where the head looks, by token and window: FILE.svg or FILE.png.")
    ] = None,
) -> None:
    """Why each window of a composed scene scored what it did, in plain words: what counted most, shares, sounds, pictures, quotes."""
    from streamer import lab

    if unknown := sorted(set(without) - set(lab.SENSES)):
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(lab.SENSES)}", param_hint="--without")
    if scene >= lab.SCENES:
        raise typer.BadParameter(f"{scene} is not below {lab.SCENES}, the number of test scenes", param_hint="--scene")
    if attention and attention.suffix not in lab.DRAWN:
        raise typer.BadParameter(f"{attention} must end in {' or '.join(lab.DRAWN)}", param_hint="--attention")
    told = 0
    for second, text in lab.explain(context.meta[HOME], head, scene=scene, leave_out=frozenset(without), least=least, attention=attention):
        console.print(f"{second:4.0f} s  {text}", soft_wrap=True)
        told += 1
    if not told:
        console.print(f"nothing in scene {scene} alarms or reaches {least:.0%}")
    if attention:
        console.print(f"{attention}: where the head looks", soft_wrap=True)
