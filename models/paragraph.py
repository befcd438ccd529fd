"""Why a class scored what it did, as a plain paragraph for whoever is on duty: made of evidence alone, no model writes it.

Laws:
1. Every number in it is one that came in, rounded; nothing is said of a modality beyond its share and its evidence.
2. What moved the score comes first, by size; what moved it by less than SLIGHT log-odds is said to matter little.
3. What was said stands in quotation marks, on one line, cut to MOST_QUOTE characters, without control characters: it is data.
4. A modality that is missing is named: silence is not absence of evidence.

Shares are log-odds that a modality adds to the score (models/explain.py); seconds count from the window's start.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from models.fusion.windows import MODALITIES

SLIGHT = 0.2
MOST_QUOTE = 120
MOST = 3
"""Sounds, and quotes, that are named."""
_NAMES = {"frames": "the pictures", "audio": "the sound", "transcripts": "the words"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One piece of evidence: what, how sure in 0..1, and its second in the window."""

    what: str
    chance: float
    second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """All that a paragraph is made of. `people`: how many boxes the best picture has, at `picture.second`.

    `shares` has the modalities that are present. `threshold`: None where the class does not alarm.
    """

    label: str
    probability: float
    threshold: float | None
    shares: Mapping[str, float]
    picture: Found | None = None
    people: int = 0
    sounds: tuple[Found, ...] = ()
    quotes: tuple[Found, ...] = ()


def paragraph(account: Account) -> str:
    """Two to five sentences, one line. ValueError for a share of what is no modality."""
    if unknown := set(account.shares) - set(MODALITIES):
        raise ValueError(f"shares of {', '.join(sorted(unknown))}: must be of {', '.join(MODALITIES)}")
    order = sorted(account.shares, key=lambda name: (-abs(account.shares[name]), MODALITIES.index(name)))
    strong = [name for name in order if abs(account.shares[name]) >= SLIGHT]
    weak = [name for name in order if name not in strong]
    sentences = [_verdict(account), *(_because(account, name) for name in strong)]
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


def _because(account: Account, name: str) -> str:
    share = account.shares[name]
    verb = "speak" if name != "audio" else "speaks"
    said = f"{_upper(_NAMES[name])} {verb} {'for' if share > 0 else 'against'} it ({share:+.1f})"
    evidence = {"frames": _seen, "audio": _heard, "transcripts": _told}[name](account)
    return f"{said}: {evidence}." if evidence else f"{said}."


def _seen(account: Account) -> str:
    if account.picture is None:
        return ""
    who = {0: "nobody", 1: "one person"}.get(account.people, f"{account.people} people")
    return f"{who} at {account.picture.second:.1f} s, {account.picture.what} {account.picture.chance:.0%}"


def _heard(account: Account) -> str:
    best = sorted(account.sounds, key=lambda one: (-one.chance, one.second))[:MOST]
    return ", ".join(f"{plain(one.what)} {one.chance:.0%} at {one.second:.1f} s" for one in best)


def _told(account: Account) -> str:
    best = sorted(account.quotes, key=lambda one: (-one.chance, one.second))[:MOST]
    return ", ".join(f"“{plain(one.what)}” at {one.second:.1f} s" for one in best)


def plain(text: str) -> str:
    """On one line, without control and format characters or our quotation marks, cut to MOST_QUOTE."""
    kept = "".join(" " if letter.isspace() else letter for letter in text if letter.isspace() or unicodedata.category(letter)[0] != "C")
    line = " ".join(kept.replace("“", "'").replace("”", "'").split())
    return line if len(line) <= MOST_QUOTE else line[: MOST_QUOTE - 1].rstrip() + "…"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
