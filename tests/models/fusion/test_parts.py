"""Which parts of a method a window goes through: those of what is absent get no gradient."""

from __future__ import annotations

import pytest
import torch

from models.fusion.parts import Attention, masked_mean, masked_softmax
from tests.models.fusion.builders import NAN, made, shaken, windows_of

THROUGH = (
    # method, present of (frames, audio, transcripts), part, whether the windows go through it
    ("concatenation", (1, 1, 1), "summaries.missing_MD", False),
    ("concatenation", (1, 0, 1), "summaries.missing_MD", True),
    ("weighted_sum", (0, 1, 0), "weights_M", False),
    ("weighted_sum", (1, 1, 0), "weights_M", True),
    ("product", (1, 0, 1), "factors.1", False),
    ("product", (1, 0, 1), "factors.0", True),
    ("cross_attention", (0, 1, 0), "pairs", False),
    ("cross_attention", (1, 0, 1), "pairs.0", False),
    ("cross_attention", (1, 0, 1), "pairs.1", True),
    ("cross_attention", (1, 0, 1), "pairs.2", False),
    ("hierarchical", (1, 0, 1), "scene", False),
    ("hierarchical", (1, 0, 1), "story", True),
    ("hierarchical", (0, 1, 1), "story", True),
    ("hierarchical", (1, 1, 0), "scene", True),
    ("hierarchical", (1, 1, 0), "story", False),
    ("bottleneck", (1, 0, 1), "layers.0.blocks.1", False),
    ("bottleneck", (1, 0, 1), "layers.1.blocks.2", True),
    ("gated", (0, 1, 0), "residual", False),
    ("gated", (0, 1, 0), "gates", False),
    ("gated", (0, 1, 0), "growth_C", False),
    ("gated", (1, 1, 0), "residual", True),
    ("gated", (1, 1, 0), "gates.quality.frames", True),
    ("gated", (1, 1, 0), "gates.quality.transcripts", False),
)


@pytest.mark.parametrize(("name", "present", "part", "through"), THROUGH)
def test_windows_go_through_the_parts_of_what_is_present(name: str, present: tuple[int, ...], part: str, through: bool) -> None:
    method = shaken(made(name))
    method(windows_of(torch.tensor([present] * 4, dtype=torch.bool))).square().sum().backward()
    found = [parameter.grad for key, parameter in method.named_parameters() if key == part or key.startswith(f"{part}.")]
    assert found and any(gradient is not None and gradient.any() for gradient in found) is through


def test_a_mean_and_a_softmax_are_of_what_the_mask_keeps_and_zeros_where_it_keeps_nothing() -> None:
    mask_BM = torch.tensor([[True, True, False], [False, False, False]])
    values_BM = torch.tensor([[1.0, 3.0, NAN], [NAN, NAN, NAN]])
    assert masked_mean(values_BM, mask_BM).tolist() == [2.0, 0.0]
    assert masked_softmax(torch.tensor([[5.0, 5.0, 9.0]] * 2), mask_BM, dim=1).tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]


def test_attention_is_that_of_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = Attention(16), torch.nn.MultiheadAttention(16, 4, batch_first=True)
    query_BTD, context_BSD, mask_BS = torch.randn(2, 3, 16), torch.randn(2, 5, 16), torch.rand(2, 5) < 0.7
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
    theirs.out_proj = ours.out  # type: ignore[assignment]
    expected_BTD, _ = theirs(query_BTD, context_BSD, context_BSD, key_padding_mask=~mask_BS)
    assert mask_BS.any(1).all() and not mask_BS.all()
    assert torch.allclose(ours(query_BTD, context_BSD, mask_BS), expected_BTD, atol=1e-6)


def test_a_width_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="18"):
        Attention(18)
