"""Laws of models/fusion/windows.py."""

from __future__ import annotations

import torch

from models.fusion.windows import MODALITIES, Stream, Windows

NAN = float("nan")


def stream(mask: list[list[int]], value: float = 1.0, *, left_out: float = NAN) -> Stream:
    mask_BT = torch.tensor(mask, dtype=torch.bool)
    tokens_BTD = torch.where(mask_BT[:, :, None], value, left_out).expand(-1, -1, 3)
    quality_BQ = torch.where(mask_BT.any(1)[:, None], value, left_out).expand(-1, 2)
    return Stream.of(tokens_BTD, mask_BT, quality_BQ)


def batch() -> Windows:
    return Windows(frames=stream([[1, 1], [0, 0], [1, 0]]), audio=stream([[1], [1], [0]]), transcripts=stream([[0], [1], [1]]))


def test_what_the_mask_leaves_out_is_zeros_even_where_it_is_no_number() -> None:
    found = stream([[1, 0], [0, 0]])
    assert found.tokens_BTD.tolist() == [[[1.0] * 3, [0.0] * 3], [[0.0] * 3, [0.0] * 3]]
    assert found.quality_BQ.tolist() == [[1.0] * 2, [0.0] * 2]
    assert found.present_B.tolist() == [True, False]


def test_a_coalition_has_those_modalities_alone_that_are_there() -> None:
    windows = batch()
    assert windows.present_BM.tolist() == [[True, True, False], [False, True, True], [True, False, True]]
    only = windows.only(torch.tensor([[True, False, True]] * 3))
    assert only.present_BM.tolist() == [[True, False, False], [False, False, True], [True, False, True]]
    assert not only.audio.tokens_BTD.any() and not only.audio.quality_BQ.any()
    assert [name for name, _ in only.streams()] == list(MODALITIES)


def test_a_coalition_of_all_changes_nothing() -> None:
    windows = batch()
    everything = windows.only(torch.ones(3, 3, dtype=torch.bool))
    for (_, one), (_, other) in zip(windows.streams(), everything.streams(), strict=True):
        assert torch.equal(one.tokens_BTD, other.tokens_BTD) and torch.equal(one.quality_BQ, other.quality_BQ)
