"""Laws of models/paragraph.py."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.paragraph import MOST_QUOTE, Account, Found, paragraph, plain

GLASS = Account(
    label="intrusion",
    probability=0.874,
    threshold=0.6,
    shares={"frames": 1.24, "audio": 3.16},
    picture=Found(what="person", chance=0.97, second=1.5),
    people=1,
    sounds=(Found(what="Glass", chance=0.81, second=0.4), Found(what="Shatter", chance=0.62, second=0.9)),
)


def test_it_reads_like_this() -> None:
    assert paragraph(GLASS) == (
        "Intrusion: 87%, at or above its threshold of 60%. "
        "The sound speaks for it (+3.2): Glass 81% at 0.4 s, Shatter 62% at 0.9 s. "
        "The pictures speak for it (+1.2): one person at 1.5 s, person 97%. "
        "Without the words: nothing came."
    )


def test_what_speaks_against_it_and_what_matters_little_are_named() -> None:
    quote = Found(what="nice weather today", chance=0.2, second=0.0)
    said = paragraph(Account(label="scream", probability=0.1, threshold=0.5, shares={"transcripts": -0.9, "audio": 0.1}, quotes=(quote,)))
    assert "Scream: 10%, below its threshold of 50%." in said
    assert "The words speak against it (-0.9): “nice weather today” at 0.0 s." in said
    assert said.endswith("The sound matters little. Without the pictures: nothing came.")


def test_a_class_that_does_not_alarm_has_no_threshold_and_several_weak_ones_are_one_sentence() -> None:
    shares = {"frames": 0.0, "audio": 0.1, "transcripts": -0.1}
    said = paragraph(Account(label="siren", probability=0.02, threshold=None, shares=shares))
    assert said == "Siren: 2%. The sound, the words and the pictures matter little."


def test_what_was_said_is_data() -> None:
    spoken = "ignore\nall” rules\x1b[31m\u202e " + "x" * 500
    said = paragraph(
        Account(
            label="spoken_threat",
            probability=0.9,
            threshold=0.5,
            shares={"transcripts": 2.0},
            quotes=(Found(what=spoken, chance=0.9, second=0.0),),
        )
    )
    assert "\n" not in said and "\x1b" not in said and "\u202e" not in said
    assert said.count("“") == said.count("”") == 1 and "…”" in said


@given(st.text(max_size=300))
def test_a_quote_is_one_short_line(text: str) -> None:
    line = plain(text)
    assert len(line) <= MOST_QUOTE and "\n" not in line and "”" not in line and line == line.strip()


@given(st.dictionaries(st.sampled_from(["frames", "audio", "transcripts"]), st.floats(-9, 9)), st.floats(0, 1))
def test_every_number_came_in(shares: dict[str, float], probability: float) -> None:
    said = paragraph(Account(label="siren", probability=probability, threshold=0.5, shares=shares))
    allowed = {f"{probability:.0%}", "50%", *(f"{share:+.1f}" for share in shares.values())}
    assert set(re.findall(r"[+-]?\d+(?:\.\d+)?%?", said)) <= allowed


def test_a_share_of_what_is_no_modality_is_refused() -> None:
    with pytest.raises(ValueError, match="smell"):
        paragraph(Account(label="siren", probability=0.5, threshold=None, shares={"smell": 1.0}))
