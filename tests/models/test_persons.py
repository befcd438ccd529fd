"""The person detector on real frames, and its boxes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from models.features import Array
from models.packages import PackageError
from models.persons import ASSET, FLOOR, MOST, SOURCE, SOURCE_SHA256, PersonDetector, inside, to_boxes
from models.pictures import smaller
from models.quantise import FLOAT, PREDICTORS, without_loops
from models.weights import check_file


@pytest.fixture(scope="module")
def detector() -> PersonDetector:
    return PersonDetector.load()


@pytest.mark.parametrize("shape", [(576, 768, 3), (90, 1, 3), (300, 300, 3), (1_080, 1_920, 3)])
def test_noise_of_any_size_holds_no_person(detector: PersonDetector, shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    (seen,) = detector([image])
    assert seen.chances["person"] < 0.3
    assert seen.boxes_N5.shape == (0, 5)


def test_boxes_are_bounded_in_number_and_lie_inside_the_picture() -> None:
    corners = np.tile(np.array([-0.2, 0.1, 0.5, 1.3], np.float32), (100, 1))
    boxes = to_boxes(inside(corners, np.linspace(1, 0, 100, dtype=np.float32)))
    assert boxes.shape == (MOST, 5)
    np.testing.assert_allclose(boxes[0], [0.1, 0, 1, 0.5, 1])
    assert (np.diff(boxes[:, 4]) <= 0).all()


def test_a_box_outside_the_picture_is_nobody() -> None:
    corners = np.array([[0.1, 1.2, 0.4, 1.5], [0.1, 0.2, 0.4, 0.5]], np.float32)
    np.testing.assert_allclose(inside(corners, np.array([0.9, 0.8], np.float32))[:, 4], [0.0, 0.8])


def test_an_altered_file_is_refused() -> None:
    with pytest.raises(PackageError, match="missing or altered"):
        check_file(ASSET, "0" * 64)


Detect = Callable[[NDArray[np.uint8]], tuple[float, Array]]
"""A picture to the chance that it shows somebody, and left, top, right, bottom, confidence of its boxes."""


def as_published() -> Detect:
    """The published file's own graph, with its loops."""
    session = onnxruntime.InferenceSession(str(check_file(SOURCE, SOURCE_SHA256)), providers=["CPUExecutionProvider"])

    def detect(image_HW3: NDArray[np.uint8]) -> tuple[float, Array]:
        (corners_N4,), (confidence_N,) = session.run(
            ["detection_boxes:0", "detection_scores:0"], {"image_tensor:0": smaller(image_HW3)[None]}
        )
        kept = np.flatnonzero(confidence_N >= FLOOR)[:MOST]
        boxes = np.column_stack([corners_N4[kept][:, [1, 0, 3, 2]].clip(0.0, 1.0), confidence_N[kept]])
        return float(confidence_N.max()), boxes.astype(np.float32)

    return detect


def test_without_its_loops_the_network_says_the_same_to_the_bit(pictures: list[NDArray[np.uint8]]) -> None:
    network = without_loops(onnx.load(str(SOURCE))).SerializeToString()
    detector = PersonDetector(onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"]))
    wanted, people = as_published(), 0
    for image in pictures:
        (seen,), (chance, boxes) = detector([image]), wanted(image)
        assert seen.chances["person"] == chance
        np.testing.assert_array_equal(seen.boxes_N5, boxes)
        people += len(boxes)
    assert people > 10


def test_of_several_pictures_each_is_seen_as_it_is_alone(detector: PersonDetector, pictures: list[NDArray[np.uint8]]) -> None:
    together = detector(pictures)
    assert len(together) == len(pictures) > 1
    for seen, image in zip(together, pictures, strict=True):
        (alone,) = detector([image])
        assert seen.chances == alone.chances
        np.testing.assert_array_equal(seen.boxes_N5, alone.boxes_N5)
        np.testing.assert_array_equal(seen.quality_Q, alone.quality_Q)
    assert len({seen.chances["person"] for seen in together}) > 1
    assert detector([]) == []


def test_in_8_bits_it_sees_the_same_people(detector: PersonDetector, pictures: list[NDArray[np.uint8]]) -> None:
    wanted = as_published()
    apart, boxes_apart = [], []
    for image in pictures:
        (seen,), (chance, boxes) = detector([image]), wanted(image)
        apart.append(abs(seen.chances["person"] - chance))
        surest = boxes[boxes[:, 4] >= 0.6]
        boxes_apart += [float(np.abs(seen.boxes_N5[:, :4] - box[:4]).max(axis=1).min(initial=1.0)) for box in surest]
    assert max(apart) < 0.15
    assert float(np.mean(apart)) < 0.02
    assert len(boxes_apart) > 5
    assert max(boxes_apart) < 0.1


def test_what_costs_most_in_8_bits_is_left_in_floats() -> None:
    graph = onnx.load(str(ASSET)).graph
    dequantised = {node.output[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    floats = [node for node in convolutions if node.input[1] not in dequantised]  # by their weights
    heads = [node for node in convolutions if node.name.startswith(PREDICTORS)]
    assert floats == [*convolutions[:FLOAT], *heads]
    assert len(convolutions) - len(floats) > 30
