"""How large the files and functions are. `python -m tests.house.sizes` prints the figures."""

from __future__ import annotations

import ast
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A file or a function, and its length in lines."""

    name: str
    lines: int


def project_files(*patterns: str) -> list[Path]:
    """Files that git knows or would take, newest state on disk."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [ROOT / name for name in sorted(set(names)) if (ROOT / name).is_file()]


def files() -> list[Piece]:
    """Every Python file."""
    return [Piece(name=str(path.relative_to(ROOT)), lines=len(path.read_text().splitlines())) for path in project_files("*.py")]


def functions_of(path: Path) -> Iterator[Function]:
    """Every function and method, nested ones too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Function):
            yield node


def functions() -> list[Piece]:
    """Every function, from its `def` to its last line."""
    return [
        Piece(name=f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", lines=(node.end_lineno or node.lineno) - node.lineno + 1)
        for path in project_files("*.py")
        for node in functions_of(path)
    ]


def untyped(path: Path) -> Iterator[str]:
    """Functions of a file that leave a parameter or the result without a type."""
    for node in functions_of(path):
        every = node.args.posonlyargs + node.args.args + node.args.kwonlyargs + [a for a in (node.args.vararg, node.args.kwarg) if a]
        bare = [a.arg for a in every if a.annotation is None and a.arg not in ("self", "cls", "mcs")]
        if bare or node.returns is None:
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name} {' '.join(bare)}"


def main() -> None:
    """Print median, 90th percentile and the largest, for the code that ships and for the tests."""
    for title, kept in (("code", ("streamer/", "models/", "deploy/")), ("tests", ("tests/",))):
        for kind, pieces in (("files", files()), ("functions", functions())):
            chosen = [piece for piece in pieces if piece.name.startswith(kept)]
            lengths = sorted(piece.lines for piece in chosen)
            largest = max(chosen, key=lambda piece: piece.lines)
            p90 = lengths[int(0.9 * (len(lengths) - 1))]
            middle = statistics.median(lengths)
            print(f"{title} {kind}: {len(lengths)}, median {middle:.0f}, p90 {p90}, largest {largest.lines} ({largest.name})")


if __name__ == "__main__":
    main()
