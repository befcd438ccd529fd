"""A window's events and a head, to an `Account` of each class that is worth one: what `paragraph` is written from.

Laws:
1. Shares are exact Shapley values, of the modalities that the window has, in calibrated log-odds (models/verdict.py).
2. A moment's `fall` is by how much the log-odds of the probability fall without its token, and `left` the probability then.
3. Of a modality's tokens the one counts whose removal takes most from what the modality says (from what it says against the class, where
   its share is negative). Where that decides nothing (models/paragraph.py), the one that says most alone.
4. Only events of the window are evidence: the same that its tokens are made of.

Seconds count from the window's start. Shape key: as in models/fusion/windows.py.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from models.explain import Removal, removal, top
from models.features import Heard, Said, Seen
from models.fusion.windows import MODALITIES
from models.head import FusionHead
from models.paragraph import DECIDES, SLIGHT, Account, Found, Moment
from models.tokens import SECOND, Event, Token, gather, windows_of
from models.verdict import calibration_of, judge

ALIKE = 0.5
"""Tokens say the same as the strongest where each alone says this share of it at least."""


def accounts(head: FusionHead, events: Sequence[Event], start: int, end: int, *, least: float = 0.5) -> list[Account]:
    """Of the window [start, end), in microseconds: the classes that alarm, or have that probability at least; surest first.

    ValueError where the head is not calibrated.
    """
    calibration = calibration_of(head)
    gathered = gather(start, end, events)
    windows = windows_of([gathered])
    verdict = judge(head, windows)
    found = removal(lambda some: calibration.odds(head.logits(some), some.present_BM), windows)
    present = [name for m, name in enumerate(MODALITIES) if windows.present_BM[0, m]]
    shares = {name: verdict.share_BMC[0, MODALITIES.index(name)] for name in present}
    tokens = {name: getattr(gathered, name) for name in present}
    moments = {name: [_moment(tokens[name], events, start, *each) for each in _counted(found, name, shares[name])] for name in present}
    made = [
        Account(
            label=one.name,
            probability=float(verdict.probability_BC[0, c]),
            threshold=one.threshold if one.threshold <= 1.0 else None,
            shares={name: float(share_C[c]) for name, share_C in shares.items()},
            moments={name: moment_C[c] for name, moment_C in moments.items()},
        )
        for c, one in enumerate(calibration.classes)
        if verdict.probability_BC[0, c] >= min(one.threshold, least)
    ]
    return sorted(made, key=lambda account: -account.probability)


def without(events: Iterable[Event], names: Container[str]) -> list[Event]:
    """As if nothing of those modalities had come."""
    of = {Seen: "frames", Heard: "audio", Said: "transcripts"}
    return [event for event in events if of[type(event.features)] not in names]


def _counted(found: Removal, name: str, share_C: Tensor) -> Iterator[tuple[int, float, float, int]]:
    """For each class, of a batch of one: which token counts, the fall without it, the probability then, and how many say the same."""
    toward_C = torch.where(share_C < 0, -1.0, 1.0)
    fall_BTC, alone_BTC = found.fall[name] * toward_C, found.alone[name] * toward_C
    there_BT = torch.ones(fall_BTC.shape[:2], dtype=torch.bool)
    decisive_BC, surest_BC = top(fall_BTC, there_BT), top(alone_BTC, there_BT)
    decides_C = (DECIDES * share_C.abs()).clamp(min=SLIGHT)
    token_BC = torch.where(_at(fall_BTC, decisive_BC) >= decides_C, decisive_BC, surest_BC)
    fall_BC = _at(found.fall[name], token_BC)
    left_BC = torch.sigmoid(found.logit_BC - fall_BC)
    alike_BC = (alone_BTC >= (ALIKE * alone_BTC.amax(1, keepdim=True)).clamp(min=SLIGHT)).sum(1)
    return zip(*(each_BC[0].tolist() for each_BC in (token_BC, fall_BC, left_BC, alike_BC)), strict=True)


def _at(value_BTC: Tensor, token_BC: Tensor) -> Tensor:
    return value_BTC.gather(1, token_BC[:, None]).squeeze(1)


def _moment(tokens: Sequence[Token], events: Sequence[Event], start: int, at: int, fall: float, left: float, alike: int) -> Moment:
    token = tokens[at]
    event = events[token.event]
    people = len(event.features.boxes_N5) if isinstance(event.features, Seen) else 0
    return Moment(second=(token.at - start) / SECOND, found=_found(event, token.patch), people=people, fall=fall, left=left, alike=alike)


def _found(event: Event, patch: int) -> tuple[Found, ...]:
    match event.features:
        case Seen() as seen:
            return (Found(what="person", chance=seen.chances.get("person", 0.0)),)
        case Heard() as heard:
            return tuple(Found(what=label, chance=chance) for label, chance in heard.patches[patch].labels)
        case Said() as said:
            return (Found(what=event.text, chance=max(0.0, said.similarity)),)
