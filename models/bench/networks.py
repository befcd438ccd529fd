"""The encoders' networks with random weights: speed does not depend on what they know.

Sound is `models/yamnet.py`. Words are a BERT of MiniLM-L6's sizes. Pictures are the convolutions of the detector in `assets/`
(SSDLite on MobileNetV2, arXiv:1801.04381), written again in torch because that file needs onnxruntime; a test compares the shapes.
What follows a detector's convolutions is short here: the surest boxes as they come, without anchors and non-maximum suppression.

Shape key: N pictures or texts, H x W picture, C channels, A anchors, K boxes kept, P patches, S samples, T tokens, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertModel

from models.yamnet import Yamnet

SIDE, KEPT = 300, 32
"""As in models/persons.py, which needs onnxruntime: pixels of the square input, boxes kept of one picture."""
_BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Factor, channels, how many, stride of the first."""
_TAPPED = 13  # the block whose widened map is the first that boxes are read from
_EXTRAS = ((1_280, 256, 512), (512, 128, 256), (256, 128, 256), (256, 64, 128))
_HEADS = ((576, 3), (1_280, 6), (512, 6), (256, 6), (256, 6), (128, 6))
"""Channels of each map that boxes are read from, and anchors of each of its places."""


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups), nn.ReLU6())


class Block(nn.Module):
    """An inverted residual: wide, depthwise, narrow; batch norms folded."""

    def __init__(self, inputs: int, outputs: int, stride: int, factor: int) -> None:
        super().__init__()
        wide = inputs * factor
        self.widen = _conv(inputs, wide) if factor > 1 else nn.Sequential()
        self.narrow = nn.Sequential(_conv(wide, wide, 3, stride, groups=wide), nn.Conv2d(wide, outputs, 1))
        self.adds = stride == 1 and inputs == outputs

    def forward(self, map_NCHW: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        narrow_NCHW: Tensor = self.narrow(self.widen(map_NCHW))
        return map_NCHW + narrow_NCHW if self.adds else narrow_NCHW


def _blocks() -> list[Block]:
    made, inputs = [], 32
    for factor, outputs, count, stride in _BLOCKS:
        for at in range(count):
            made.append(Block(inputs, outputs, stride if at == 0 else 1, factor))
            inputs = outputs
    return made


class Readers(nn.Module):
    """What is read from one map: two scores (nobody, person) and four numbers of a box for each anchor."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.scores, self.boxes = (
            nn.Sequential(_conv(channels, channels, 3, groups=channels), nn.Conv2d(channels, each * anchors, 1)) for each in (2, 4)
        )

    def forward(self, map_NCHW: Tensor) -> tuple[Tensor, Tensor]:
        """(N, A, 2) and (N, A, 4)."""
        scores, boxes = (part(map_NCHW).permute(0, 2, 3, 1).flatten(1) for part in (self.scores, self.boxes))
        return scores.unflatten(1, (-1, 2)), boxes.unflatten(1, (-1, 4))


class People(nn.Module):
    """Pictures (N, H, W, 3), uint8, to the surest boxes: confidence (N, K) and left, top, right, bottom (N, K, 4)."""

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
        self.readers = nn.ModuleList(Readers(channels, anchors) for channels, anchors in _HEADS)

    def forward(self, image_NHW3: Tensor) -> tuple[Tensor, Tensor]:
        """Resized on the device that it runs on."""
        dtype = next(self.parameters()).dtype
        square_N3HW = functional.interpolate(image_NHW3.permute(0, 3, 1, 2).float(), (SIDE, SIDE), mode="bilinear")
        maps = [self.early((square_N3HW / 127.5 - 1.0).to(dtype))]
        maps.append(self.late(maps[0]))
        for extra in self.extras:
            maps.append(extra(maps[-1]))
        found = [reader(each) for reader, each in zip(self.readers, maps, strict=True)]
        chance_NA = torch.cat([scores for scores, _ in found], dim=1).float().softmax(2)[:, :, 1]
        return surest(chance_NA, torch.cat([boxes for _, boxes in found], dim=1).float())


def surest(chance_NA: Tensor, offset_NA4: Tensor) -> tuple[Tensor, Tensor]:
    """The KEPT best, best first; their offsets read as centre and size of a box inside the picture."""
    chance_NK, at_NK = chance_NA.topk(KEPT, dim=1)
    box_NK4 = offset_NA4.gather(1, at_NK[:, :, None].expand(-1, -1, 4)).sigmoid()
    centre_NK2, half_NK2 = box_NK4[..., :2], box_NK4[..., 2:] / 2
    return chance_NK, torch.cat([centre_NK2 - half_NK2, centre_NK2 + half_NK2], dim=2).clamp(0.0, 1.0)


class Sound(nn.Module):
    """YAMNet in any precision: its log-mel stays float32, and what comes out is float32."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Yamnet()

    def forward(self, sound_PS: Tensor) -> tuple[Tensor, Tensor]:
        """(P, S) samples to logits (P, L) and embeddings (P, D)."""
        dtype = self.network.classifier.weight.dtype
        logits_PL, embedding_PD = self.network.classify(self.network.log_mel(sound_PS).to(dtype))
        return logits_PL.float(), embedding_PD.float()


class Words(nn.Module):
    """A BERT of MiniLM-L6's sizes; what comes out is float32."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        sizes: dict[str, Any] = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1_536}
        self.network = BertModel(BertConfig(**sizes, **settings), add_pooling_layer=False)

    def forward(self, ids_NT: Tensor, mask_NT: Tensor) -> tuple[Tensor]:
        """Token ids and their mask (int64) to hidden states (N, T, D)."""
        return (self.network(input_ids=ids_NT, attention_mask=mask_NT).last_hidden_state.float(),)


def in_precision(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The same module in that precision. A spectrum is not taken in 16 bits: of sound, all but that."""
    if isinstance(network, Sound):
        network.network.body.to(dtype)
        network.network.classifier.to(dtype)
        return network
    return network.to(dtype)


@torch.no_grad()
def made(kind: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The same weights for the same seed, on the CPU. Convolutions keep a signal's scale (He et al., arXiv:1502.01852)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = kind().eval().requires_grad_(False)
        for part in network.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
    return network


@torch.no_grad()
def flops(network: nn.Module, *inputs: Tensor) -> int:
    """Operations of convolutions and matrix products alone, a multiplication and an addition as two; on the CPU."""
    with FlopCounterMode(display=False) as counter:
        network(*inputs)
    return int(counter.get_total_flops())
