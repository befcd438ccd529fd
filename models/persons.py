"""People in pictures: SSDLite on MobileNetV2 (Sandler et al., arXiv:1801.04381), one class, trained on CCTV pedestrians.

The file travels with the source (`assets/`, MIT). `quantise.py` made it, in 8 bits, of the published one: some 1.5 times as fast on a
processor with VNNI. The chance that a picture shows somebody moved by 0.010 on average and by 0.16 at most (165 pictures and crops of
them that had no part in it). Measured on one CPU thread, batches of eight cost more per picture than one at a time, so pictures go one
by one; each is then also independent of its neighbours. On a GPU `persons_torch.py` runs the published one instead.

Shape key: H x W picture, S side of a square, N boxes of all anchors, K of them kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models import quality
from models.features import Array, Seen
from models.pictures import smaller
from models.weights import check_file

MOST = 32  # boxes kept of one picture
FLOOR = 0.3  # confidence below which a box is not kept (its confidence still counts as the picture's chance)
ASSET = Path(__file__).parent / "assets" / "person_ssdlite_mobilenetv2_int8.onnx"
ASSET_SHA256 = "d991da3e255a4b5b59e5aaabb088e8506360274c2ac3398a387831dcfb2c2209"
SOURCE = ASSET.with_name("person_ssdlite_mobilenetv2.onnx")
"""As it was published."""
SOURCE_SHA256 = "e43c305235e0a44d7c05325cdd2251d71aea15b2e42e1df21062c8b36036fe7b"
OVERLAP, CANDIDATES = 0.6, 100  # as published: intersection over union above which the less sure box falls, and boxes that stand at most
INPUT, OUTPUTS = "picture", ("Postprocessor/Reshape_2:0", "Postprocessor/Slice:0", "standing")


class PersonDetector:
    """Pictures to `Seen`: boxes of people, best first, and the chance that there is one at all."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session

    @classmethod
    def load(cls) -> PersonDetector:
        """The detector in `assets/`, its digest checked. It runs on the CPU: 8 bits are made for it."""
        return cls(cls.session(check_file(ASSET, ASSET_SHA256).read_bytes()))

    @staticmethod
    def session(network: bytes) -> onnxruntime.InferenceSession:
        """An ONNX file's bytes, ready to run on the CPU, in one thread."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[Seen]:
        """Blocking; one result per picture (H x W x 3, uint8, RGB, any size)."""
        smalls = [smaller(image) for image in images]
        found = [self._detect(small_SS3) for small_SS3 in smalls]  # in a row: each finds its weights in the processor's cache
        return [seen_of(image, small_SS3, *told) for image, small_SS3, told in zip(images, smalls, found, strict=True)]

    def _detect(self, small_SS3: NDArray[np.uint8]) -> tuple[Array, Array, NDArray[np.integer[Any]]]:
        corners_1N4, confidence_1N1, standing_K3 = map(np.asarray, self._session.run(OUTPUTS, {INPUT: small_SS3[None]}))
        return corners_1N4[0], confidence_1N1[0, :, 0], standing_K3[:, 2]


def seen_of(
    image_HW3: NDArray[np.uint8], small_SS3: NDArray[np.uint8], corners_N4: Array, confidence_N: Array, standing_K: NDArray[np.integer[Any]]
) -> Seen:
    """A picture, and every anchor's corners (top, left, bottom, right) and confidence; `standing_K`: which of them stand, best first."""
    boxes_N5 = inside(corners_N4, confidence_N)
    return Seen(
        chances={"person": float(boxes_N5[:, 4].max(initial=0.0))},
        boxes_N5=to_boxes(boxes_N5[standing_K]),
        quality_Q=quality.of_picture(image_HW3, small_SS3),
    )


def inside(corners_N4: Array, confidence_N: Array) -> Array:
    """(top, left, bottom, right) and confidences to left, top, right, bottom, confidence; boxes outside the picture have none of it."""
    box_N4 = corners_N4[:, [1, 0, 3, 2]].clip(0.0, 1.0)
    there_N = (box_N4[:, 2:] > box_N4[:, :2]).all(axis=1)
    return np.column_stack([box_N4, confidence_N * there_N]).astype(np.float32)


def to_boxes(boxes_K5: Array) -> Array:
    """Those to keep, best first."""
    return boxes_K5[boxes_K5[:, 4] >= FLOOR][:MOST]
