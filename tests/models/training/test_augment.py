"""Laws of models/training/augment.py."""

from __future__ import annotations

import torch
from torch import Generator

from models.training.augment import SUBSETS_KM, inside, parts, shaken, views
from tests.models.fusion.builders import PATTERNS, windows_of
from tests.models.training.builders import quick

BATCH = PATTERNS.repeat(50, 1)


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def test_subsets_are_numbered_by_their_bits() -> None:
    assert [sum(1 << m for m, has in enumerate(row) if has) for row in SUBSETS_KM.tolist()] == list(range(8))
    assert inside(torch.tensor([[True, False, True]]))[0].nonzero().flatten().tolist() == [0, 1, 4, 5]


def test_a_partial_view_keeps_one_modality_at_least_of_those_that_are_there() -> None:
    keep_BM = parts(BATCH, 0.25, generator())
    assert not (keep_BM & ~BATCH).any()
    assert torch.equal(keep_BM.any(1), BATCH.any(1))


def test_every_smaller_part_is_as_likely_and_the_whole_as_asked() -> None:
    keep_BM = parts(torch.ones(8000, 3, dtype=torch.bool), 0.3, generator())
    share_K = torch.bincount((keep_BM.long() << torch.arange(3)).sum(1), minlength=8) / 8000
    assert torch.allclose(share_K, torch.tensor([0.0, *[0.7 / 6] * 6, 0.3]), atol=0.02)
    assert parts(BATCH, 1.0, generator()).equal(BATCH)


def test_a_modality_keeps_a_token_and_gets_none() -> None:
    windows = windows_of(BATCH)
    found = shaken(windows, quick(token_dropout=0.9), generator())
    assert torch.equal(found.present_BM, windows.present_BM)
    for (_, one), (_, other) in zip(found.streams(), windows.streams(), strict=True):
        assert not (one.mask_BT & ~other.mask_BT).any() and one.mask_BT.sum() < other.mask_BT.sum()
        assert not one.tokens_BTD[~one.mask_BT].any()


def test_noise_is_as_strong_as_the_recipe_says_and_nothing_is_what_none_leaves() -> None:
    windows = windows_of(BATCH)
    found = shaken(windows, quick(token_noise=0.3, quality_jitter=0.2, token_dropout=0.0), generator())
    for (_, one), (_, other) in zip(found.streams(), windows.streams(), strict=True):
        assert abs(float((one.tokens_BTD - other.tokens_BTD)[other.mask_BT].std()) - 0.3) < 0.02
        assert abs(float((one.quality_BQ - other.quality_BQ)[other.present_B].std()) - 0.2) < 0.03
    same = shaken(windows, quick(token_noise=0.0, quality_jitter=0.0, token_dropout=0.0), generator())
    assert all(
        torch.equal(one.tokens_BTD, other.tokens_BTD) for (_, one), (_, other) in zip(same.streams(), windows.streams(), strict=True)
    )


def test_the_same_generator_gives_the_same_windows() -> None:
    windows, recipe = windows_of(BATCH), quick()
    one, same, other = (shaken(windows, recipe, generator(seed)).audio.tokens_BTD for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_views_are_every_window_in_every_part_that_it_has_once() -> None:
    row_N, keep_NM = views(PATTERNS)
    assert len(row_N) == sum(2 ** int(count) - 1 for count in PATTERNS.sum(1))
    assert len({(row, *keep) for row, keep in zip(row_N.tolist(), map(tuple, keep_NM.tolist()), strict=True)}) == len(row_N)
    assert keep_NM.any(1).all() and not (keep_NM & ~PATTERNS[row_N]).any()
