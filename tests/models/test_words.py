"""Words against prototypes: what is meant, and what is small talk."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import weights
from models.words import FLOOR, MARGIN, MOST_PIECES, RUN_ON, SentenceEncoder, WordJudge, chance, pieces_of, unpunctuated


@pytest.fixture(scope="module")
def encoder(home: Path) -> SentenceEncoder:
    return SentenceEncoder.load(weights.locate(home, "minilm"))


@pytest.fixture(scope="module")
def judge(encoder: SentenceEncoder) -> WordJudge:
    return WordJudge(encoder)


def test_embeddings_have_length_one_and_do_not_depend_on_the_batch(encoder: SentenceEncoder) -> None:
    text = "somebody is breaking a window"
    alone = encoder([text])
    crowd = encoder(["hello", text, "a much longer sentence that makes the others wait for its many tokens"])
    assert alone.shape == (1, 384)
    np.testing.assert_allclose(np.linalg.norm(crowd, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(alone[0], crowd[1], atol=1e-5)


def test_meaning_is_near_and_nonsense_is_far(encoder: SentenceEncoder) -> None:
    breaking, shatter, lunch = encoder(["breaking a window", "Glass shatter", "we had lunch"])
    assert breaking @ shatter > 0.5 > breaking @ lunch


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Help me please, somebody call the police.", "call_for_help"),
        ("Somebody please help me!", "call_for_help"),
        ("Call the police now", "call_for_help"),
        ("Don't move or I'll shoot", "spoken_threat"),
        ("I've got a weapon, hand over the cash", "spoken_threat"),
    ],
)
def test_words_that_count_are_noticed(judge: WordJudge, text: str, name: str) -> None:
    assert judge([text])[0].chances[name] > 0.8


# words of real telephone prompts (Debian's asterisk-core-sounds-en), and small talk
NEUTRAL = [
    "Please hold while I try that extension.",
    "You have reached the support desk.",
    "Your call is important to us, please stay on the line.",
    "Please enter your extension followed by the pound key.",
    "Goodbye",
    "niner",
    "All representatives are currently busy.",
    "Thank you",
    "you",
    "How may I help you with your order",
    "this traffic is killing me",
    "It was a false alarm",
]


@pytest.mark.parametrize("text", NEUTRAL)
def test_neutral_words_score_low(judge: WordJudge, text: str) -> None:
    assert max(judge([text])[0].chances.values()) < 0.5


def test_one_sentence_of_a_long_transcript_is_enough(judge: WordJudge) -> None:
    long = "The parcel is at the front desk. We close at six. Somebody help me, please! The weather is nice today. See you tomorrow."
    assert judge([long])[0].chances["call_for_help"] > 0.8


SMALL_TALK = "so yesterday we went to the market and bought some apples and pears and then we walked along the river "
THREAT = "I have a gun and I will shoot you"


@pytest.mark.parametrize(
    "text",
    ["The weather is nice today. " * 140 + THREAT + ".", SMALL_TALK * 37 + THREAT, SMALL_TALK * 18 + THREAT + " " + SMALL_TALK * 18],
    ids=["after 140 sentences", "at the end of a run-on", "in the middle of a run-on"],
)
def test_a_threat_counts_wherever_it_stands_in_the_longest_transcript(judge: WordJudge, text: str) -> None:
    assert 3_500 < len(text) <= 4_000
    assert judge([text])[0].chances["spoken_threat"] > 0.8


@pytest.mark.parametrize("text", [" ".join(NEUTRAL) * 8, SMALL_TALK * 37, " ".join(NEUTRAL * 8).lower().replace(".", "").replace(",", "")])
def test_much_small_talk_scores_low(judge: WordJudge, text: str) -> None:
    assert max(judge([text])[0].chances.values()) < 0.5


def test_pieces_are_the_whole_and_its_sentences() -> None:
    assert pieces_of("One. Two!") == ["One. Two!", "One.", "Two!"]
    assert pieces_of("only one.") == ["only one."]


def sentences(shape: list[tuple[int, str]]) -> str:
    """Words of these lengths, each followed by its own ending; no letter comes twice."""
    letters = map(chr, range(0x3400, 0x9000))
    return "".join("".join(islice(letters, length)) + ending for length, ending in shape * (4_000 // len(shape) + 1))[:4_000]


@given(st.lists(st.tuples(st.integers(1, 200), st.sampled_from([" ", ". "])), min_size=1, max_size=40))
def test_every_letter_of_the_longest_transcript_is_in_a_piece(shape: list[tuple[int, str]]) -> None:
    text = sentences(shape)
    pieces = pieces_of(text)
    assert len(pieces) <= 1 + MOST_PIECES
    assert all(len(piece) <= RUN_ON for piece in pieces[1:])
    assert set("".join(pieces[1:])) - {" "} == set(text) - {" "}


def test_even_odds_lie_a_margin_above_neutral() -> None:
    assert chance(FLOOR + MARGIN, FLOOR) == pytest.approx(0.5)
    assert chance(0.9, 0.4) > 0.99
    assert chance(0.4, 0.4) < 0.1


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Help. Help. Please help.", "help! help!! please, help?"),
        ("Put the gun down - now!", "put the gun down now"),
        ("'Help!'", "help"),
        ("- Help! -- Help!", "help help"),
        ("\N{LEFT SINGLE QUOTATION MARK}Help\N{RIGHT SINGLE QUOTATION MARK}", "help"),
        ("\N{INVERTED EXCLAMATION MARK}Don't shoot\N{HORIZONTAL ELLIPSIS}", "don't shoot"),
    ],
)
def test_the_same_words_are_judged_the_same_however_they_are_punctuated(judge: WordJudge, text: str, same: str) -> None:
    one, other = judge([text, same])
    np.testing.assert_allclose(one.embedding_D, other.embedding_D, atol=1e-5)
    for name, found in one.chances.items():
        assert found == pytest.approx(other.chances[name], abs=0.02)


MARKS = st.text(
    st.characters(
        categories=["Pd", "Ps", "Pe", "Pi", "Pf", "Po"],
        exclude_characters="%&@'\N{RIGHT SINGLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}",
    ),
    max_size=3,
)


@given(st.lists(st.sampled_from(["help", "don't", "3.5", "who's-who", "\N{CYRILLIC SMALL LETTER A}"]), min_size=1, max_size=4), st.data())
def test_marks_around_words_change_nothing(words: list[str], data: st.DataObject) -> None:
    marked = " ".join(f"{data.draw(MARKS)} {word} {data.draw(MARKS)}" for word in words)
    assert unpunctuated(marked) == unpunctuated(" ".join(words)) == " ".join(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('He said: "stop".', "He said stop"),
        ("'who's-who'", "who's-who"),
        ("the dogs' bowl", "the dogs' bowl"),
        ("'Don't shoot', he said", "Don't shoot he said"),
        ("3.5% at AT&T.", "3.5% at AT&T"),
        ("?!", "?!"),
        ("", ""),
    ],
)
def test_without_punctuation_words_are_left(text: str, words: str) -> None:
    assert unpunctuated(text) == words


def test_no_texts_and_an_empty_text_are_harmless(judge: WordJudge) -> None:
    assert judge([]) == []
    assert max(judge([""])[0].chances.values()) < 0.5
