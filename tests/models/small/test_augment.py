"""Laws of models/small/augment.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.small import augment
from models.yamnet import PATCH_SAMPLES
from tests.models.small.builders import THREATS, noise, picture, tone

CASES: tuple[tuple[Callable[[np.random.Generator, Any], Any], Any], ...] = (
    (augment.picture, picture(1, bar=True)),
    (augment.sound, tone(440)),
    (augment.text, " ".join(THREATS)),
)


@pytest.mark.parametrize(("vary", "event"), CASES)
def test_a_seed_gives_one_variant_and_others_give_others(vary: Callable[[np.random.Generator, Any], Any], event: Any) -> None:
    before = event if isinstance(event, str) else event.copy()
    if not isinstance(event, str):
        event.setflags(write=False)
    state = repr(np.random.get_state())
    found = [vary(np.random.default_rng(seed), event) for seed in range(8)]
    again = [vary(np.random.default_rng(seed), event) for seed in range(8)]
    assert all(np.array_equal(one, other) for one, other in zip(found, again, strict=True))
    assert len({one if isinstance(one, str) else one.tobytes() for one in found}) >= 7
    assert np.array_equal(event, before) and repr(np.random.get_state()) == state


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 60))
def test_a_picture_keeps_its_size(seed: int, height: int, width: int) -> None:
    found = augment.picture(np.random.default_rng(seed), picture(0, height, width))
    assert found.shape == (height, width, 3) and found.dtype == np.uint8


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(0, PATCH_SAMPLES))
def test_a_sound_keeps_its_length_and_is_never_clipped(seed: int, samples: int) -> None:
    found = augment.sound(np.random.default_rng(seed), noise(1.0, 1)[:samples])
    assert found.shape == (samples,) and found.dtype == np.float32
    assert np.isfinite(found).all() and np.abs(found).max(initial=0.0) <= 0.981


def test_silence_stays_silence() -> None:
    assert not any(augment.sound(np.random.default_rng(seed), np.zeros(800, np.float32)).any() for seed in range(20))


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.text(max_size=60))
def test_a_text_keeps_a_word(seed: int, said: str) -> None:
    found = augment.text(np.random.default_rng(seed), said)
    assert isinstance(found, str) and bool(found.split()) == bool(said.split())


def test_some_words_go_and_some_are_misheard_but_most_stay() -> None:
    said = "please call the police there is a man with a knife in the kitchen"
    kept = [len(set(said.split()) & set(augment.text(np.random.default_rng(seed), said).split())) for seed in range(200)]
    assert min(kept) < 11 and np.mean(kept) > 0.7 * len(set(said.split()))
