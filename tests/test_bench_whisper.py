"""The bench of Whisper in small: how words are counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.speech import Spoken
from tests.bench.whisper import CONDITIONS, Outcome, Said, believed, rows_of, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Press 1, or 42!", "press one or forty two"),
        ("Don't hang-up: 100%", "dont hang up one hundred percent"),
        ("Voice mail; e-mail. Okay?", "voicemail email ok"),
        ("2000", "two zero zero zero"),
        ("...", ""),
    ],
)
def test_spellings_of_the_same_words_are_alike(text: str, expected: str) -> None:
    assert " ".join(words(text)) == expected


def test_what_transcribe_refuses_does_not_go_out() -> None:
    sure = Spoken(text="help", confidence=0.8, language="en", no_speech=0.1, log_probability=-0.2, compression_ratio=0.5)
    assert believed(sure)
    assert not believed(replace(sure, compression_ratio=3.0)) and not believed(replace(sure, log_probability=-1.1))


def test_a_rate_is_of_all_words_and_says_how_much_more_it_is_than_the_baseline() -> None:
    def heard(errors: int) -> list[Outcome]:
        said = [
            Said(clip=clip, condition=condition, sound=np.zeros(1, np.float32), truth=("a",) * 4)
            for clip in ("one", "two")
            for condition in CONDITIONS
        ]
        return [Outcome(said=one, errors=errors, words=4, text="", seconds=1.0) for one in said]

    rows = list(rows_of({"whole": heard(1), "short": heard(2)}, "whole"))
    assert [(row["context"], row["WER %"], row["more"]) for row in rows[-2:]] == [("whole", 25.0, 0.0), ("short", 50.0, 25.0)]
    assert rows[-1]["condition"] == "all words" and rows[-1]["its"] == "+25.0..+25.0"
