"""The security classes: what a window can be scored for. Their order is fixed; a new one goes last."""

from __future__ import annotations

from collections.abc import Mapping

CLASSES = ("person", "glass_break", "gunshot", "explosion", "scream", "siren", "footsteps", "spoken_threat", "call_for_help")
"""Those that an encoder can speak of."""
JOINT: Mapping[str, tuple[str, ...]] = {"intrusion": ("person", "glass_break"), "breakage": ("person", "glass_break")}
"""Those that two modalities decide together, and by which classes: glass with a person near, and glass without."""
LABELS = (*CLASSES, *JOINT)
"""All of them. Names as they stand in scores, rules and alerts."""
