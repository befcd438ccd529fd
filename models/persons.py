"""People in pictures: SSDLite on MobileNetV2 (Sandler et al., arXiv:1801.04381), one class, trained on CCTV pedestrians.

The file travels with the source (`assets/`, MIT). It was exported with two loops over the pictures of a batch: one resizes them, one
suppresses boxes. They take some 7 % of its time, for pictures that come one by one in the right size. So what lies between the loops is
run, and the same suppression once; results are the same to the bit (unless the surest box of all lies wholly outside the picture and hid
others). Measured on one CPU thread, batches of eight cost more per picture than one at a time, so pictures go one by one; each is then
also independent of its neighbours.

Shape key: H x W picture, S side of a square, N boxes of all anchors, K of them kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models import quality
from models.features import Array, Seen
from models.pictures import SIDE, smaller
from models.weights import check_file

MOST = 32  # boxes kept of one picture
FLOOR = 0.3  # confidence below which a box is not kept (its confidence still counts as the picture's chance)
ASSET = Path(__file__).parent / "assets" / "person_ssdlite_mobilenetv2.onnx"
ASSET_SHA256 = "e43c305235e0a44d7c05325cdd2251d71aea15b2e42e1df21062c8b36036fe7b"
OVERLAP, CANDIDATES = 0.6, 100  # as in the file: intersection over union above which the less sure box falls, and boxes that stand at most
_RESIZED = "Preprocessor/map/TensorArrayStack/TensorArrayGatherV3:0"
_CORNERS, _CONFIDENCE = "Postprocessor/Reshape_2:0", "Postprocessor/Slice:0"
INPUT, OUTPUTS = "picture", (_CORNERS, _CONFIDENCE, "standing")


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
        network = without_loops(onnx.load(str(ASSET))).SerializeToString()
        return cls(onnxruntime.InferenceSession(network, options, providers=[name for name in wanted if name in available]))

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[Seen]:
        """Blocking; one result per picture (H x W x 3, uint8, RGB, any size)."""
        return [self._detect(image) for image in images]

    def _detect(self, image_HW3: NDArray[np.uint8]) -> Seen:
        small_SS3 = smaller(image_HW3)
        corners_1N4, confidence_1N1, standing_K3 = map(np.asarray, self._session.run(OUTPUTS, {INPUT: small_SS3[None]}))
        boxes_N5 = inside(corners_1N4[0], confidence_1N1[0, :, 0])
        return Seen(
            chances={"person": float(boxes_N5[:, 4].max(initial=0.0))},
            boxes_N5=to_boxes(boxes_N5[standing_K3[:, 2]]),
            quality_Q=quality.of_picture(image_HW3, small_SS3),
        )


def without_loops(model: onnx.ModelProto) -> onnx.ModelProto:
    """From a small picture (1, S, S, 3), uint8, to corners (1, N, 4), confidences (1, N, 1), and which of at least FLOOR stand (K, 3)."""
    source = {name: node for node in model.graph.node for name in node.output}
    needed, wanted = set[str](), [_CORNERS, _CONFIDENCE]
    while wanted:
        name = wanted.pop()
        if name not in needed and name in source and name != _RESIZED:
            needed |= set(source[name].output)
            wanted += source[name].input
    most, overlap = helper.make_tensor("most", TensorProto.INT64, [1], [CANDIDATES]), _scalar("overlap", OVERLAP)
    floor = _scalar("floor", float(np.nextafter(np.float32(FLOOR), np.float32(0))))  # what it is compared with must be greater
    nodes = [
        helper.make_node("Cast", [INPUT], ["whole"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["whole"], [_RESIZED], perm=[0, 3, 1, 2]),
        *(node for node in model.graph.node if needed & set(node.output)),
        helper.make_node("Transpose", [_CONFIDENCE], ["by class"], perm=[0, 2, 1]),
        helper.make_node("NonMaxSuppression", [_CORNERS, "by class", "most", "overlap", "floor"], [OUTPUTS[2]]),
    ]
    named = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        model.graph.name,
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [1, SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info(_CORNERS, TensorProto.FLOAT, [1, "N", 4]),
            helper.make_tensor_value_info(_CONFIDENCE, TensorProto.FLOAT, [1, "N", 1]),
            helper.make_tensor_value_info(OUTPUTS[2], TensorProto.INT64, ["K", 3]),
        ],
        initializer=[*(each for each in model.graph.initializer if each.name in named), most, overlap, floor],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _scalar(name: str, value: float) -> TensorProto:
    return helper.make_tensor(name, TensorProto.FLOAT, [1], [value])


def inside(corners_N4: Array, confidence_N: Array) -> Array:
    """(top, left, bottom, right) and confidences to left, top, right, bottom, confidence; boxes outside the picture have none of it."""
    box_N4 = corners_N4[:, [1, 0, 3, 2]].clip(0.0, 1.0)
    there_N = (box_N4[:, 2:] > box_N4[:, :2]).all(axis=1)
    return np.column_stack([box_N4, confidence_N * there_N]).astype(np.float32)


def to_boxes(boxes_K5: Array) -> Array:
    """Those to keep, best first."""
    return boxes_K5[boxes_K5[:, 4] >= FLOOR][:MOST]
