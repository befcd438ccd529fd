"""Laws of models/small/text.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.features import TextEncoder
from models.small.text import BUCKETS, HASHES, MOST_WORDS, SmallTexts, hashes_of, words_of
from models.tokens import SENTENCE
from tests.models.small.builders import HELP, PLAIN, THREATS, network


def encoder() -> SmallTexts:
    made, about = network("text-gru")
    return SmallTexts(made, about.classes)


def test_a_text_does_not_feel_its_neighbours() -> None:
    made: TextEncoder = encoder()
    (alone,) = made(["help me"])
    crowd = made([*THREATS, "help me", "a " * 60, *HELP, *PLAIN * 10])[4]
    assert alone.chances == pytest.approx(crowd.chances, abs=1e-5)
    np.testing.assert_allclose(alone.embedding_D, crowd.embedding_D, atol=1e-5)
    assert alone.similarity == pytest.approx(crowd.similarity, abs=1e-5)
    assert set(alone.chances) == {"spoken_threat", "call_for_help"} and -1 <= alone.similarity <= 1
    assert alone.embedding_D.dtype == np.float32 and len(alone.embedding_D) <= SENTENCE


def test_words_are_read_in_order() -> None:
    made = encoder()
    one, other = made(["you will die", "die you will"])
    assert np.abs(one.embedding_D - other.embedding_D).max() > 1e-4


def test_case_and_marks_do_not_count() -> None:
    one, other = encoder()(["HELP, me!", "help me"])
    assert one.chances == pytest.approx(other.chances, abs=1e-6)


def test_what_alarms_in_a_long_text_counts_as_much_as_alone() -> None:
    made = encoder()
    whole, *parts = made(["The bus is late again. I will shoot you! Nice weather.", "The bus is late again.", "I will shoot you!"])
    for name, chance in whole.chances.items():
        assert chance >= max(part.chances[name] for part in parts) - 1e-5


@pytest.mark.parametrize("text", ["", "   ", "...", "\x00", "日本語です", "🙂", "x" * 50_000, "word " * 20_000, "a. " * 9_000])
def test_odd_texts_give_numbers(text: str) -> None:
    (said,) = encoder()([text])
    assert all(0 < chance < 1 for chance in said.chances.values()) and np.isfinite(said.embedding_D).all()


def test_no_texts_give_nothing() -> None:
    assert encoder()([]) == []


@settings(max_examples=50)
@given(st.lists(st.text(max_size=30), max_size=5))
def test_rows_are_bounded_whatever_is_said(texts: list[str]) -> None:
    made, _ = network("text-gru")
    rows_NWG = made.prepare(texts)
    assert rows_NWG.shape[0] == len(texts) and 1 <= rows_NWG.shape[1] <= MOST_WORDS and rows_NWG.shape[2] == HASHES
    assert rows_NWG.dtype == torch.int64 and ((rows_NWG >= 0) & (rows_NWG < BUCKETS)).all()
    assert (rows_NWG[:, 0, 0] > 0).all()


def test_a_word_that_was_misheard_by_a_letter_keeps_parts() -> None:
    assert len(set(hashes_of("knife")) & set(hashes_of("knifes"))) >= 4
    assert words_of("I'll -- shoot YOU!") == ["i'll", "shoot", "you"]
    assert len(words_of("a " * 1_000)) == MOST_WORDS
