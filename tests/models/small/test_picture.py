"""Laws of models/small/picture.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.features import ImageEncoder
from models.quality import of_picture
from models.small.picture import NETWORKS, PictureNetwork, SmallPictures
from tests.models.small.builders import network, picture


def encoder(architecture: str = "picture-cnn") -> SmallPictures:
    made, about = network(architecture)
    return SmallPictures(made, about.classes)


@pytest.mark.parametrize("architecture", NETWORKS)
def test_a_picture_is_seen_without_boxes_and_its_neighbours_change_nothing(architecture: str) -> None:
    made: ImageEncoder = encoder(architecture)
    (alone,) = made([picture(1, bar=True)])
    seen = made([picture(at, bar=at % 2 == 1) for at in range(40)])[1]
    assert alone.boxes_N5.shape == (0, 5) and alone.boxes_N5.dtype == np.float32
    assert set(alone.chances) == {"person"}
    assert alone.chances["person"] == pytest.approx(seen.chances["person"], abs=1e-5)
    np.testing.assert_array_equal(alone.quality_Q, of_picture(picture(1, bar=True)))


def test_scaling_is_inside_and_fitted_colour_by_colour() -> None:
    made, _ = network("picture-cnn")
    assert isinstance(made, PictureNetwork)
    inputs = made.prepare([picture(at, bar=True) for at in range(6)])
    made.fit(inputs)
    found = made.standard(inputs / 255)
    assert torch.allclose(found.mean((0, 1, 2)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(found.std((0, 1, 2), correction=0), torch.ones(3), atol=1e-4)


@pytest.mark.parametrize("architecture", NETWORKS)
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (481, 7), (96, 128)])
def test_any_size_will_do(architecture: str, size: tuple[int, int]) -> None:
    (seen,) = encoder(architecture)([picture(3, *size)])
    assert 0 < seen.chances["person"] < 1 and np.isfinite(seen.quality_Q).all()


def test_black_and_read_only_pictures_are_fine_and_no_pictures_give_nothing() -> None:
    black = np.zeros((40, 30, 3), np.uint8)
    black.setflags(write=False)
    assert np.isfinite(encoder()([black])[0].chances["person"])
    assert encoder()([]) == []


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 3), np.float32)]
)
def test_what_is_no_picture_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be height x width x 3, uint8"):
        encoder()([picture(1), image])
