"""`streamer models`: train heads, and judge them by the benchmark of composed scenes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console(markup=False, emoji=False)
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same weights, to the bit.")]


def commands(home: Callable[[], Path]) -> typer.Typer:
    """The sub-commands; `home` says where recordings, weights and examples lie."""
    app = typer.Typer(
        no_args_is_help=True,
        help="Train fusion heads and compare them, on scenes composed from real recordings (first: `streamer recordings pull`).",
    )

    @app.command()
    def train(
        out: Annotated[Path, typer.Option(help="The head: one safetensors file, with its calibration.")] = Path(
            "out/models/head.safetensors"
        ),
        method: Annotated[str, typer.Option(help="A fusion method; an unknown one names them all.")] = "gated",
        seed: Seed = 0,
        curves: Annotated[Path | None, typer.Option(help="Folder for TensorBoard.")] = None,
        resume: Annotated[Path | None, typer.Option(help="Folder of checkpoints: an interrupted training goes on from there.")] = None,
    ) -> None:
        """Train one head: experts first, then what fuses them, then its calibration. The first time, scenes are encoded: ten minutes."""
        from streamer import lab

        if method not in lab.EVERY:
            raise typer.BadParameter(f"{method!r} is none of {', '.join(lab.EVERY)}", param_hint="--method")
        lab.train(home(), out, method=method, seed=seed, curves=curves, resume=resume)
        console.print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")

    @app.command()
    def compare(
        out: Annotated[Path, typer.Option(help="Folder for report.json, REPORT.md and the plots.")] = Path("out/models/report"),
        seeds: Annotated[int, typer.Option(min=1, help="How many seeds each method is trained with.")] = 5,
        scale: Annotated[float, typer.Option(min=0.02, help="Share of the scenes and hours: at 1, an hour and a half.")] = 1.0,
    ) -> None:
        """Train every method, judge all of them under every condition, and write the report.

        What was encoded and trained before is used again. Exit code 0 also where aims are missed: the report says which.
        """
        from streamer import lab

        for aim in lab.compare(home(), out, command=" ".join(["streamer", *sys.argv[1:]]), seeds=seeds, scale=scale):
            console.print(f"{'met   ' if aim.met else 'MISSED'} {aim.name}: {aim.found} (wanted {aim.wanted})")
        console.print(f"{out / 'REPORT.md'}")

    return app
