"""The picture beside an alert: its best frame, with a box around each person and one line saying what and when."""

from __future__ import annotations

from datetime import UTC, datetime

import cv2
import numpy as np

from streamer.events import SECOND, Alert, Box
from streamer.stages.fuse import Rgb

COLOUR = (255, 64, 32)  # RGB
BAND = 28  # pixels of caption under the picture


def snapshot(alert: Alert, image: Rgb) -> Rgb:
    """The frame with boxes, and a caption below it. The image given is left as it is."""
    height, width = image.shape[:2]
    canvas = np.zeros((height + BAND, width, 3), np.uint8)
    canvas[:height] = image
    for box in alert.evidence.frame.boxes if alert.evidence.frame else ():
        _draw(canvas, box, width, height)
    when = datetime.fromtimestamp(alert.start / SECOND, UTC).strftime("%H:%M:%S")
    note = "" if alert.calibrated else " (uncalibrated)"
    caption = f"{alert.rule}  {alert.severity.value}  score {alert.score:.2f}{note}  {alert.session}  {when} UTC"
    cv2.putText(canvas, caption, (8, height + BAND - 9), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
    return canvas


def _draw(canvas: Rgb, box: Box, width: int, height: int) -> None:
    left, top = round(box.left * width), round(box.top * height)
    right, bottom = round(box.right * width), round(box.bottom * height)
    cv2.rectangle(canvas, (left, top), (right, bottom), COLOUR, 2)
    cv2.putText(canvas, f"{box.confidence:.2f}", (left, max(12, top - 4)), cv2.FONT_HERSHEY_SIMPLEX, 0.45, COLOUR, 1, cv2.LINE_AA)
