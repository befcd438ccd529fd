"""The picture beside an alert."""

from __future__ import annotations

import numpy as np

from streamer.events import Evidence
from streamer.snapshot import BAND, COLOUR, snapshot
from tests.builders import an_alert


def test_a_box_is_drawn_around_each_person_and_the_picture_given_stays_as_it_was() -> None:
    image = np.full((100, 200, 3), 7, np.uint8)
    drawn = snapshot(an_alert(), image)
    left, top = 20, 20  # the builder's box: 0.1 of the width, 0.2 of the height
    assert tuple(drawn[60, left]) == COLOUR
    assert tuple(drawn[top, 40]) == COLOUR
    assert tuple(drawn[50, 40]) == (7, 7, 7)
    assert np.array_equal(image, np.full((100, 200, 3), 7, np.uint8))


def test_the_caption_stands_below_the_picture_and_says_that_scores_are_uncalibrated() -> None:
    image = np.full((100, 600, 3), 7, np.uint8)
    drawn, calibrated = snapshot(an_alert(), image), snapshot(an_alert(calibrated=True), image)
    assert drawn.shape == (100 + BAND, 600, 3)
    assert drawn[100:].any()
    assert not np.array_equal(drawn[100:], calibrated[100:])


def test_an_alert_without_a_frame_gets_no_box() -> None:
    image = np.full((100, 200, 3), 7, np.uint8)
    assert np.array_equal(snapshot(an_alert(evidence=Evidence()), image)[:100], image)
