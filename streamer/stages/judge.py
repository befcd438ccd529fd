"""A judgement and its window, as the record that is written: what was used, what was absent and why."""

from __future__ import annotations

from collections.abc import Sequence

from streamer.events import Absent, Scores, Window
from streamer.stages.cache import Unusable
from streamer.stages.fuse import FuseInput, Judgement


def fuse_input(window: Window, held: Sequence[object]) -> FuseInput:
    """`held`: features or Unusable for each event, in the manifest's order."""
    return FuseInput(window=window, features=tuple(None if isinstance(value, Unusable) else value for value in held))


def scores(window: Window, held: Sequence[object], judgement: Judgement, *, model: str, calibrated: bool, may_alert: bool) -> Scores:
    """What is said of this revision. Completeness is the aligner's; what could not be used of it is in `absent`."""
    events = tuple(zip(window.manifest, held, strict=True))
    return Scores(
        window=window.id,
        revision=window.revision,
        session=window.session,
        start=window.start,
        end=window.end,
        closed_by=window.closed_by,
        classes=judgement.classes,
        evidence=judgement.evidence,
        completeness=window.completeness,
        absent=tuple(Absent(ref=ref, reason=str(value.reason)) for ref, value in events if isinstance(value, Unusable)),
        sources=tuple(ref.origin for ref, value in events if not isinstance(value, Unusable)),
        model=model,
        calibrated=calibrated,
        may_alert=may_alert,
        trigger=window.trigger,
        pace=window.pace,
    )
