"""The benchmark runs where torch, torchaudio, transformers and numpy are, and nothing else of the project's requirements."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement

BARE = ("torch", "torchaudio", "transformers", "numpy")
NEVER = {
    "cv2",
    "onnx",
    "onnxruntime",
    "rich",
    "pydantic",
    "msgspec",
    "aiokafka",
    "faust",
    "structlog",
    "scipy",
    "sklearn",
    "cramjam",
    "typer",
}
"""Refused even where one of the four asks for it."""
RUN = """
import sys
from importlib.machinery import PathFinder

allowed = set(sys.argv.pop(1).split(",")) | sys.stdlib_module_names | {"models"}


class Bare:
    find_distributions = PathFinder.find_distributions

    @staticmethod
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, path, target) if name.partition(".")[0] in allowed or name.startswith("_sysconfigdata") else None


sys.meta_path[:] = [Bare if finder is PathFinder else finder for finder in sys.meta_path]
for name in ("cv2", "onnx", "onnxruntime", "rich", "aiokafka", "faust", "structlog", "pydantic", "msgspec"):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    sys.exit(f"{name} was not refused")
from models.bench.__main__ import main

sys.exit(main())
"""


def needed(names: tuple[str, ...]) -> set[str]:
    """These packages and what they require, as importable names."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop().lower().replace("_", "-")
        if name not in found:
            found.add(name)
            left += [one.name for one in _required(name) if one.marker is None or one.marker.evaluate({"extra": ""})]
    return {
        module for module, packages in packages_distributions().items() if found & {one.lower().replace("_", "-") for one in packages}
    } - NEVER


def _required(name: str) -> list[Requirement]:
    try:
        return [Requirement(each) for each in requires(name) or []]
    except PackageNotFoundError:
        return []


def test_it_runs_on_a_bare_machine_and_writes_its_record(tmp_path: Path) -> None:
    record = tmp_path / "bench.json"
    command = [sys.executable, "-c", RUN, ",".join(sorted(needed(BARE))), "--quick", "--device", "cpu", "--json", str(record)]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(record.read_text())
    assert found["equal_holds"] and found["shipped"] is None
    assert "there is no OpenCV here" in done.stdout
    assert {rate["network"] for rate in found["rates"]} == {"pictures", "sound", "words", "head + Shapley"}
    assert [whole["way"] for whole in found["wholes"]] == ["alone", "batched", "fast"]
    assert found["machine"]["versions"].keys() == set(BARE)
