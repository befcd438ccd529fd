"""A window's events and a head, to an `Account` of each class that is worth one: what `paragraph` is written from.

Laws:
1. Shares are exact Shapley values of the head's logit, of the modalities that the window has; with the logit of an empty window they sum
   to it (models/explain.py).
2. Only events of the window are evidence: the same that its tokens are made of.

Seconds count from the window's start.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.explain import shapley
from models.features import Heard, Said, Seen
from models.fusion.windows import MODALITIES
from models.head import FusionHead
from models.paragraph import Account, Found
from models.tokens import SECOND, Event, gather, middle, windows_of


def accounts(
    head: FusionHead, events: Sequence[Event], start: int, end: int, *, least: float = 0.5, without: frozenset[str] = frozenset()
) -> list[Account]:
    """Of the window [start, end), in microseconds: the classes that alarm, or have that probability at least; surest first.

    `without`: modalities to leave out, as if they had not come. ValueError where the head is not calibrated.
    """
    if head.calibration is None:
        raise ValueError("this head is not calibrated")
    kept = [event for event in events if _modality(event) not in without]
    windows = windows_of([gather(start, end, kept)])
    probability_C, found = head.probabilities(windows)[0].tolist(), shapley(head.logits, windows)
    present = [bool(each) for each in windows.present_BM[0]]
    picture, people = _picture(kept, start, end)
    sounds, quotes = _sounds(kept, start, end), _quotes(kept, start, end)
    made = [
        Account(
            label=one.name,
            probability=probability_C[c],
            threshold=one.threshold if one.threshold <= 1.0 else None,
            shares={name: float(found.share_BMC[0, m, c]) for m, name in enumerate(MODALITIES) if present[m]},
            picture=picture,
            people=people,
            sounds=sounds,
            quotes=quotes,
        )
        for c, one in enumerate(head.calibration.classes)
        if probability_C[c] >= min(one.threshold, least)
    ]
    return sorted(made, key=lambda account: -account.probability)


def _modality(event: Event) -> str:
    return {Seen: "frames", Heard: "audio", Said: "transcripts"}[type(event.features)]


def _picture(events: Sequence[Event], start: int, end: int) -> tuple[Found | None, int]:
    """The one with the surest person; the earliest of equals."""
    seen = [(event, event.features) for event in events if isinstance(event.features, Seen) and start <= event.start < end]
    if not seen:
        return None, 0
    event, best = min(seen, key=lambda pair: (-pair[1].chances.get("person", 0.0), pair[0].start))
    chance = best.chances.get("person", 0.0)
    return Found(what="person", chance=chance, second=(event.start - start) / SECOND), len(best.boxes_N5)


def _sounds(events: Sequence[Event], start: int, end: int) -> tuple[Found, ...]:
    """Each label where it was surest."""
    best: dict[str, Found] = {}
    for event in events:
        for patch in event.features.patches if isinstance(event.features, Heard) else ():
            if start <= (at := middle(event.start, patch)) < end:
                for label, chance in patch.labels:
                    if label not in best or chance > best[label].chance:
                        best[label] = Found(what=label, chance=chance, second=(at - start) / SECOND)
    return tuple(best.values())


def _quotes(events: Sequence[Event], start: int, end: int) -> tuple[Found, ...]:
    return tuple(
        Found(what=event.text, chance=max(0.0, event.features.similarity), second=(event.start - start) / SECOND)
        for event in events
        if isinstance(event.features, Said) and start < max(event.end, event.start + 1) and event.start < end
    )
