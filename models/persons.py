"""People in pictures: SSDLite on MobileNetV2 (Sandler et al., arXiv:1801.04381), one class, trained on CCTV pedestrians.

The file travels with the source (`assets/`, MIT). Its graph ends in its own non-maximum suppression. Measured on one CPU
thread, batches of eight cost more per picture than one at a time, so pictures go one by one; each is then also
independent of its neighbours.

Shape key: H x W picture, N boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models import quality
from models.features import Array, Seen
from models.pictures import smaller
from models.weights import check_file

MOST = 32  # boxes kept of one picture
FLOOR = 0.3  # confidence below which a box is not kept (its confidence still counts as the picture's chance)
ASSET = Path(__file__).parent / "assets" / "person_ssdlite_mobilenetv2.onnx"
ASSET_SHA256 = "e43c305235e0a44d7c05325cdd2251d71aea15b2e42e1df21062c8b36036fe7b"
_INPUT, _OUTPUTS = "image_tensor:0", ["detection_boxes:0", "detection_scores:0"]


class PersonDetector:
    """Pictures to `Seen`: boxes of people, best first, and the chance that there is one at all."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session

    @classmethod
    def load(cls, *, device: str = "cpu") -> PersonDetector:
        """The detector in `assets/`, its digest checked. On `cuda` only where this onnxruntime has that provider."""
        check_file(ASSET, ASSET_SHA256)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]
        available = set(onnxruntime.get_available_providers())
        return cls(onnxruntime.InferenceSession(str(ASSET), options, providers=[name for name in wanted if name in available]))

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[Seen]:
        """Blocking; one result per picture (H x W x 3, uint8, RGB, any size)."""
        return [self._detect(image) for image in images]

    def _detect(self, image_HW3: NDArray[np.uint8]) -> Seen:
        small_SS3 = smaller(image_HW3)
        corners_1N4, confidence_1N = self._session.run(_OUTPUTS, {_INPUT: small_SS3[None]})
        corners_N4, confidence_N = np.asarray(corners_1N4)[0], np.asarray(confidence_1N)[0]
        return Seen(
            chances={"person": float(confidence_N.max(initial=0.0))},
            boxes_N5=to_boxes(corners_N4, confidence_N),
            quality_Q=quality.of_picture(image_HW3, small_SS3),
        )


def to_boxes(corners_N4: Array, confidence_N: Array) -> Array:
    """(top, left, bottom, right) and confidences, best first, to rows of `Seen.boxes_N5`, inside the picture and bounded."""
    kept = np.flatnonzero(confidence_N >= FLOOR)[:MOST]
    corners = np.clip(corners_N4[kept][:, [1, 0, 3, 2]], 0.0, 1.0)
    return np.column_stack([corners, confidence_N[kept]]).astype(np.float32)
