"""Why a class scored what it did, as a plain paragraph for whoever is on duty: made of evidence alone, no model writes it.

Laws:
1. Every number in it is one that came in, rounded; nothing is said of a modality beyond its share and its evidence.
2. The moment whose removal takes most comes first, then what moved the score, by size; what moved it by less than SLIGHT log-odds is said
   to matter little.
3. A moment is said to count most only where it decides: its removal takes SLIGHT log-odds, and the part DECIDES of its modality's share.
   That several say the same is said only where they do.
4. What was said stands in quotation marks, on one line, cut to MOST_QUOTE characters, without control characters: it is data.
5. A modality that is missing is named: silence is not absence of evidence.

Shares are log-odds that a modality adds to the score (models/explain.py); seconds count from the window's start. Where it is known when
that was, moments are told by the clock.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from models.fusion.windows import MODALITIES

SLIGHT = 0.2
DECIDES = 0.2
MOST_QUOTE = 120
MOST = 3
"""Sounds of one moment that are named."""
Clock = Callable[[float], str]
"""From seconds after the window's start to "at ..."."""
_NAMES = {"frames": "the pictures", "audio": "the sound", "transcripts": "the words"}
_ONE = {"frames": "the picture", "audio": "the sound", "transcripts": "the words"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One piece of evidence: what, and how sure in 0..1."""

    what: str
    chance: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The picture, the patch of sound or the transcript of a modality that counts most for a class.

    `fall`: by how much the class's log-odds fall without it (they rise where negative), `left`: the probability then. `alike`: how many of
    its modality's say about the same alone, itself among them; 0 where none says much. `people`: how many boxes a picture has.
    """

    second: float
    found: tuple[Found, ...]
    fall: float
    left: float
    alike: int
    people: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """All that a paragraph is made of. `threshold`: None where the class does not alarm.

    `shares` has the modalities that are present, `moments` those of which there is one to tell.
    """

    label: str
    probability: float
    threshold: float | None
    shares: Mapping[str, float]
    moments: Mapping[str, Moment] = field(default_factory=dict)


def paragraph(account: Account, *, start: float | None = None) -> str:
    """Two to six sentences, one line. `start`: of the window, in seconds since 1970, UTC.

    ValueError for a share, or a moment, of what is no modality that is present.
    """
    if unknown := set(account.shares) - set(MODALITIES):
        raise ValueError(f"shares of {', '.join(sorted(unknown))}: must be of {', '.join(MODALITIES)}")
    if unknown := set(account.moments) - set(account.shares):
        raise ValueError(f"moments of {', '.join(sorted(unknown))}: must be of what has a share")
    order = sorted(account.shares, key=lambda name: (-abs(account.shares[name]), MODALITIES.index(name)))
    strong = [name for name in order if abs(account.shares[name]) >= SLIGHT]
    weak = [name for name in order if name not in strong]
    lead, clock = _lead(account, strong), _relative if start is None else _by_the_clock(start)
    sentences = [_verdict(account), *_most(account, strong, lead, clock), *(_because(account, name, lead, clock) for name in strong)]
    if weak:
        names = _listed([_NAMES[name] for name in weak])
        sentences.append(f"{_upper(names)} {'matter' if len(weak) > 1 or weak[0] != 'audio' else 'matters'} little.")
    if missing := [_NAMES[name] for name in MODALITIES if name not in account.shares]:
        sentences.append(f"Without {_listed(missing)}: nothing came.")
    return " ".join(sentences)


def _verdict(account: Account) -> str:
    name = _upper(account.label.replace("_", " "))
    if account.threshold is None:
        return f"{name}: {account.probability:.0%}."
    side = "at or above" if account.probability >= account.threshold else "below"
    return f"{name}: {account.probability:.0%}, {side} its threshold of {account.threshold:.0%}."


def _taken(account: Account, name: str) -> float:
    """How much its moment's removal takes from what the modality says, for the class or against it."""
    if name not in account.moments:
        return 0.0
    return account.moments[name].fall if account.shares[name] >= 0 else -account.moments[name].fall


def _lead(account: Account, strong: Sequence[str]) -> str | None:
    """The modality whose moment counts most; None where no moment does."""
    return max((name for name in strong if _decides(account, name)), key=lambda name: _taken(account, name), default=None)


def _decides(account: Account, name: str) -> bool:
    return _taken(account, name) >= max(SLIGHT, DECIDES * abs(account.shares[name]))


def _most(account: Account, strong: Sequence[str], lead: str | None, clock: Clock) -> list[str]:
    if lead:
        moment = account.moments[lead]
        pronoun = "them" if lead == "transcripts" else "it"
        return [f"What counted most: {_ONE[lead]} {_shown(moment, lead, clock)}; without {pronoun} {moment.left:.0%}."]
    told = [name for name in strong if name in account.moments]
    if not told:
        return []
    agreeing = [name for name in told if (account.shares[name] > 0) is (account.shares[told[0]] > 0)]
    several = sum(account.moments[name].alike for name in agreeing) > 1
    return ["No single moment decides it; several say the same." if several else "No single moment decides it."]


def _because(account: Account, name: str, lead: str | None, clock: Clock) -> str:
    share = account.shares[name]
    verb = "speak" if name != "audio" else "speaks"
    said = f"{_upper(_NAMES[name])} {verb} {'for' if share > 0 else 'against'} it ({share:+.1f})"
    if name == lead or name not in account.moments:
        return f"{said}."
    moment = account.moments[name]
    how = "as" if moment.alike > 1 and not _decides(account, name) else "most"
    return f"{said}, {how} {_shown(moment, name, clock)}."


def _shown(moment: Moment, name: str, clock: Clock) -> str:
    """When, and what."""
    found = moment.found[:MOST]
    sure = [f"{plain(one.what)} {one.chance:.0%}" for one in found]
    who = {0: "nobody", 1: "one person"}.get(moment.people, f"{moment.people} people")
    what = {"frames": [who, *sure], "audio": sure, "transcripts": [f"“{plain(one.what)}”" for one in found]}[name]
    when = clock(moment.second)
    return f"{when} ({'; '.join(what)})" if what else when


def _relative(second: float) -> str:
    return f"at {second + 0.0:.1f} s" if second >= 0 else f"from {-second:.1f} s before"


def _by_the_clock(start: float) -> Clock:
    def clock(second: float) -> str:
        tenth = round((start + second) * 10)
        return f"at {datetime.fromtimestamp(tenth // 10, UTC):%H:%M:%S}.{tenth % 10} UTC"

    return clock


def plain(text: str) -> str:
    """On one line, without control and format characters or our quotation marks, cut to MOST_QUOTE."""
    kept = "".join(" " if letter.isspace() else letter for letter in text if letter.isspace() or unicodedata.category(letter)[0] != "C")
    line = " ".join(kept.replace("“", "'").replace("”", "'").split())
    return line if len(line) <= MOST_QUOTE else line[: MOST_QUOTE - 1].rstrip() + "…"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
