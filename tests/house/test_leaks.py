"""Nothing of the machine that this was written on stands in the files: no path, no package index, no secret."""

from __future__ import annotations

import re
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from tests.house.sizes import ROOT, project_files

TEXT = {".py", ".toml", ".txt", ".yml", ".yaml", ".json", ".md", ".sh", ".xml", ".properties", ".cfg", ".ini", ".sha256", ".conf", ""}
PUBLIC = {"pypi.org", "files.pythonhosted.org", "repo1.maven.org", "repo.maven.apache.org"}
MACHINE_PATH = re.compile(r"(?<![\w.$}~-])/(?:work|root|home/\w+|tmp/bash\w*)/\w")
INDEX_OPTION = re.compile(
    r"^\s*(?:-i|--(?:extra-)?index-url|--find-links|-f|--trusted-host)[ =]|<(?:repository|mirror|pluginRepository)>", re.M
)


def texts() -> dict[str, str]:
    """Every text file of the project."""
    chosen = [path for path in project_files() if path.suffix in TEXT]
    return {str(path.relative_to(ROOT)): path.read_text("utf-8", errors="replace") for path in chosen}


def test_no_file_names_a_path_of_this_machine() -> None:
    found = [f"{name}: {hit[0]}" for name, text in texts().items() for hit in MACHINE_PATH.finditer(text)]
    assert [line for line in found if not line.startswith("tests/house/test_leaks.py")] == []


@pytest.mark.parametrize(
    "name", ["constraints.txt", "deploy/setup/tools.txt", "deploy/setup/bench.txt", "deploy/kafka/pom.xml", "pyproject.toml"]
)
def test_pins_name_no_index_or_mirror(name: str) -> None:
    assert INDEX_OPTION.search((ROOT / name).read_text()) is None


def test_no_file_names_the_package_index_of_this_machine() -> None:
    shown = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    hosts = {urlsplit(url).hostname or "" for url in re.findall(r"https?://[^'\s]+", shown)} - PUBLIC - {""}
    assert [f"{name}: {host}" for name, text in texts().items() for host in hosts if host in text] == []


def test_every_pin_is_exact() -> None:
    for name in ("constraints.txt", "deploy/setup/tools.txt", "deploy/setup/bench.txt"):
        lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]
        assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[\w.+!]+", line)] == []


def test_the_tree_stays_small() -> None:
    assert sum(path.stat().st_size for path in project_files()) < 40 * 1024 * 1024
