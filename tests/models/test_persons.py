"""The person detector on real frames, and its boxes."""

from __future__ import annotations

import numpy as np
import pytest

from models.packages import PackageError
from models.persons import ASSET, MOST, PersonDetector, to_boxes
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
    boxes = to_boxes(corners, np.linspace(1, 0, 100, dtype=np.float32))
    assert boxes.shape == (MOST, 5)
    np.testing.assert_allclose(boxes[0], [0.1, 0, 1, 0.5, 1])
    assert (np.diff(boxes[:, 4]) <= 0).all()


def test_an_altered_file_is_refused() -> None:
    with pytest.raises(PackageError, match="missing or altered"):
        check_file(ASSET, "0" * 64)
