"""The image: what is installed in it, as whom it runs, and how it says that it lives. (No image can be built here.)"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import distribution, packages_distributions

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.test_compose import ROOT
from tests.house.sizes import project_files

DOCKERFILE = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
STEPS = re.sub(r"\\\n\s*", "", DOCKERFILE).splitlines()
TEST_TOOLS = {"pytest", "mypy", "ruff", "hypothesis", "coverage", "import-linter", "pytest-xdist", "cloudevents"}


def required(name: str, seen: set[str]) -> set[str]:
    """The distribution and everything it needs on this platform, extras left out unless asked for."""
    if name not in seen:
        seen.add(name)
        for requirement in map(Requirement, distribution(name).requires or ()):
            if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
                required(canonicalize_name(requirement.name), seen)
                for extra in requirement.extras:
                    extras(canonicalize_name(requirement.name), extra, seen)
    return seen


def extras(name: str, extra: str, seen: set[str]) -> None:
    """What an extra adds."""
    for requirement in map(Requirement, distribution(name).requires or ()):
        if requirement.marker and requirement.marker.evaluate({"extra": extra}) and not requirement.marker.evaluate({"extra": ""}):
            required(canonicalize_name(requirement.name), seen)


DRAWS = {"models/evaluation/plots.py", "models/evaluation/attention_plot.py"}
"""What only training asks for, and says so where its extra is not installed: the image has none of it."""


def imported() -> Iterator[str]:
    """Top-level names of all modules that the code imports and that are not Python's or ours; what draws reports apart."""
    for path in project_files("streamer/*.py", "models/*.py"):
        if path.relative_to(ROOT).as_posix() in DRAWS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            yield from (top for name in names if (top := name.split(".")[0]) not in sys.stdlib_module_names | {"streamer", "models"})


def test_what_is_installed_is_what_the_project_requires_and_no_test_tool() -> None:
    installs = [step for step in STEPS if "pip install" in step]
    assert [re.findall(r"pip install ([^&]*?) *(?:&&|$)", step) for step in installs] == [["--constraint constraints.txt ."]]
    assert required("streamer", set()) & TEST_TOOLS == set()


def test_everything_that_is_installed_is_pinned() -> None:
    pins = {canonicalize_name(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    assert required("streamer", set()) - pins - {"streamer", "pip", "setuptools"} == set()


def test_everything_that_the_code_imports_is_installed() -> None:
    installed, homes = required("streamer", set()), packages_distributions()
    assert {name for name in imported() if not installed & {canonicalize_name(home) for home in homes.get(name, ())}} == set()


def test_the_syntax_line_is_the_first_where_alone_it_is_read() -> None:
    assert DOCKERFILE.startswith("# syntax=docker/dockerfile:1\n")


def test_it_runs_without_privileges_and_asks_itself_whether_it_lives() -> None:
    last = STEPS[max(number for number, step in enumerate(STEPS) if step.startswith("FROM")) :]
    assert "USER 10001:10001" in last
    [health] = [step for step in last if step.startswith("HEALTHCHECK")]
    code = json.loads(health.split("CMD ", 1)[1])[2]
    assert 'os.environ["HEALTH_PORT"]' in code and "/livez" in code
    ast.parse(code)
