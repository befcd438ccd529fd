"""The security classes: what a window can be scored for. Their order is fixed; a new one goes last."""

from __future__ import annotations

CLASSES = ("person", "glass_break", "gunshot", "explosion", "scream", "siren", "footsteps", "spoken_threat", "call_for_help")
"""Names as they stand in scores, rules and alerts."""
