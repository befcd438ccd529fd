"""Shapley's laws over arbitrary set functions and over a network; what a token's removal does."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.explain import Contributions, Forward, removal, shapley, take, top
from models.fusion.windows import MODALITIES, Stream, Windows

VALUES = st.lists(st.floats(-50, 50), min_size=8, max_size=8)
"""A set function: the logit of each coalition; modality m is bit m."""
PRESENT = st.lists(st.booleans(), min_size=3, max_size=3)
TOKENS = {"frames": 3, "audio": 4, "transcripts": 2}


def made(present_BM: Tensor, seed: int = 0) -> Windows:
    """Random windows; those that have a modality have a random number of its tokens."""
    generator = torch.Generator().manual_seed(seed)
    streams = {}
    for m, (name, T) in enumerate(TOKENS.items()):
        count_B = torch.randint(1, T + 1, (len(present_BM),), generator=generator)
        mask_BT = (torch.arange(T) < count_B[:, None]) & present_BM[:, m, None]
        tokens_BTD = torch.randn(len(present_BM), T, 5, generator=generator)
        streams[name] = Stream.of(tokens_BTD, mask_BT, torch.randn(len(present_BM), 2, generator=generator))
    return Windows(**streams)


def of_coalitions(values: list[float]) -> Forward:
    table = torch.tensor(values, dtype=torch.float64)
    return lambda windows: table[(windows.present_BM * torch.tensor([1, 2, 4])).sum(1)][:, None]


def explained(values: list[float], present: list[bool]) -> tuple[list[float], Contributions]:
    found = shapley(of_coalitions(values), made(torch.tensor([present])))
    return found.share_BMC[0, :, 0].tolist(), found


def slow(values: list[float], present: list[bool]) -> list[float]:
    """The mean, over all orders in which modalities can arrive, of what each adds when it does."""
    share = [0.0] * 3
    for order in permutations(range(3)):
        k = 0
        for m in order:
            grown = k | (1 << m if present[m] else 0)
            share[m] += (values[grown] - values[k]) / 6
            k = grown
    return share


class Network(nn.Module):
    """Every modality touches every other, and nothing is additive."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.out = nn.Linear(3 * 7, 16), nn.Linear(16, 4)

    def forward(self, windows: Windows) -> Tensor:
        parts = [torch.cat([one.tokens_BTD.sum(1), one.quality_BQ], dim=1) for _, one in windows.streams()]
        return self.out(torch.tanh(self.hidden(torch.cat(parts, dim=1))))


def network() -> Network:
    torch.manual_seed(1)
    return Network().eval()


@settings(deadline=None, max_examples=50)
@given(VALUES, PRESENT)
def test_shares_equal_the_mean_over_orders_and_sum_to_the_logit(values: list[float], present: list[bool]) -> None:
    share, found = explained(values, present)
    assert share == pytest.approx(slow(values, present), abs=1e-9)
    full = values[sum(1 << m for m in range(3) if present[m])]
    assert found.logit_BC.item() == full and found.empty_BC.item() == values[0]
    assert sum(share) + values[0] == pytest.approx(full, abs=1e-9)
    assert all(share[m] == 0 for m in range(3) if not present[m])


@settings(deadline=None, max_examples=50)
@given(VALUES, st.permutations(range(3)))
def test_modalities_that_change_it_alike_contribute_alike(values: list[float], order: list[int]) -> None:
    one, other, _ = order
    swap = [k ^ (1 << one | 1 << other) if (k >> one ^ k >> other) & 1 else k for k in range(8)]
    share, _ = explained([(values[k] + values[swap[k]]) / 2 for k in range(8)], [True] * 3)
    assert share[one] == pytest.approx(share[other], abs=1e-9)


@settings(deadline=None, max_examples=50)
@given(VALUES, st.integers(0, 2))
def test_a_null_player_contributes_nothing(values: list[float], m: int) -> None:
    share, _ = explained([values[k & ~(1 << m)] for k in range(8)], [True] * 3)
    assert share[m] == 0


@settings(deadline=None, max_examples=50)
@given(VALUES, VALUES)
def test_shares_of_a_sum_are_the_sum_of_shares(some: list[float], more: list[float]) -> None:
    both, _ = explained([a + b for a, b in zip(some, more, strict=True)], [True] * 3)
    parts = [explained(values, [True] * 3)[0] for values in (some, more)]
    assert both == pytest.approx([a + b for a, b in zip(*parts, strict=True)], abs=1e-9)


def test_a_network_is_explained_in_one_forward() -> None:
    present_BM = torch.tensor([[k >> m & 1 for m in range(3)] for k in range(8)], dtype=torch.bool)
    windows, net, calls = made(present_BM), network(), []

    def counted(batch: Windows) -> Tensor:
        calls.append(len(batch.present_BM))
        return net(batch)

    found = shapley(counted, windows)
    assert calls == [64]
    assert found.share_BMC.shape == (8, 3, 4) and not found.share_BMC.requires_grad
    with torch.no_grad():
        full_BC = net(windows)
    assert torch.allclose(found.share_BMC.sum(1) + found.empty_BC, full_BC.double(), atol=1e-5)
    assert (found.share_BMC[~present_BM] == 0).all()
    assert (found.share_BMC[present_BM] != 0).all()


def test_an_absent_modality_gets_exactly_nothing_where_a_kernel_rounds_each_row_differently() -> None:
    windows, net = made(torch.tensor([[True, False, True], [False, False, True], [False, False, False]]), seed=5), network()
    found = shapley(lambda batch: net(batch) + 1e-3 * torch.arange(len(batch.present_BM))[:, None], windows)
    assert (found.share_BMC[~windows.present_BM] == 0).all()
    assert torch.allclose(found.share_BMC.sum(1) + found.empty_BC, found.logit_BC, atol=1e-12)


def kept(windows: Windows, name: str, mask_BT: Tensor) -> Windows:
    whole: Stream = getattr(windows, name)
    return Windows(**{**dict(windows.streams()), name: Stream.of(whole.tokens_BTD, mask_BT, whole.quality_BQ)})


def test_removal_is_the_logit_less_that_without_the_token_and_alone_is_that_of_the_token_less_that_of_nothing() -> None:
    windows, net = (
        made(torch.tensor([[True, True, True], [True, False, True], [False, True, True], [False, False, False]]), seed=2),
        network(),
    )
    found, nothing_BM = removal(net, windows), torch.zeros(4, 3, dtype=torch.bool)
    for m, name in enumerate(MODALITIES):
        mask_BT = getattr(windows, name).mask_BT
        for b, t in mask_BT.nonzero().tolist():
            without_BT, only_BT, only_BM = mask_BT.clone(), torch.zeros_like(mask_BT), nothing_BM.clone()
            without_BT[b, t], only_BT[b, t], only_BM[b, m] = False, True, True
            with torch.no_grad():
                fall_C = (net(windows) - net(kept(windows, name, without_BT)))[b]
                rise_C = (net(kept(windows, name, only_BT).only(only_BM)) - net(windows.only(nothing_BM)))[b]
            assert torch.allclose(found.fall[name][b, t], fall_C.double(), atol=1e-5)
            assert torch.allclose(found.alone[name][b, t], rise_C.double(), atol=1e-5)
        assert (found.fall[name][~mask_BT] == 0).all() and (found.alone[name][~mask_BT] == 0).all()
    assert torch.allclose(found.logit_BC, net(windows).double(), atol=1e-5) and not found.logit_BC.requires_grad


def test_removal_is_one_forward_of_no_more_than_the_tokens_that_there_are() -> None:
    windows, calls = made(torch.tensor([[True, True, False]] * 2), seed=3), []

    def counted(batch: Windows) -> Tensor:
        calls.append(len(batch.present_BM))
        return torch.zeros(len(batch.present_BM), 1)

    found = removal(counted, windows)
    assert calls == [2 * (2 + int(windows.frames.mask_BT.sum() + windows.audio.mask_BT.sum()))]
    assert {name: each.shape for name, each in found.fall.items()} == {"frames": (2, 3, 1), "audio": (2, 4, 1), "transcripts": (2, 2, 1)}


@settings(deadline=None, max_examples=50)
@given(VALUES)
def test_the_last_token_of_a_modality_takes_the_modality_with_it(values: list[float]) -> None:
    windows = made(torch.tensor([[True, True, True]]), seed=6)
    windows = kept(windows, "audio", torch.tensor([[False, True, False, False]]))
    found = removal(of_coalitions(values), windows)
    assert found.fall["audio"].flatten().tolist() == [0, values[7] - values[5], 0, 0]
    assert found.alone["audio"].flatten().tolist() == [0, values[2] - values[0], 0, 0]


def test_the_top_token_is_one_that_is_there_even_when_all_speak_against() -> None:
    importance_BTC = torch.tensor([[[-2.0], [-1.0], [0.0]], [[0.0], [0.0], [0.0]]])
    mask_BT = torch.tensor([[True, True, False], [False, False, False]])
    assert top(importance_BTC, mask_BT).tolist() == [[1], [-1]]
    assert top(importance_BTC[:, :0], mask_BT[:, :0]).tolist() == [[-1], [-1]]


def test_an_empty_batch_is_explained_too() -> None:
    windows = made(torch.zeros(0, 3, dtype=torch.bool))
    assert shapley(network(), windows).share_BMC.shape == (0, 3, 4)
    assert removal(network(), windows).fall["frames"].shape == (0, 3, 4)


def test_windows_are_taken_in_order_and_more_than_once() -> None:
    windows = made(torch.tensor([[True, False, True], [False, True, True]]), seed=4)
    taken = take(windows, torch.tensor([1, 0, 1]))
    assert taken.present_BM.tolist() == [[False, True, True], [True, False, True], [False, True, True]]
    assert torch.equal(taken.transcripts.tokens_BTD[2], windows.transcripts.tokens_BTD[1])


def test_windows_are_taken_with_the_modalities_that_are_kept_alone() -> None:
    windows = made(torch.ones(4, len(MODALITIES), dtype=torch.bool))
    rows_N, keep_NM = torch.tensor([2, 0, 2]), torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    found, expected = take(windows, rows_N, keep_NM), take(windows, rows_N).only(keep_NM)
    for name, stream in found.streams():
        other = getattr(expected, name)
        assert all(
            torch.equal(getattr(stream, part), getattr(other, part)) for part in ("tokens_BTD", "mask_BT", "quality_BQ", "present_B")
        )
