"""Published JSON Schemas (draft 2020-12) of the records that are JSON, one file each."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

RECORDS = ("transcript", "window", "silence", "scores", "alert", "late", "deadletter")


def schema(name: str) -> dict[str, Any]:
    """The schema `NAME.json` of this package."""
    loaded: dict[str, Any] = json.loads((files(__name__) / f"{name}.json").read_text("utf-8"))
    return loaded
