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

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.explain import Removal, removal, top
from models.features import Heard, Said, Seen
from models.fusion.windows import MODALITIES, Windows
from models.head import FusionHead
from models.paragraph import DECIDES, SLIGHT, Account, Found, Moment
from models.tokens import SECOND, Event, Gathered, Token, gather, windows_of
from models.verdict import Verdict, calibration_of, judge

ALIKE = 0.5
"""Tokens say the same as the strongest where each alone says this share of it at least."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One window: its events, in microseconds, when it starts, and what `gather` made of them."""

    events: Sequence[Event]
    start: int
    gathered: Gathered


def accounts(head: FusionHead, events: Sequence[Event], start: int, end: int, *, least: float = 0.5) -> list[Account]:
    """Of the window [start, end), in microseconds: the classes that alarm, or have that probability at least; surest first.

    ValueError where the head is not calibrated.
    """
    case = Case(events=events, start=start, gathered=gather(start, end, events))
    windows = windows_of([case.gathered])
    verdict = judge(head, windows)
    least_C = torch.tensor([min(one.threshold, least) for one in calibration_of(head).classes], dtype=torch.float64)
    (found,) = of_batch(head, [case], windows, verdict, verdict.probability_BC >= least_C.to(verdict.probability_BC.device))
    return sorted(found, key=lambda account: -account.probability)


def of_batch(head: FusionHead, cases: Sequence[Case], windows: Windows, verdict: Verdict, worth_BC: Tensor) -> list[list[Account]]:
    """One list a window: of the classes that are `worth` it, in their order. All in one forward. ValueError: as `accounts`."""
    calibration = calibration_of(head)
    logits, read = head.read_tokens(windows)
    found = removal(lambda some: calibration.odds(logits(some), some.present_BM), read)
    told = {name: _counted(found, name, verdict.share_BMC[:, m]) for m, name in enumerate(MODALITIES)}
    present_BM, probability_BC, share_BMC = windows.present_BM.tolist(), verdict.probability_BC.tolist(), verdict.share_BMC.tolist()
    made: list[list[Account]] = [[] for _ in cases]
    for b, c in worth_BC.nonzero().tolist():
        present, scale = {name: m for m, name in enumerate(MODALITIES) if present_BM[b][m]}, calibration.classes[c]
        account = Account(
            label=scale.name,
            probability=probability_BC[b][c],
            threshold=scale.threshold if scale.threshold <= 1.0 else None,
            shares={name: share_BMC[b][m][c] for name, m in present.items()},
            moments={name: told[name].moment(cases[b], name, b, c) for name in present},
        )
        made[b].append(account)
    return made


def without(events: Iterable[Event], names: Container[str]) -> list[Event]:
    """As if nothing of those modalities had come."""
    of = {Seen: "frames", Heard: "audio", Said: "transcripts"}
    return [event for event in events if of[type(event.features)] not in names]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Counted:
    """By window and class: which token counts, the fall without it, the probability then, and how many say the same."""

    token_BC: list[list[int]]
    fall_BC: list[list[float]]
    left_BC: list[list[float]]
    alike_BC: list[list[int]]

    def moment(self, case: Case, name: str, b: int, c: int) -> Moment:
        """For one class of one window."""
        token: Token = getattr(case.gathered, name)[self.token_BC[b][c]]
        event = case.events[token.event]
        return Moment(
            second=(token.at - case.start) / SECOND,
            found=_found(event, token.patch),
            people=len(event.features.boxes_N5) if isinstance(event.features, Seen) else 0,
            fall=self.fall_BC[b][c],
            left=self.left_BC[b][c],
            alike=self.alike_BC[b][c],
        )


def _counted(found: Removal, name: str, share_BC: Tensor) -> _Counted:
    """Law 3."""
    toward_B1C, mask_BT = torch.where(share_BC < 0, -1.0, 1.0)[:, None], found.mask_BT[name]
    fall_BTC, alone_BTC = found.fall[name] * toward_B1C, found.alone[name] * toward_B1C
    decisive_BC, surest_BC = top(fall_BTC, mask_BT).clamp(min=0), top(alone_BTC, mask_BT).clamp(min=0)
    decides_BC = (DECIDES * share_BC.abs()).clamp(min=SLIGHT)
    token_BC = torch.where(_at(fall_BTC, decisive_BC) >= decides_BC, decisive_BC, surest_BC)
    fall_BC = _at(found.fall[name], token_BC)
    alone_BTC = alone_BTC.masked_fill(~mask_BT[:, :, None], float("-inf"))
    alike_BC = (alone_BTC >= (ALIKE * alone_BTC.amax(1, keepdim=True)).clamp(min=SLIGHT)).sum(1)
    return _Counted(
        token_BC=token_BC.tolist(),
        fall_BC=fall_BC.tolist(),
        left_BC=torch.sigmoid(found.logit_BC - fall_BC).tolist(),
        alike_BC=alike_BC.tolist(),
    )


def _at(value_BTC: Tensor, token_BC: Tensor) -> Tensor:
    return value_BTC.gather(1, token_BC[:, None]).squeeze(1)


def _found(event: Event, patch: int) -> tuple[Found, ...]:
    match event.features:
        case Seen() as seen:
            return (Found(what="person", chance=seen.chances.get("person", 0.0)),)
        case Heard() as heard:
            return tuple(Found(what=label, chance=chance) for label, chance in heard.patches[patch].labels)
        case Said() as said:
            return (Found(what=event.text, chance=max(0.0, said.similarity)),)
