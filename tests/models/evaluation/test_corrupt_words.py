"""models/evaluation/corrupt_words.py, law by law."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.evaluation.corrupt_words import (
    ALARMING_SHARE,
    CONFIDENCE,
    Recognizer,
    edits,
    erred,
    invented,
    letters_confused,
    misheard,
    moved,
    plain_words,
    spoken,
    word_error_rate,
)
from models.evaluation.library import sentences
from models.words import PROTOTYPES
from tests.models.evaluation.builders import script
from tests.models.evaluation.demo import SAID, demo

TEST, TRAIN = Recognizer.load("test"), Recognizer.load("train")
EVERY = tuple(one.text for one in sentences())


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("said", "heard", "wrong"),
    [
        ("help me please", "help me please", 0),
        ("Help me, please!", "help me please", 0),
        ("help me please", "held me please", 1),
        ("help me please", "help please", 1),
        ("help me please", "help the me please", 1),
        ("a b c d", "b c d e", 2),
        ("help me", "", 2),
        ("", "thank you", 2),
        ("", "", 0),
    ],
)
def test_edits_are_the_fewest_words_to_change(said: str, heard: str, wrong: int) -> None:
    assert edits(said, heard) == wrong


def slow(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    if not one or not other:
        return len(one) + len(other)
    return min(slow(one[1:], other) + 1, slow(one, other[1:]) + 1, slow(one[1:], other[1:]) + (one[0] != other[0]))


@given(st.lists(st.sampled_from(("a", "b", "c")), max_size=5), st.lists(st.sampled_from(("a", "b", "c")), max_size=5))
def test_edits_are_those_of_the_definition(one: list[str], other: list[str]) -> None:
    assert edits(" ".join(one), " ".join(other)) == slow(tuple(one), tuple(other))


def test_the_error_rate_is_that_of_all_words_together() -> None:
    assert word_error_rate([("a b c d", "a b c d"), ("a", "b")]) == pytest.approx(1 / 5)
    with pytest.raises(ValueError, match="no words"):
        word_error_rate([("", "thank you")])


@pytest.mark.parametrize("recognizer", [TEST, TRAIN])
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2, 0.4])
def test_words_are_wrong_at_their_rate(recognizer: Recognizer, rate: float) -> None:
    random = rng(1)
    pairs = [(text, erred(random, text, rate, recognizer)) for _ in range(4) for text in EVERY]
    assert word_error_rate(pairs) == pytest.approx(rate, rel=0.15)


def test_no_errors_are_none_and_every_kind_of_error_occurs() -> None:
    assert all(erred(rng(), text, 0.0, TEST) == text for text in EVERY)
    changes = [len(plain_words(erred(rng(seed), "help", 1.0, TEST))) for seed in range(400)]
    counts = [changes.count(length) / len(changes) for length in (0, 1, 2)]
    assert counts == pytest.approx([0.25, 0.6, 0.15], abs=0.07)


def test_a_higher_rate_errs_where_a_lower_one_does_and_likewise() -> None:
    more = 0
    for seed in range(300):
        low, high = (erred(rng(seed), "knife", rate, TEST) for rate in (0.1, 0.4))
        assert low in ("knife", high)
        more += high != low
    assert more > 40


@pytest.mark.parametrize("recognizer", [TEST, TRAIN])
def test_a_word_is_never_taken_for_itself(recognizer: Recognizer) -> None:
    for word, others in recognizer.alike.items():
        assert others and word not in others and word == word.lower()
    for word in {word for text in EVERY for word in plain_words(text)} | {"", "s", "x", "2"}:
        found = list(letters_confused(word))
        assert found and word not in found


def test_what_a_word_is_taken_for_keeps_its_marks() -> None:
    heard = {erred(rng(seed), "help!", 1.0, TEST) for seed in range(60)}
    assert {"held!", "health!", "hell!"} <= heard


def test_confidence_falls_with_the_rate_and_with_the_errors_of_the_text() -> None:
    untouched, spoilt = [], []
    for seed in range(200):
        for one in misheard(rng(seed), SAID[:1], 0.2, TEST):
            wrong = edits(SAID[0].sentence.text, one.sentence.text)
            assert (one.start, one.end, one.sentence.label) == (SAID[0].start, SAID[0].end, SAID[0].sentence.label)
            assert 0 < one.confidence < SAID[0].confidence
            (spoilt if wrong else untouched).append(one.confidence)
    assert set(np.round(untouched, 9)) == {round(0.9 * 0.9, 9)}
    assert max(spoilt) < min(untouched) and len(spoilt) > 50


def test_a_text_that_loses_all_its_words_is_gone() -> None:
    one = replace(SAID[0], sentence=replace(SAID[0].sentence, text="help"))
    left = [len(misheard(rng(seed), (one,), 1.0, TEST)) for seed in range(300)]
    assert left.count(0) / len(left) == pytest.approx(0.25, abs=0.08)


def test_nothing_is_invented_while_somebody_speaks() -> None:
    scene, count = demo(), 0
    speech = spoken(scene.script)
    assert len(speech) == 3, "two texts, and a voice without words"
    for seed in range(300):
        words = invented(rng(seed), scene.words, scene.script, TEST)
        assert [one for one in words if one in scene.words] == list(scene.words)
        assert [one.start for one in words] == sorted(one.start for one in words)
        new = [one for one in words if one not in scene.words]
        for at, one in enumerate(new):
            taken = [*speech, *((other.start, other.end) for other in new[at + 1 :])]
            assert all(one.end <= begin or one.start >= end for begin, end in taken)
            assert 0 <= one.start < one.end <= 12 and CONFIDENCE[0] <= one.confidence <= CONFIDENCE[1]
            assert one.sentence.split is scene.script.split
        count += len(new)
    assert 1.2 < count / 300 <= 2, "most find room"


def test_silence_gets_a_text_every_six_seconds_some_of_them_alarming() -> None:
    minutes = [invented(rng(seed), (), script(seconds=60.0), TEST) for seed in range(60)]
    assert np.mean([len(words) for words in minutes]) > 9.5 and max(map(len, minutes)) == 10
    alarming = [one.sentence.alarming for words in minutes for one in words]
    assert np.mean(alarming) == pytest.approx(ALARMING_SHARE, abs=0.06)
    assert {one.sentence.text for words in minutes for one in words if one.sentence.alarming} <= {
        text for family in TEST.alarming.values() for text in family
    }


def test_where_there_is_no_room_nothing_is_invented() -> None:
    full = (replace(SAID[0], start=0.0, end=12.0),)
    assert invented(rng(), full, script(words=full), TEST) == full


def texts(recognizer: Recognizer) -> set[str]:
    tones = (recognizer.plain, recognizer.alarming)
    return {" ".join(plain_words(text)) for tone in tones for family in tone.values() for text in family}


def families(recognizer: Recognizer) -> set[str]:
    return {*recognizer.plain, *recognizer.alarming}


def test_what_is_invented_for_training_is_not_what_is_invented_for_the_test() -> None:
    assert texts(TEST) and texts(TRAIN) and texts(TEST).isdisjoint(texts(TRAIN))
    assert families(TEST).isdisjoint(families(TRAIN))
    assert set(TEST.inserted).isdisjoint(TRAIN.inserted)


def small(found: Iterable[str]) -> set[str]:
    return {" ".join(plain_words(text)) for text in found}


def test_no_invented_text_is_a_sentence_of_the_benchmark_and_no_alarming_one_a_prototype() -> None:
    assert (texts(TEST) | texts(TRAIN)).isdisjoint(small(EVERY))
    prototypes = tomllib.loads(PROTOTYPES.read_text("utf-8"))
    alarming = {text for one in (TEST, TRAIN) for family in one.alarming.values() for text in small(family)}
    assert alarming.isdisjoint(small(text for group in prototypes.values() for text in group))


def test_no_pair_of_words_that_sound_alike_is_in_both_tables() -> None:
    test, train = ({(word, other) for word, others in one.alike.items() for other in others} for one in (TEST, TRAIN))
    assert test & train == set()


@pytest.mark.parametrize(("seconds", "left"), [(2.0, 2), (5.0, 1), (-0.5, 2), (-2.5, 1), (-8.0, 0)])
def test_moved_words_are_lost_where_their_middle_leaves_the_scene(seconds: float, left: int) -> None:
    later = moved(SAID, seconds, 12.0)
    assert len(later) == left
    for one in later:
        before = next(other for other in SAID if other.sentence == one.sentence)
        assert (one.start, one.end) == (max(0.0, before.start + seconds), min(12.0, before.end + seconds))
