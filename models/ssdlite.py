"""SSDLite on MobileNetV2 in torch, with the weights of the published detector: what `persons_torch.py` runs on a GPU.

Sandler et al., arXiv:1801.04381; Liu et al., arXiv:1512.02325 (anchors, decoding). The file in `assets/` is TensorFlow's graph in ONNX;
the network is written again here, and a test holds it to that graph. Batch norms are folded into convolutions: the file did it for most,
loading does it for the rest. Anchors are the file's.

Shape key: B pictures, S side of a square, C channels, H x W map, A anchors of one map, N anchors of all maps. Corners are top, left,
bottom, right as shares of the picture, as TensorFlow orders them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    import onnx

_BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Factor, channels, how many, stride of the first."""
_TAPPED = 13  # the block whose widened map is the first that boxes are read from
_EXTRAS = ((1_280, 256, 512), (512, 128, 256), (256, 128, 256), (256, 64, 128))
_HEADS = ((576, 19, 3), (1_280, 10, 6), (512, 5, 6), (256, 3, 6), (256, 2, 6), (128, 1, 6))
"""Channels and side of each map that boxes are read from, and anchors of each of its places."""
ANCHORS = sum(side**2 * anchors for _, side, anchors in _HEADS)  # 1,917
_SCALE, _SHIFT = 2 / 255, 1.0  # 0..255 to -1..1
_CENTRE, _SIZE = 0.1, 0.2  # what offsets of centres and of logarithmic sizes are counted in
_PERSON = 1  # of the two classes; the other is nobody
_EXTRACTOR, _ANCHORS = "FeatureExtractor/MobilenetV2", "Postprocessor/ExpandDims:0"


class Same(nn.Conv2d):
    """Padded as TensorFlow's SAME: as many places as the stride leaves, and where the padding is odd the one more lies after the map."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups=groups)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        (top, bottom), (left, right) = (_padding(at, self.kernel_size[0], self.stride[0]) for at in map_BCHW.shape[2:])
        if (top, left) == (bottom, right):
            return functional.conv2d(map_BCHW, self.weight, self.bias, self.stride, (top, left), groups=self.groups)
        padded_BCHW = functional.pad(map_BCHW, (left, right, top, bottom))
        return functional.conv2d(padded_BCHW, self.weight, self.bias, self.stride, groups=self.groups)


def _padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Before and after, in pixels."""
    missing = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
    return missing // 2, missing - missing // 2


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(Same(inputs, outputs, kernel, stride, groups), nn.ReLU6(inplace=True))


class Block(nn.Module):
    """An inverted residual: wide, depthwise, narrow; batch norms folded."""

    def __init__(self, inputs: int, outputs: int, stride: int, factor: int) -> None:
        super().__init__()
        wide = inputs * factor
        self.widen = _conv(inputs, wide) if factor > 1 else nn.Sequential()
        self.narrow = nn.Sequential(_conv(wide, wide, 3, stride, groups=wide), Same(wide, outputs))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', H', W')."""
        narrow_BCHW: Tensor = self.narrow(self.widen(map_BCHW))
        return map_BCHW + narrow_BCHW if self.adds else narrow_BCHW


def _blocks() -> list[Block]:
    made, inputs = [], 32
    for factor, outputs, count, stride in _BLOCKS:
        for at in range(count):
            made.append(Block(inputs, outputs, stride if at == 0 else 1, factor))
            inputs = outputs
    return made


class Readers(nn.Module):
    """What is read from one map: two logits (nobody, person) and four numbers of a box for each anchor."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.logits, self.offsets = (
            nn.Sequential(_conv(channels, channels, 3, groups=channels), Same(channels, each * anchors)) for each in (2, 4)
        )

    def forward(self, map_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """(B, H x W x A, 2) and (B, H x W x A, 4)."""
        logits, offsets = (part(map_BCHW).permute(0, 2, 3, 1).flatten(1) for part in (self.logits, self.offsets))
        return logits.unflatten(1, (-1, 2)), offsets.unflatten(1, (-1, 4))


class SSDLite(nn.Module):
    """The network, its preprocessing and its decoding. Weights are random, and anchors zero, until they are loaded."""

    anchors_N4: Tensor

    def __init__(self) -> None:
        super().__init__()
        blocks = _blocks()
        tapped = blocks[_TAPPED]
        self.early = nn.Sequential(_conv(3, 32, 3, 2), *blocks[:_TAPPED], tapped.widen)
        self.late = nn.Sequential(tapped.narrow, *blocks[_TAPPED + 1 :], _conv(320, 1_280))
        self.extras = nn.ModuleList(
            nn.Sequential(_conv(inputs, middle), _conv(middle, middle, 3, 2, groups=middle), _conv(middle, outputs))
            for inputs, middle, outputs in _EXTRAS
        )
        self.readers = nn.ModuleList(Readers(channels, anchors) for channels, _, anchors in _HEADS)
        self.register_buffer("anchors_N4", torch.zeros(ANCHORS, 4))

    def forward(self, picture_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised pictures to logits (B, N, 2) and offsets (B, N, 4)."""
        maps = [self.early(picture_B3SS)]
        maps.append(self.late(maps[0]))
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        logits, offsets = zip(*(reader(each) for reader, each in zip(self.readers, maps, strict=True)), strict=True)
        return torch.cat(logits, dim=1), torch.cat(offsets, dim=1)

    def detect(self, small_BSS3: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures of 0..255 to corners (B, N, 4) and confidences (B, N), as the file's Postprocessor makes them."""
        logits_BN2, offset_BN4 = self(normalised(small_BSS3.permute(0, 3, 1, 2)))
        return decoded(offset_BN4, self.anchors_N4), logits_BN2[..., _PERSON].sigmoid()

    @classmethod
    def load(cls, path: Path) -> SSDLite:
        """From the verified file of `assets/`. ValueError when it is another network's."""
        import onnx  # here, so that the network itself can be built where there is no ONNX
        from onnx import numpy_helper

        graph = onnx.load(str(path)).graph
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        found = _convolutions(graph, constants)
        network = cls()
        layers = [part for part in network.modules() if isinstance(part, Same)]
        with torch.no_grad():
            for name, layer in zip(names(), layers, strict=True):
                weight, bias = found.pop(name, (np.empty(0), np.empty(0)))
                if layer.weight.shape != weight.shape or layer.bias is None:
                    raise ValueError(f"{name} of shape {tuple(layer.weight.shape)} got weights of shape {weight.shape}")
                layer.weight.copy_(torch.from_numpy(weight))
                layer.bias.copy_(torch.from_numpy(bias))
            network.anchors_N4.copy_(torch.from_numpy(constants[_ANCHORS].reshape(ANCHORS, 4).copy()))
        if found:
            raise ValueError(f"{len(found)} convolutions of {path.name} have no place here: {', '.join(sorted(found))}")
        return network.eval().requires_grad_(False)


def normalised(picture_B3SS: Tensor) -> Tensor:
    """0..255, uint8 or float, to -1..1, float32."""
    return picture_B3SS.float() * _SCALE - _SHIFT


def decoded(offset_BN4: Tensor, anchors_N4: Tensor) -> Tensor:
    """Offsets from anchors' centres (y, x) and of their sizes (height, width), and the anchors' corners, to corners (B, N, 4)."""
    size_N2 = anchors_N4[:, 2:] - anchors_N4[:, :2]
    middle_N2 = anchors_N4[:, :2] + size_N2 / 2
    centre_BN2 = offset_BN4[..., :2] * _CENTRE * size_N2 + middle_N2
    half_BN2 = (offset_BN4[..., 2:] * _SIZE).exp() * size_N2 / 2
    return torch.cat([centre_BN2 - half_BN2, centre_BN2 + half_BN2], dim=2)


def names() -> Iterator[str]:
    """The file's names of the network's convolutions, in the network's order."""
    yield f"{_EXTRACTOR}/Conv"
    for at in range(sum(count for _, _, count, _ in _BLOCKS)):
        parts = ("expand", "depthwise", "project") if at else ("depthwise", "project")
        yield from (f"{_EXTRACTOR}/expanded_conv{f'_{at}' if at else ''}/{part}" for part in parts)
    yield f"{_EXTRACTOR}/Conv_1"
    for at, (_, middle, outputs) in enumerate(_EXTRAS, start=2):
        strided = f"{_EXTRACTOR}/layer_19_2_Conv2d_{at}_3x3_s2_{outputs}"
        yield from (f"{_EXTRACTOR}/layer_19_1_Conv2d_{at}_1x1_{middle}", f"{strided}_depthwise", strided)
    for at in range(len(_HEADS)):
        for what in ("ClassPredictor", "BoxEncodingPredictor"):
            yield from (f"BoxPredictor_{at}/{what}_depthwise", f"BoxPredictor_{at}/{what}")


Parameters = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Weight and bias."""


def _convolutions(graph: onnx.GraphProto, constants: dict[str, NDArray[np.float32]]) -> dict[str, Parameters]:
    """By name, those with constant weights; a batch norm that the file left behind its convolution is folded in."""
    norms = {node.name.removesuffix("/BatchNorm/FusedBatchNorm"): node for node in graph.node if node.op_type == "BatchNormalization"}
    found = {}
    for node in graph.node:
        if node.op_type == "Conv" and all(each in constants for each in node.input[1:]):
            name = node.name.rpartition("/")[0]
            weight, *biases = (constants[each] for each in node.input[1:])
            bias = biases[0] if biases else np.zeros(len(weight), np.float32)
            found[name] = _folded(weight, bias, norms[name], constants) if name in norms else (weight.copy(), bias.copy())
    return found


def _folded(
    weight: NDArray[np.float32], bias: NDArray[np.float32], norm: onnx.NodeProto, constants: dict[str, NDArray[np.float32]]
) -> Parameters:
    gamma, beta, mean, variance = (constants[name].astype(np.float64) for name in norm.input[1:])
    (epsilon,) = (each.f for each in norm.attribute if each.name == "epsilon")
    scale = gamma / np.sqrt(variance + epsilon)
    return (weight * scale[:, None, None, None]).astype(np.float32), ((bias - mean) * scale + beta).astype(np.float32)
