"""The detector in torch is the published one: its network, its boxes, its suppression. Laws of models/persons_torch.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models.features import Array, Seen
from models.persons import ASSET, CANDIDATES, FLOOR, INPUT, OUTPUTS, OVERLAP, SOURCE, PersonDetector
from models.persons_torch import TorchPersonDetector, standing
from models.pictures import smaller
from models.profiles import Encoders
from models.quantise import without_loops
from models.ssdlite import SSDLite

Pictures = list[NDArray[np.uint8]]


@pytest.fixture(scope="module")
def published() -> onnxruntime.InferenceSession:
    """The published file in onnxruntime, without its loops."""
    return onnxruntime.InferenceSession(without_loops(onnx.load(str(SOURCE))).SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def detector() -> TorchPersonDetector:
    return TorchPersonDetector.load(device="cpu")


@torch.inference_mode()
def test_the_network_says_what_onnxruntime_says(published: onnxruntime.InferenceSession, pictures: Pictures) -> None:
    network = SSDLite.load(SOURCE)
    for image in pictures:
        small_1SS3 = smaller(image)[None]
        wanted_1N4, wanted_1N1, _ = map(np.asarray, published.run(OUTPUTS, {INPUT: small_1SS3}))
        corners_1N4, confidence_1N = network.detect(torch.from_numpy(small_1SS3))
        np.testing.assert_allclose(corners_1N4.numpy(), wanted_1N4, rtol=0, atol=1e-5)
        np.testing.assert_allclose(confidence_1N.numpy(), wanted_1N1[..., 0], rtol=0, atol=1e-5)


def assert_same(found: list[Seen], wanted: list[Seen], within: float) -> int:
    """How many boxes they have, all of them alike."""
    for one, other in zip(found, wanted, strict=True):
        assert one.chances["person"] == pytest.approx(other.chances["person"], abs=within)
        np.testing.assert_allclose(one.boxes_N5, other.boxes_N5, rtol=0, atol=within)
        np.testing.assert_array_equal(one.quality_Q, other.quality_Q)
    return sum(len(one.boxes_N5) for one in found)


def test_law_2_the_detector_sees_what_onnxruntime_sees(
    detector: TorchPersonDetector, published: onnxruntime.InferenceSession, pictures: Pictures
) -> None:
    assert assert_same(detector(pictures), PersonDetector(published)(pictures), 1e-5) > 10


def test_law_1_a_batch_gives_what_each_picture_gives_alone(detector: TorchPersonDetector, pictures: Pictures) -> None:
    alone = [seen for image in pictures for seen in detector([image])]
    few = TorchPersonDetector.load(device="cpu", sizes=(1, 4))  # 19 pictures: four times four, then three and a black one
    assert assert_same(detector(pictures), alone, 1e-5) == assert_same(few(pictures), alone, 1e-5) > 10
    assert assert_same(few(pictures[::-1]), alone[::-1], 1e-5) > 10
    assert detector([]) == []


def test_law_3_the_network_sees_batches_of_few_sizes(detector: TorchPersonDetector, pictures: Pictures) -> None:
    network, sizes = SSDLite(), set[int]()
    network.early.register_forward_pre_hook(lambda _, given: sizes.add(len(given[0])))
    small = TorchPersonDetector(network, device="cpu", sizes=(1, 3))
    for count in (1, 2, 3, 4, 5):
        assert len(small([pictures[-1]] * count)) == count
    assert sizes == {1, 3}


def onnx_standing(corners_N4: Array, confidence_N: Array) -> list[int]:
    """By ONNX's operator, as in the graph without loops."""
    constants = [
        helper.make_tensor("most", TensorProto.INT64, [1], [CANDIDATES]),
        helper.make_tensor("overlap", TensorProto.FLOAT, [1], [OVERLAP]),
        helper.make_tensor("floor", TensorProto.FLOAT, [1], [float(np.nextafter(np.float32(FLOOR), np.float32(0)))]),
    ]
    graph = helper.make_graph(
        [helper.make_node("NonMaxSuppression", ["corners", "confidence", "most", "overlap", "floor"], ["standing"])],
        "suppression",
        [
            helper.make_tensor_value_info("corners", TensorProto.FLOAT, [1, "N", 4]),
            helper.make_tensor_value_info("confidence", TensorProto.FLOAT, [1, 1, "N"]),
        ],
        [helper.make_tensor_value_info("standing", TensorProto.INT64, ["K", 3])],
        initializer=constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found_K3,) = session.run(None, {"corners": corners_N4[None], "confidence": confidence_N[None, None]})
    return [int(at) for at in np.asarray(found_K3)[:, 2]]


@pytest.mark.parametrize("boxes", [0, 1, 30, 300, 1_917])
@pytest.mark.parametrize("spread", [0.02, 0.2, 2.0])
def test_boxes_fall_as_in_the_file_where_they_overlap(boxes: int, spread: float) -> None:
    rng = np.random.default_rng(boxes)
    middle_N2, size_N2 = rng.random((boxes, 2)) * spread, (rng.random((boxes, 2)) * 0.4 - 0.02).clip(0.0)  # some are empty
    corners_N4 = np.hstack([middle_N2 - size_N2 / 2, middle_N2 + size_N2 / 2]).astype(np.float32)
    confidence_N = rng.random(boxes).round(2).astype(np.float32)  # many are equally sure, some at FLOOR
    kept = standing(corners_N4, confidence_N).tolist()
    assert kept == onnx_standing(corners_N4, confidence_N)
    assert len(kept) <= CANDIDATES
    assert boxes < 300 or len(kept) < (confidence_N >= FLOOR).sum()


def test_of_two_boxes_the_less_sure_falls_above_the_published_overlap() -> None:
    surer, near, far = [0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.61], [0.0, 0.0, 1.0, 0.59]
    confidence = np.array([0.8, 0.9], np.float32)
    assert standing(np.array([near, surer], np.float32), confidence).tolist() == [1]
    assert standing(np.array([far, surer], np.float32), confidence).tolist() == [1, 0]


def test_a_file_of_another_network_is_refused() -> None:
    with pytest.raises(ValueError, match="got weights of shape"):
        SSDLite.load(ASSET)


def test_people_are_found_in_8_bits_on_a_cpu_and_in_torch_elsewhere(home: Path) -> None:
    assert isinstance(Encoders.bundled(home, device="cpu").images, PersonDetector)
    assert isinstance(Encoders.bundled(home, device="cpu:0").images, TorchPersonDetector)
