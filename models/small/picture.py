"""Pictures from scratch: a CNN or a ViT on squares of 128 pixels. It says whether somebody is there, not where: no boxes.

ViT: Dosovitskiy et al., arXiv:2010.11929, with the mean and the greatest over its tokens instead of a class token.

Shape key: N pictures, H x W picture (of any size), S side, T tokens (squares of 16 pixels), C classes or channels, D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models import quality
from models.features import Seen
from models.fusion.parts import Attention, mlp
from models.small.file import Small
from models.small.parts import Network, Networks, Standard, chances_of, pooled, pyramid

SIDE = 128  # pixels; somebody far away is some five pixels wide in it
SQUARE = 16  # pixels
LAYERS = 3


class Cnn(nn.Module):
    """Pictures to embeddings: five blocks, then mean and greatest over places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = pyramid(3, width, [(2, 2), (2, 2), (2, 2), (2, 2), (1, 1)])

    def forward(self, picture_N3SS: Tensor) -> Tensor:
        """(N, 3, S, S) to (N, D)."""
        return pooled(self.blocks(picture_N3SS), 2, 3)


class Layer(nn.Module):
    """Attention, then a hidden layer; each after a norm and beside what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width)
        self.mlp = mlp(width, 2 * width, width)

    def forward(self, token_NTD: Tensor) -> Tensor:
        """(N, T, D)."""
        normed_NTD = self.before_attention(token_NTD)
        token_NTD = token_NTD + self.attention(normed_NTD, normed_NTD, torch.ones_like(token_NTD[:, :, 0], dtype=torch.bool))
        found_NTD: Tensor = token_NTD + self.mlp(self.before_mlp(token_NTD))
        return found_NTD


class Vit(nn.Module):
    """Pictures to embeddings: squares as tokens, each with its place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squares = nn.Conv2d(3, width, SQUARE, SQUARE)
        self.place_TD = nn.Parameter(0.02 * torch.randn((SIDE // SQUARE) ** 2, width))
        self.layers = nn.Sequential(*(Layer(width) for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(width)

    def forward(self, picture_N3SS: Tensor) -> Tensor:
        """(N, 3, S, S) to (N, D)."""
        token_NTD = self.squares(picture_N3SS).flatten(2).transpose(1, 2) + self.place_TD
        return pooled(self.norm(self.layers(token_NTD)), 1)


class PictureNetwork(Network):
    """Squares of pixels to logits and embeddings, their scaling included."""

    def __init__(self, body: nn.Module, classes: int, width: int) -> None:
        super().__init__()
        self.standard = Standard(3)
        self.body = body
        self.dropout = nn.Dropout(0.0)
        self.classifier = nn.Linear(2 * width, classes)

    def prepare(self, events: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Pictures (H, W, 3) to (N, S, S, 3), uint8. Proportions are not kept, as the person detector does."""
        return torch.from_numpy(np.stack([cv2.resize(checked(event), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for event in events]))

    def fit(self, inputs: Tensor) -> None:
        """Each colour."""
        self.standard.fit(inputs / 255)

    def forward(self, picture_NSS3: Tensor) -> tuple[Tensor, Tensor]:
        """(N, S, S, 3) uint8 to logits (N, C) and embeddings (N, D)."""
        embedding_ND = self.body(self.standard(picture_NSS3 / 255).permute(0, 3, 1, 2))
        return self.classifier(self.dropout(embedding_ND)), embedding_ND


NETWORKS: Networks = {
    "picture-cnn": lambda classes, width: PictureNetwork(Cnn(width), classes, width),
    "picture-vit": lambda classes, width: PictureNetwork(Vit(width), classes, width),
}


class SmallPictures(Small):
    """Pictures to `Seen`, without boxes: a `features.ImageEncoder`."""

    networks = NETWORKS

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[Seen]:
        """Blocking; one result per picture. ValueError where one is not H x W x 3, uint8."""
        logits_NC, _ = self.network.say(images)
        return [
            Seen(
                chances=chances_of(self.classes, logit_C),
                boxes_N5=np.empty((0, 5), np.float32),
                quality_Q=quality.of_picture(image),
            )
            for image, logit_C in zip(images, logits_NC, strict=True)
        ]


def checked(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same. ValueError where it is no picture."""
    if image.ndim != 3 or image.shape[2] != 3 or not image.size or image.dtype != np.uint8:
        raise ValueError(f"a picture of shape {image.shape} {image.dtype} must be height x width x 3, uint8, with a pixel at least")
    return image
