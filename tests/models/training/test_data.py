"""Laws of models/training/data.py."""

from __future__ import annotations

import pytest
import torch
from torch import Generator

from models.training.data import CHUNK, chances, draw, folds, precision, predict
from tests.models.training.builders import data


def generator() -> Generator:
    return Generator().manual_seed(0)


def test_splits_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="32 windows"):
        data(size=32, truth_BC=torch.zeros(31, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="must be bool"):
        data(size=32, truth_BC=torch.zeros(32, 3))
    with pytest.raises(ValueError, match="3 classes"):
        data(size=32, known_BC=torch.ones(32, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="groups"):
        data(size=32, group_B=torch.zeros(31, dtype=torch.long))


def test_without_balance_an_epoch_is_every_window_once() -> None:
    one = data(size=64)
    assert chances(one.truth_BC, one.group_B, 0.0) is None
    assert draw(64, None, generator()).sort().values.tolist() == list(range(64))


def test_balanced_sampling_draws_classes_alike_and_their_recordings_alike() -> None:
    truth_BC = torch.zeros(1000, 2, dtype=torch.bool)
    truth_BC[:20, 0], truth_BC[20:320, 1] = True, True
    group_B = torch.zeros(1000, dtype=torch.long)
    group_B[:2], group_B[2:20] = 1, 2
    chance_B = chances(truth_BC, group_B, 1.0)
    assert chance_B is not None
    row_N = draw(1000, chance_B.repeat(1), generator())
    share = [float(((row_N >= low) & (row_N < high)).float().mean()) for low, high in ((0, 20), (20, 320), (320, 1000))]
    assert share == pytest.approx([1 / 3] * 3, abs=0.06)
    assert float(chance_B[:2].sum()) == pytest.approx(float(chance_B[2:20].sum()))
    halfway_B = chances(truth_BC, group_B, 0.5)
    assert halfway_B is not None and torch.allclose(halfway_B, chance_B.sqrt())


def test_no_recording_is_in_two_folds_and_folds_are_about_as_large() -> None:
    group_B = torch.randint(30, (500,), generator=generator())
    fold_B = folds(group_B, 3, generator())
    assert all(len(fold_B[group_B == group].unique()) == 1 for group in range(30))
    assert fold_B.bincount(minlength=3).min() > 120
    with pytest.raises(ValueError, match="2 recordings are too few for 3 folds"):
        folds(torch.tensor([4, 4, 9]), 3, generator())


def test_predictions_in_chunks_are_those_of_the_rows_and_parts_asked_for() -> None:
    one = data(size=CHUNK + 5, absent=0.0)
    row_N = torch.tensor([3, 3, CHUNK + 4])
    keep_NM = torch.tensor([[True, False, False], [False, True, True], [True, True, True]])
    assert torch.equal(predict(lambda windows: windows.present_BM.float(), one.windows, keep_NM, row_N), keep_NM.float())
    assert torch.equal(predict(lambda windows: windows.audio.quality_BQ, one.windows), one.windows.audio.quality_BQ)


def test_precision_is_the_mean_over_classes_with_a_positive_of_what_counts() -> None:
    logits_BC = torch.tensor([[3.0, 0.0], [2.0, 1.0], [1.0, 2.0]])
    truth_BC = torch.tensor([[False, True], [True, False], [True, False]])
    counts_BC = torch.tensor([[False, True], [True, True], [True, True]])
    assert precision(logits_BC, truth_BC, counts_BC) == pytest.approx((1.0 + 1 / 3) / 2)
    counts_BC[:, 1] = False
    assert precision(logits_BC, truth_BC, counts_BC) == 1.0


def test_a_digest_changes_with_labels_and_tokens() -> None:
    one, other = data(size=32), data(size=32)
    assert one.digest == other.digest
    other.windows.audio.tokens_BTD[other.windows.audio.mask_BT.nonzero()[0][0], 0, 0] += 1.0
    assert one.digest != other.digest
    assert data(size=32, truth_BC=~one.truth_BC).digest != one.digest
