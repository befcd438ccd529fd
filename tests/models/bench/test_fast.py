"""The fast path gives what the network gives: any number of rows, any sizes, compiled or not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.bench.fast import Fast, Plan


class Rows(nn.Module):
    """Two inputs, two outputs; counts the shapes that it is run in."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.seen: set[int] = set()

    def forward(self, x_N3: Tensor, mask_N: Tensor) -> tuple[Tensor, Tensor]:
        """Each row on its own."""
        self.seen.add(len(x_N3))
        return self.linear(x_N3) * mask_N[:, None], x_N3.sum(1)


@settings(deadline=None, max_examples=40)
@given(rows=st.integers(1, 23), sizes=st.sets(st.integers(1, 9), min_size=1))
def test_any_number_of_rows_is_the_plain_result_in_few_shapes(rows: int, sizes: set[int]) -> None:
    network = Rows().requires_grad_(False)
    fast = Fast(network, Plan(sizes=tuple(sorted(sizes))))
    x_N3, mask_N = torch.randn(rows, 3), torch.rand(rows) > 0.5
    found = fast(x_N3, mask_N)
    assert network.seen <= sizes
    for one, other in zip(found, network(x_N3, mask_N), strict=True):
        torch.testing.assert_close(one, other)


def test_a_result_stays_when_the_next_batch_comes() -> None:
    fast = Fast(Rows(), Plan(sizes=(4,)))
    first, _ = fast(torch.ones(2, 3), torch.ones(2))
    kept = first.clone()
    fast(torch.full((3, 3), 7.0), torch.ones(3))
    assert torch.equal(first, kept)


def test_what_an_earlier_batch_left_does_not_reach_a_shorter_one() -> None:
    class Total(nn.Module):
        def forward(self, x_N3: Tensor) -> tuple[Tensor]:
            return (x_N3.sum().expand(len(x_N3)),)

    fast = Fast(Total(), Plan(sizes=(4,)))
    fast(torch.full((4, 3), 100.0))
    assert fast(torch.ones(1, 3))[0].tolist() == [3.0]


def test_after_warming_no_size_is_new() -> None:
    network = Rows()
    fast = Fast(network, Plan(sizes=(1, 4)))
    fast.warm(torch.zeros(2, 3), torch.zeros(2))
    opened = len(fast._slots)
    fast(torch.zeros(11, 3), torch.zeros(11))
    assert network.seen == {1, 4} and len(fast._slots) == opened == 2


def test_no_rows_at_all_is_an_error_that_the_caller_sees() -> None:
    with pytest.raises(ValueError, match="no rows"):
        Fast(Rows(), Plan())(torch.zeros(0, 3), torch.zeros(0))


def test_a_compiled_network_gives_the_same() -> None:
    network = Rows().requires_grad_(False)
    x_N3, mask_N = torch.randn(3, 3), torch.ones(3)
    found = Fast(network, Plan(sizes=(4,), compiled="eager"))(x_N3, mask_N)
    torch.testing.assert_close(found[0], network(x_N3, mask_N)[0])
