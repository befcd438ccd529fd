"""The whole way: batched and fast give what one at a time gives; each event is encoded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from models.bench.encoders import OPENCV, Hashed, Judging, labels, parts_of
from models.bench.pipeline import PICTURES, SPEECH_EVERY, Pipeline, Scene, one_hop
from models.bench.whole import TOLERANCE, Bench, Equal, compared
from models.explain import shapley
from models.tokens import MOST, windows_of
from models.yamnet import LABELS


def test_batched_and_fast_give_what_one_at_a_time_gives(bench: Bench) -> None:
    found = compared(bench, sessions=3, hops=2)
    assert [one.way for one in found] == ["batched", "fast"]
    assert [one for one in found if not one.holds] == []


def test_the_windows_that_are_compared_differ_and_have_every_modality(bench: Bench) -> None:
    judged = bench.pipeline("fast").step(one_hop(5, 0))
    spread_C = judged.probability_BC.std(0)
    assert float(spread_C.max()) > 0.01
    assert judged.share_BMC.abs().amax((0, 2)).gt(0.01).all()


def test_a_wrong_row_does_not_pass_as_equal() -> None:
    one = Equal(way="fast", windows=1, probability=0.2, share=0.0, tolerance=TOLERANCE)
    assert not one.holds and replace(one, probability=1e-5).holds and replace(one, tolerance=None).holds


def test_what_a_shorter_precision_rounds_is_told_and_not_judged(bench: Bench) -> None:
    short = replace(bench, plan=replace(bench.plan, dtype=torch.bfloat16))
    assert [(one.way, one.tolerance) for one in compared(short, sessions=1, hops=1)] == [("batched", TOLERANCE), ("fast", None)]


def counted(encode: Callable[[Sequence[Any]], list[Any]], seen: list[int]) -> Callable[[Sequence[Any]], list[Any]]:
    def call(events: Sequence[Any]) -> list[Any]:
        seen.append(len(events))
        return encode(events)

    return call


@pytest.mark.parametrize(("way", "calls"), [("batched", 1), ("alone", 10)])
def test_each_event_is_encoded_once_though_windows_overlap(bench: Bench, way: str, calls: int) -> None:
    pictures: list[int] = []
    sounds: list[int] = []
    words: list[int] = []
    parts = bench.ways[way]
    watched = replace(
        parts, images=counted(parts.images, pictures), sounds=counted(parts.sounds, sounds), words=counted(parts.words, words)
    )
    pipeline = Pipeline(watched, bench.head, bench.scene)
    for hop in range(2):
        pipeline.step(one_hop(SPEECH_EVERY, hop))
    assert (sum(pictures), sum(sounds), sum(words)) == (2 * SPEECH_EVERY * PICTURES, 2 * SPEECH_EVERY, 2)
    assert len(pictures) == 2 * calls


def test_a_window_has_the_events_of_two_hops(bench: Bench) -> None:
    pipeline = bench.pipeline("batched")
    pipeline.gathered(one_hop(5, 0))
    gathered = pipeline.gathered(one_hop(5, 1))
    assert [len(one.frames) for one in gathered] == [2 * PICTURES] * 5
    assert [len(one.audio) for one in gathered] == [2] * 5
    assert sum(len(one.transcripts) for one in gathered) == 2


def test_a_session_sends_the_same_again() -> None:
    one, other = Scene().new(3, 4), Scene().new(3, 4)
    assert one.text == other.text and np.array_equal(one.sound, other.sound)
    assert all(np.array_equal(a, b) for a, b in zip(one.pictures, other.pictures, strict=True))


def test_judging_in_full_width_is_shapley_of_the_head(bench: Bench) -> None:
    share_BMC, logit_BC = Judging(bench.head)(*parts_of(bench.windows))
    plain = shapley(bench.head.logits, bench.windows)
    torch.testing.assert_close(share_BMC, plain.share_BMC, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(logit_BC, bench.head.logits(bench.windows).double(), rtol=1e-4, atol=1e-4)
    assert parts_of(windows_of([]))[0].shape[1] == MOST["frames"]


def test_a_tokenizer_without_a_vocabulary_tells_words_apart() -> None:
    batch = Hashed()(["Help me", "help me, please"], max_length=128)
    ids_NT, mask_NT = batch["input_ids"], batch["attention_mask"]
    assert mask_NT.sum(1).tolist() == [4, 6]
    assert torch.equal(ids_NT[0, :3], ids_NT[1, :3])
    assert len(set(ids_NT[1].tolist())) == 6
    assert Hashed()(["word " * 300], max_length=128)["input_ids"].shape == (1, 128)


def test_labels_are_as_many_as_the_encoder_s_each_once() -> None:
    assert len(labels()) == len(set(labels())) == LABELS and OPENCV
