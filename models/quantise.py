"""The person detector in 8 bits: `python -m models.quantise` makes the file that runs live of the one that was published.

The published file was exported with two loops over the pictures of a batch: one resizes them, one suppresses boxes. They take some 7 %
of its time, for pictures that come one by one in the right size. So what lies between the loops is kept, and the same suppression once;
results are the same to the bit (unless the surest box of all lies wholly outside the picture and hid others).

What is left is quantised after training (Jacob et al., arXiv:1712.05877): weights of 7 bits by channel, so that sums of products do not
saturate on processors without VNNI; activations of 8 bits, their ranges those of training pictures, whole and in crops, so that people
come in all sizes. The first convolutions, of few channels, and those that say box and confidence stay float: there 8 bits cost most.

Shape key: H x W picture, S side of a square, N boxes of all anchors, K of them kept.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from models import recordings
from models.persons import ASSET, ASSET_SHA256, CANDIDATES, FLOOR, INPUT, OUTPUTS, OVERLAP, SOURCE, SOURCE_SHA256, PersonDetector, inside
from models.pictures import SIDE, smaller
from models.recordings import Modality, Split
from models.weights import check_file

FLOAT = 11  # convolutions from the beginning that stay float
PREDICTORS = "BoxPredictor"  # so the names of those begin that say box and confidence
EVERY = 20  # frames of a video from one picture to the next
CROPS = (2, 4)  # of each picture also a half and a quarter of its sides
_RESIZED = "Preprocessor/map/TensorArrayStack/TensorArrayGatherV3:0"
_CORNERS, _CONFIDENCE, _STANDING = OUTPUTS


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
        helper.make_node("NonMaxSuppression", [_CORNERS, "by class", "most", "overlap", "floor"], [_STANDING]),
    ]
    named = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        model.graph.name,
        [helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [1, SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info(_CORNERS, TensorProto.FLOAT, [1, "N", 4]),
            helper.make_tensor_value_info(_CONFIDENCE, TensorProto.FLOAT, [1, "N", 1]),
            helper.make_tensor_value_info(_STANDING, TensorProto.INT64, ["K", 3]),
        ],
        initializer=[*(each for each in model.graph.initializer if each.name in named), most, overlap, floor],
    )
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _scalar(name: str, value: float) -> TensorProto:
    return helper.make_tensor(name, TensorProto.FLOAT, [1], [value])


def pictures(home: Path | None, *, split: Split = Split.TRAIN) -> Iterator[NDArray[np.uint8]]:
    """Small pictures of one split, with people and without: whole, and crops. Raises PackageError where recordings are missing."""
    rng = np.random.default_rng(0)
    for row in recordings.locate(home, split=split, modality=Modality.FRAMES):
        for whole_HW3 in _frames(row.path):
            yield smaller(whole_HW3)
            for part in CROPS:
                height, width = (side // part for side in whole_HW3.shape[:2])
                top, left = (int(rng.integers(side - kept + 1)) for side, kept in zip(whole_HW3.shape, (height, width), strict=False))
                yield smaller(np.ascontiguousarray(whole_HW3[top : top + height, left : left + width]))


def _frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    """One of EVERY; of a picture the one that there is. One decoder for both: a level more or less changes no range."""
    with av.open(str(path)) as opened:
        for at, frame in enumerate(opened.decode(video=0)):
            if at % EVERY == 0:
                yield np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def quantised(model: onnx.ModelProto, home: Path | None) -> onnx.ModelProto:
    """The network without its loops in 8 bits, ranges by training pictures. Blocking: a minute."""
    with tempfile.TemporaryDirectory() as folder:
        plain, ready, made = (Path(folder) / f"{name}.onnx" for name in ("plain", "ready", "made"))
        onnx.save(model, plain)
        quant_pre_process(plain, ready, skip_symbolic_shape=True)
        names = [node.name for node in onnx.load(ready).graph.node if node.op_type == "Conv"]
        quantize_static(
            ready,
            made,
            _Pictures(pictures(home)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Add", "Clip"],
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[*names[:FLOAT], *(name for name in names if name.startswith(PREDICTORS))],
        )
        return onnx.load(made)


class _Pictures(CalibrationDataReader):
    def __init__(self, small: Iterator[NDArray[np.uint8]]) -> None:
        self._small = small

    def get_next(self) -> dict[str, NDArray[np.uint8]]:
        """As onnxruntime asks for them."""
        small_SS3 = next(self._small, None)
        return {} if small_SS3 is None else {INPUT: small_SS3[None]}


def main() -> None:
    """Makes the file, or tells what it costs and gains."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--home", type=Path, help="the cache with the recordings (default: the usual one)")
    options.add_argument("--compare", action="store_true", help="the file that is there against the published one, as JSON; makes nothing")
    given = options.parse_args()
    published = without_loops(onnx.load(str(check_file(SOURCE, SOURCE_SHA256))))
    if given.compare:
        sys.stdout.write(json.dumps(compared(published, given.home), indent=1) + "\n")
        return
    aside = ASSET.with_suffix(f".{os.getpid()}")
    onnx.save(quantised(published, given.home), aside)
    aside.replace(ASSET)
    sys.stdout.write(f"{ASSET}: write its digest into models/persons.py, train the head again\n")


def compared(published: onnx.ModelProto, home: Path | None) -> dict[str, Any]:
    """How far chances are apart, and the processor time of each (medians), on pictures that had no part in the ranges."""
    networks = {"float": published.SerializeToString(), "8 bits": check_file(ASSET, ASSET_SHA256).read_bytes()}
    sessions = {name: PersonDetector.session(network) for name, network in networks.items()}
    small = [one for split in Split if split is not Split.TRAIN for one in pictures(home, split=split)]
    took: dict[str, list[float]] = {name: [] for name in sessions}
    chance: dict[str, list[float]] = {name: [] for name in sessions}
    for small_SS3 in small:
        for name, session in sessions.items():
            begin = time.process_time()
            corners_1N4, confidence_1N1, _ = map(np.asarray, session.run(OUTPUTS, {INPUT: small_SS3[None]}))
            took[name].append(time.process_time() - begin)
            chance[name].append(float(inside(corners_1N4[0], confidence_1N1[0, :, 0])[:, 4].max()))
    apart_B = np.abs(np.subtract(chance["float"], chance["8 bits"]))
    milliseconds = {name: round(1e3 * float(np.median(seconds)), 2) for name, seconds in took.items()}
    return {
        "pictures": len(small),
        "mean apart": round(float(apart_B.mean()), 4),
        "95th percentile": round(float(np.quantile(apart_B, 0.95)), 4),
        "most": round(float(apart_B.max()), 4),
        "ms": milliseconds,
        "times as fast": round(milliseconds["float"] / milliseconds["8 bits"], 2),
        "onnxruntime": onnxruntime.__version__,
    }


if __name__ == "__main__":
    main()
