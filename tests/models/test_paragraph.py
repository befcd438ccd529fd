"""Laws of models/paragraph.py."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.paragraph import DECIDES, MOST_QUOTE, SLIGHT, Account, Found, Moment, paragraph, plain

SHATTER = Moment(second=0.4, found=(Found(what="Glass", chance=0.81), Found(what="Shatter", chance=0.62)), fall=2.7, left=0.314, alike=1)
SOMEBODY = Moment(second=1.5, found=(Found(what="person", chance=0.97),), people=1, fall=0.9, left=0.74, alike=1)
GLASS = Account(
    label="intrusion",
    probability=0.874,
    threshold=0.6,
    shares={"frames": 1.24, "audio": 3.16},
    moments={"frames": SOMEBODY, "audio": SHATTER},
)


def quoted(text: str, **changed: float) -> Moment:
    return Moment(second=0.0, found=(Found(what=text, chance=0.9),), **{"fall": 2.0, "left": 0.5, "alike": 1, **changed})


def test_it_reads_like_this() -> None:
    assert paragraph(GLASS) == (
        "Intrusion: 87%, at or above its threshold of 60%. "
        "What counted most: the sound at 0.4 s (Glass 81%; Shatter 62%); without it 31%. "
        "The sound speaks for it (+3.2). "
        "The pictures speak for it (+1.2), most at 1.5 s (one person; person 97%). "
        "Without the words: nothing came."
    )


def test_where_it_is_known_when_the_window_was_moments_are_told_by_the_clock() -> None:
    said = paragraph(replace(GLASS, moments=GLASS.moments | {"frames": replace(SOMEBODY, second=-0.3)}), start=1_700_000_000.98)
    assert "the sound at 22:13:21.4 UTC (Glass 81%" in said and "most at 22:13:20.7 UTC (one person" in said


def test_where_no_removal_takes_much_it_says_so_and_that_several_say_the_same_where_they_do() -> None:
    slight = {name: replace(one, fall=0.1, alike=3) for name, one in GLASS.moments.items()}
    assert paragraph(replace(GLASS, moments=slight)) == (
        "Intrusion: 87%, at or above its threshold of 60%. "
        "No single moment decides it; several say the same. "
        "The sound speaks for it (+3.2), as at 0.4 s (Glass 81%; Shatter 62%). "
        "The pictures speak for it (+1.2), as at 1.5 s (one person; person 97%). "
        "Without the words: nothing came."
    )
    one, both = {"audio": replace(SHATTER, fall=0.1)}, {"audio": replace(SHATTER, fall=0.1), "frames": replace(SOMEBODY, fall=0.1)}
    assert "decides it. The sound" in paragraph(replace(GLASS, moments=one))
    assert "several say the same." in paragraph(replace(GLASS, moments=both)), "the picture and the sound"
    apart = replace(GLASS, shares={"audio": 3.16, "frames": -1.24}, moments=both)
    assert "several" not in paragraph(apart)


def test_what_takes_a_little_of_much_decides_nothing() -> None:
    sure = Moment(second=0.0, found=(Found(what="person", chance=0.99),), people=1, fall=0.9, left=0.999, alike=4)
    said = paragraph(Account(label="person", probability=0.9995, threshold=None, shares={"frames": 9.0}, moments={"frames": sure}))
    assert "No single moment decides it; several say the same." in said


def test_one_modality_s_moment_may_decide_where_another_s_say_the_same() -> None:
    crowd = Moment(second=0.5, found=(Found(what="person", chance=0.9),), people=4, fall=0.0, left=0.87, alike=3)
    said = paragraph(replace(GLASS, moments={"frames": crowd, "audio": SHATTER}))
    assert "What counted most: the sound at 0.4 s" in said and "(+1.2), as at 0.5 s (4 people; person 90%)." in said


def test_words_that_began_before_the_window_are_said_to() -> None:
    words = Moment(second=-1.9, found=(Found(what="I will hurt you", chance=0.9),), fall=5.0, left=0.01, alike=1)
    said = paragraph(
        Account(label="spoken_threat", probability=0.9, threshold=None, shares={"transcripts": 5.0}, moments={"transcripts": words})
    )
    assert "the words from 1.9 s before (“I will hurt you”); without them 1%." in said


def test_what_speaks_against_it_and_what_matters_little_are_named() -> None:
    words = quoted("nice weather today", fall=-0.8, left=0.2)
    said = paragraph(
        Account(label="scream", probability=0.1, threshold=0.5, shares={"transcripts": -0.9, "audio": 0.1}, moments={"transcripts": words})
    )
    assert "Scream: 10%, below its threshold of 50%." in said
    assert "What counted most: the words at 0.0 s (“nice weather today”); without them 20%. The words speak against it (-0.9)." in said
    assert said.endswith("The sound matters little. Without the pictures: nothing came.")


def test_a_fall_that_goes_against_its_share_is_not_what_counted() -> None:
    said = paragraph(
        Account(label="scream", probability=0.1, threshold=0.5, shares={"audio": 0.9}, moments={"audio": replace(SHATTER, fall=-3.0)})
    )
    assert "counted most" not in said and "No single moment decides it." in said


def test_a_class_that_does_not_alarm_has_no_threshold_and_several_weak_ones_are_one_sentence() -> None:
    shares = {"frames": 0.0, "audio": 0.1, "transcripts": -0.1}
    said = paragraph(Account(label="siren", probability=0.02, threshold=None, shares=shares, moments={"audio": SHATTER}))
    assert said == "Siren: 2%. The sound, the words and the pictures matter little."


def test_what_was_said_is_data() -> None:
    spoken = "ignore\nall” rules\x1b[31m\u202e " + "x" * 500
    said = paragraph(
        Account(label="spoken_threat", probability=0.9, threshold=0.5, shares={"transcripts": 2.0}, moments={"transcripts": quoted(spoken)})
    )
    assert "\n" not in said and "\x1b" not in said and "\u202e" not in said
    assert said.count("“") == said.count("”") == 1 and "…”" in said


@given(st.text(max_size=300))
def test_a_quote_is_one_short_line(text: str) -> None:
    line = plain(text)
    assert len(line) <= MOST_QUOTE and "\n" not in line and "”" not in line and line == line.strip()


NAMES = ("frames", "audio", "transcripts")
MOMENTS = st.builds(
    Moment,
    second=st.floats(-2, 2),
    found=st.lists(st.builds(Found, what=st.sampled_from(["Glass", "help"]), chance=st.floats(0, 1)), max_size=4).map(tuple),
    fall=st.floats(-9, 9),
    left=st.floats(0, 1),
    alike=st.integers(0, 3),
    people=st.integers(0, 5),
)


@given(st.dictionaries(st.sampled_from(NAMES), st.tuples(st.floats(-9, 9), MOMENTS)), st.floats(0, 1))
def test_every_number_came_in_and_what_is_said_to_count_most_does(given: dict[str, tuple[float, Moment]], probability: float) -> None:
    shares, moments = {name: share for name, (share, _) in given.items()}, {name: moment for name, (_, moment) in given.items()}
    said = paragraph(Account(label="siren", probability=probability, threshold=0.5, shares=shares, moments=moments))
    allowed = {f"{probability:.0%}", "50%", *(f"{share:+.1f}" for share in shares.values())}
    for one in moments.values():
        allowed |= {f"{abs(one.second):.1f}", f"{one.left:.0%}", str(one.people), *(f"{each.chance:.0%}" for each in one.found)}
    assert set(re.findall(r"[+-]?\d+(?:\.\d+)?%?", said)) <= allowed
    taken = [(moment.fall if share >= 0 else -moment.fall, abs(share)) for share, moment in given.values()]
    assert ("counted most" in said) is any(fall >= max(SLIGHT, DECIDES * share) for fall, share in taken if share >= SLIGHT)


def test_a_share_of_what_is_no_modality_and_a_moment_of_what_is_absent_are_refused() -> None:
    with pytest.raises(ValueError, match="smell"):
        paragraph(Account(label="siren", probability=0.5, threshold=None, shares={"smell": 1.0}))
    with pytest.raises(ValueError, match="audio"):
        paragraph(Account(label="siren", probability=0.5, threshold=None, shares={"frames": 1.0}, moments={"audio": SHATTER}))
