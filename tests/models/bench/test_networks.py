"""Random networks are the shipped ones in shape; what counts their operations agrees with a count by hand."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import nn

from models.bench.networks import KEPT, People, Sound, Words, flops, in_precision, made, surest
from models.persons import MOST, SOURCE
from models.pictures import SIDE
from models.yamnet import PATCH_SAMPLES


def convolutions(network: nn.Module) -> list[tuple[tuple[int, ...], int, int]]:
    """Weight's shape, groups and stride of each."""
    parts = [part for part in network.modules() if isinstance(part, nn.Conv2d)]
    return sorted((tuple(part.weight.shape), part.groups, part.stride[0]) for part in parts)


def test_the_picture_network_has_the_convolutions_of_the_shipped_detector() -> None:
    graph = onnx.load(str(SOURCE)).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    shipped = []
    for node in graph.node:
        if node.op_type == "Conv":
            has = {each.name: each for each in node.attribute}
            shipped.append((shapes[node.input[1]], has["group"].i, has["strides"].ints[0]))
    assert convolutions(People()) == sorted(shipped)
    assert (KEPT, 300) == (MOST, SIDE)


def test_every_picture_gets_its_surest_boxes_best_first_and_inside_it() -> None:
    chance_NA, offset_NA4 = torch.rand(2, 50), torch.randn(2, 50, 4) * 5
    chance_NK, box_NK4 = surest(chance_NA, offset_NA4)
    assert torch.equal(chance_NK, chance_NA.sort(1, descending=True).values[:, :KEPT])
    assert bool(((box_NK4 >= 0) & (box_NK4 <= 1)).all())
    assert bool((box_NK4[..., 2:] >= box_NK4[..., :2]).all())


def test_the_word_network_is_as_large_as_minilm() -> None:
    layers = 6 * (4 * (384 * 384 + 384) + 2 * 384 * 1536 + 1536 + 384 + 4 * 384)
    embeddings = (30_522 + 512 + 2) * 384 + 2 * 384
    assert sum(each.numel() for each in made(Words, 0).parameters()) == layers + embeddings


def test_the_same_seed_makes_the_same_weights_and_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    one, other = made(Sound, 3), made(Sound, 3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_operations_are_counted_as_multiplications_and_additions() -> None:
    assert flops(nn.Linear(10, 7), torch.zeros(3, 10)) == 2 * 3 * 10 * 7
    depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
    assert flops(depthwise, torch.zeros(1, 8, 5, 5)) == 2 * 8 * 9 * 25


@pytest.mark.parametrize("rows", [1, 3])
def test_a_shorter_precision_gives_nearly_the_same_sound(rows: int) -> None:
    sound_PS = torch.randn(rows, PATCH_SAMPLES, generator=torch.Generator().manual_seed(0)) * 0.1
    with torch.inference_mode():
        whole_PL, _ = made(Sound, 0)(sound_PS)
        short_PL, embedding_PD = in_precision(made(Sound, 0), torch.bfloat16)(sound_PS)
    assert short_PL.dtype == embedding_PD.dtype == torch.float32
    assert float((short_PL - whole_PL).norm() / whole_PL.norm()) < 0.05
