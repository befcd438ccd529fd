"""What a person sees of training: a bar in the terminal, curves in TensorBoard. Neither is needed, neither changes a weight."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


def bar() -> Progress:
    """The progress bar of training, in epochs: a context manager for `train(progress=...)`."""
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Where progress goes."""

    progress: Progress | None = None
    board: Any = None

    def start(self, name: str, epochs: int) -> TaskID | None:
        """A stage begins."""
        return self.progress.add_task(name, total=epochs) if self.progress else None

    def epoch(self, task: TaskID | None, name: str, epoch: int, figures: Mapping[str, float]) -> None:
        """An epoch ended."""
        if self.progress and task is not None:
            self.progress.update(task, completed=epoch)
        if self.board is not None:
            for what, figure in figures.items():
                self.board.add_scalar(f"{name}/{what}", figure, epoch)

    def end(self, task: TaskID | None, epochs: int) -> None:
        """A stage ended, perhaps early."""
        if self.progress and task is not None:
            self.progress.update(task, total=epochs, completed=epochs)


SILENT = Watch()


@contextmanager
def watching(progress: Progress | None, log_dir: Path | None) -> Iterator[Watch]:
    """With curves below `log_dir`, where one is given. ImportError where TensorBoard is not installed."""
    board = _board(log_dir) if log_dir else None
    try:
        yield Watch(progress=progress, board=board)
    finally:
        if board is not None:
            board.close()


def _board(log_dir: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as exc:
        raise ImportError(f"curves in {log_dir} need TensorBoard: pip install 'streamer[training]'") from exc
    return SummaryWriter(str(log_dir))
