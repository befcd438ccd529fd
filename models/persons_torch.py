"""The person detector where there is a GPU: the published network in floats, many pictures in one forward.

`persons.py` runs the same network in 8 bits, picture by picture, as is fast on a CPU. Here a batch goes to the device in one transfer, and
corners and confidences come back in one; what follows looks at few boxes and stays on the host.

Laws:
1. A picture's result is its own alone: what else is in the batch changes it by rounding at most.
2. Results are those of onnxruntime on the published file, within the rounding of the device (on CUDA torch allows convolutions TF32).
3. The network sees batches of the SIZES alone: cuDNN takes seconds for each new one.

Shape key: B pictures, H x W picture, S side of a square, N boxes of all anchors, K of them kept.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from models.features import Array, Seen
from models.persons import CANDIDATES, FLOOR, OVERLAP, SOURCE, SOURCE_SHA256, seen_of
from models.pictures import SIDE, smaller
from models.ssdlite import SSDLite
from models.weights import check_file

SIZES = (1, 4, 16, 32)
"""Pictures in one forward: black ones fill it up to the next of these; more than the last go in several."""


class TorchPersonDetector:
    """Pictures to `Seen`, as `PersonDetector`, in batches and on any device of torch."""

    def __init__(self, network: SSDLite, *, device: str, sizes: Sequence[int] = SIZES) -> None:
        self._network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device = device
        self._sizes = sizes

    @classmethod
    def load(cls, *, device: str, sizes: Sequence[int] = SIZES) -> TorchPersonDetector:
        """The published file in `assets/`, its digest checked. PackageError: missing or altered."""
        return cls(SSDLite.load(check_file(SOURCE, SOURCE_SHA256)), device=device, sizes=sizes)

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[Seen]:
        """Blocking; one result per picture (H x W x 3, uint8, RGB, any size)."""
        most = self._sizes[-1]
        return [seen for at in range(0, len(images), most) for seen in self._some(images[at : at + most])]

    @torch.inference_mode()
    def _some(self, images: Sequence[NDArray[np.uint8]]) -> list[Seen]:
        cuda = self._device.startswith("cuda")
        size = next(size for size in self._sizes if size >= len(images))
        host_BSS3 = torch.zeros((size, SIDE, SIDE, 3), dtype=torch.uint8, pin_memory=cuda)
        smalls = host_BSS3.numpy()[: len(images)]
        for small_SS3, image_HW3 in zip(smalls, images, strict=True):
            small_SS3[:] = smaller(image_HW3)
        corners_BN4, confidence_BN = self._network.detect(host_BSS3.to(self._device, non_blocking=cuda))
        found_BN5 = torch.cat([corners_BN4, confidence_BN[..., None]], dim=2).cpu().numpy()[: len(images)]
        return [_seen(*each) for each in zip(images, smalls, found_BN5, strict=True)]


def _seen(image_HW3: NDArray[np.uint8], small_SS3: NDArray[np.uint8], found_N5: Array) -> Seen:
    corners_N4, confidence_N = found_N5[:, :4], found_N5[:, 4]
    return seen_of(image_HW3, small_SS3, corners_N4, confidence_N, standing(corners_N4, confidence_N))


def standing(corners_N4: Array, confidence_N: Array) -> NDArray[np.intp]:
    """Which boxes of at least FLOOR stand, surest first: each that overlaps no surer one that stands by more than OVERLAP.

    As ONNX's NonMaxSuppression does it, in float32; of boxes equally sure the first comes first.
    """
    sure_K = np.flatnonzero(confidence_N >= FLOOR)
    left_K = sure_K[np.argsort(-confidence_N[sure_K], kind="stable")]
    kept: list[int] = []
    while len(left_K) and len(kept) < CANDIDATES:
        kept.append(int(left_K[0]))
        left_K = left_K[1:][overlaps(corners_N4[left_K[0]], corners_N4[left_K[1:]]) <= OVERLAP]
    return np.array(kept, np.intp)


def overlaps(corners_4: Array, corners_K4: Array) -> Array:
    """Intersection over union of one box with others; 0 where they share nothing, or one of them is empty."""
    shared_K2 = np.minimum(corners_4[2:], corners_K4[:, 2:]) - np.maximum(corners_4[:2], corners_K4[:, :2])
    shared_K: Array = shared_K2.clip(0.0).prod(axis=1)
    union_K = (corners_4[2:] - corners_4[:2]).prod() + (corners_K4[:, 2:] - corners_K4[:, :2]).prod(axis=1) - shared_K
    overlap_K: Array = np.divide(shared_K, union_K, out=np.zeros_like(shared_K), where=shared_K > 0)
    return overlap_K
