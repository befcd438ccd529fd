"""Pictures made small, fast: what the person detector and the quality of a picture look at.

The detector was trained on pictures resized bilinearly, whatever their proportions. Bilinear alone leaves pixels out where a picture is
more than twice as large, so halves are taken first, as often as both sides allow (of 1920 x 1080 it still leaves out every third column).
OpenCV's INTER_AREA leaves none out, and takes 6 to 10 times as long: as much as a seventh of the detector itself.

Shape key: H x W picture, S side of a square.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIDE = 300  # pixels


def smaller(image_HW3: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """SIDE x SIDE, proportions not kept: means of 2 x 2 pixels as long as neither side falls below SIDE, then bilinear."""
    import cv2  # here, so that sound and words are measured where there is no OpenCV

    while min(image_HW3.shape[:2]) >= 2 * SIDE:
        height, width = image_HW3.shape[0] // 2, image_HW3.shape[1] // 2
        image_HW3 = np.asarray(cv2.resize(image_HW3[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(image_HW3, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR), np.uint8)
