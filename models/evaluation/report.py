"""Write the findings down: report.json, REPORT.md and its plots. `python -m models.evaluation.report FOLDER` renders its JSON anew.

Law: Markdown and plots are made from what report.json holds, never from more; the same JSON gives the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

from models.evaluation.findings import Findings, read, text
from models.evaluation.plots import draw
from models.evaluation.tables import markdown

JSON, MARKDOWN = "report.json", "REPORT.md"


def write(findings: Findings, folder: Path) -> list[Path]:
    """All files, in the folder, which is made. ImportError names what to install where matplotlib is missing; JSON is there then."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JSON).write_text(text(findings), encoding="utf-8")
    return [folder / JSON, *render(folder)]


def render(folder: Path) -> list[Path]:
    """What is made from the folder's report.json. ValueError where that is none."""
    findings = read((folder / JSON).read_text(encoding="utf-8"))
    plots = draw(findings, folder)
    (folder / MARKDOWN).write_text(markdown(findings, plots=plots), encoding="utf-8")
    return [folder / MARKDOWN, *(folder / name for name in plots.values())]


if __name__ == "__main__":
    render(Path(sys.argv[1]))
