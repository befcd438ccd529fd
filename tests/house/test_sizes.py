"""Files stay small, functions shorter, everything typed and every module explained."""

from __future__ import annotations

import ast
import statistics

from tests.house.sizes import ROOT, files, functions, project_files, untyped


def test_no_file_is_longer_than_400_lines() -> None:
    assert [piece for piece in files() if piece.lines > 400] == []


def test_no_function_is_longer_than_60_lines() -> None:
    assert [piece for piece in functions() if piece.lines > 60] == []


def test_most_functions_are_short() -> None:
    lengths = sorted(piece.lines for piece in functions() if not piece.name.startswith("tests/"))
    assert statistics.median(lengths) <= 10
    assert lengths[int(0.9 * (len(lengths) - 1))] <= 30


def test_every_function_that_ships_is_typed() -> None:
    assert [line for path in project_files("streamer/*.py", "models/*.py", "deploy/*.py") for line in untyped(path)] == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [path.relative_to(ROOT) for path in project_files("*.py") if not ast.get_docstring(ast.parse(path.read_text() or "0"))]
    assert [str(path) for path in silent if path.name != "__init__.py"] == []
