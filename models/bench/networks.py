"""The encoders' networks with random weights: speed does not depend on what they know.

Sound is `models/yamnet.py`. Words are a BERT of MiniLM-L6's sizes. Pictures are `models/ssdlite.py`; what follows its convolutions is short
here: the surest boxes as they come, without anchors and non-maximum suppression.

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

from models.ssdlite import SSDLite, normalised
from models.yamnet import Yamnet

SIDE, KEPT = 300, 32
"""As in models/persons.py, which needs onnxruntime: pixels of the square input, boxes kept of one picture."""


class People(nn.Module):
    """Pictures (N, H, W, 3), uint8, to the surest boxes: confidence (N, K) and left, top, right, bottom (N, K, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.network = SSDLite()

    def forward(self, image_NHW3: Tensor) -> tuple[Tensor, Tensor]:
        """Resized on the device that it runs on."""
        dtype = next(self.parameters()).dtype
        square_N3HW = functional.interpolate(image_NHW3.permute(0, 3, 1, 2).float(), (SIDE, SIDE), mode="bilinear")
        logits_NA2, offset_NA4 = self.network(normalised(square_N3HW).to(dtype))
        return surest(logits_NA2.float().softmax(2)[:, :, 1], offset_NA4.float())


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
