"""models/evaluation/corrupt_pictures.py, law by law."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from models.evaluation.corrupt_pictures import (
    COVERED,
    LIGHT,
    PHOTONS,
    READING,
    blot,
    cover,
    covered,
    darkened,
    defocused,
    each,
    hanging,
    moved,
    softened,
    strip,
    varied,
)
from models.evaluation.media import HEIGHT, WIDTH, Rgb
from models.quality import PICTURE, of_picture
from tests.models.evaluation.demo import SHOWN, demo

Spoil = Callable[[Sequence[Rgb]], tuple[Rgb, ...]]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def quality(picture: Rgb, feature: str) -> float:
    return float(of_picture(picture)[PICTURE.index(feature)])


def grey(value: int) -> Rgb:
    return np.full((120, 160, 3), value, np.uint8)


SPOIL: dict[str, Spoil] = {
    "dark": lambda pictures: each(pictures, lambda one: darkened(np.random.default_rng(1), one)),
    "out of focus": lambda pictures: each(pictures, defocused),
    "soft": lambda pictures: each(pictures, lambda one: softened(one, 5.0)),
    "covered": lambda pictures: covered(rng(), pictures),
    "varied": lambda pictures: varied(rng(), pictures),
}


@pytest.mark.parametrize("name", SPOIL)
def test_what_was_one_object_is_one_object_and_what_was_two_is_two(name: str) -> None:
    pictures = demo().pictures
    before = [picture.copy() for picture in pictures[7:9]]
    spoilt = SPOIL[name](pictures)
    assert [one is spoilt[0] for one in spoilt] == [one is pictures[0] for one in pictures]
    assert len({id(one) for one in spoilt}) == 2 and not np.array_equal(spoilt[0], spoilt[SHOWN.start])
    assert {(one.shape, one.dtype.name, one.flags.writeable) for one in spoilt} == {((HEIGHT, WIDTH, 3), "uint8", False)}
    assert all(np.array_equal(one, other) for one, other in zip(before, pictures[7:9], strict=True))
    assert all(not np.array_equal(one, other) for one, other in zip(spoilt, pictures, strict=True))


def test_each_picture_is_changed_once_in_the_order_of_appearance() -> None:
    one, other = grey(1), grey(2)
    asked: list[int] = []

    def change(picture: Rgb) -> Rgb:
        asked.append(int(picture[0, 0, 0]))
        return picture.copy()

    assert [int(picture[0, 0, 0]) for picture in each((other, one, other, other, one), change)] == [2, 1, 2, 2, 1]
    assert asked == [2, 1]


@pytest.mark.parametrize("light", [LIGHT, 0.3])
def test_darkness_is_less_light_before_the_gamma(light: float) -> None:
    bright = darkened(rng(), grey(250), light)
    assert bright.mean() == pytest.approx(250 * light ** (1 / 2.2), rel=0.05)
    assert quality(darkened(rng(), demo().pictures[0], light), "brightness") < quality(demo().pictures[0], "brightness") * 0.7


@pytest.mark.parametrize("value", [120, 250])
def test_the_sensors_noise_grows_with_the_light(value: int) -> None:
    linear = (darkened(rng(), grey(value), 0.3) / 255) ** 2.2
    light = 0.3 * (value / 255) ** 2.2
    assert linear.std() == pytest.approx((PHOTONS * light + READING**2) ** 0.5, rel=0.1)


def test_the_dark_of_the_condition_is_seen_by_the_quality_features() -> None:
    before, after = demo().pictures[0], darkened(rng(), demo().pictures[0])
    assert quality(after, "brightness") < 0.12 and quality(before, "brightness") > 0.3
    assert quality(after, "contrast") < quality(before, "contrast") / 3
    assert quality(after, "dark") > quality(before, "dark") + 0.1


def test_out_of_focus_a_point_is_a_disc_and_light_is_kept() -> None:
    point = grey(0)
    point[60, 80] = 255
    disc = defocused(point, 4.0)[:, :, 0] > 0
    y, x = np.nonzero(disc)
    assert np.hypot(y - 60, x - 80).max() <= 5 and disc.sum() == pytest.approx(np.pi * 16, rel=0.3)
    np.testing.assert_array_equal(defocused(grey(77)), grey(77))


@pytest.mark.parametrize("blur", [defocused, lambda one: softened(one, 6.0)])
def test_blur_is_seen_by_the_quality_features(blur: Callable[[Rgb], Rgb]) -> None:
    before, after = demo().pictures[0], blur(demo().pictures[0])
    assert quality(after, "sharpness") < quality(before, "sharpness") / 2
    assert quality(after, "brightness") == pytest.approx(quality(before, "brightness"), abs=0.01)


def test_a_hanging_camera_shows_what_it_last_saw_to_the_end() -> None:
    pictures = tuple(grey(value) for value in range(24))
    seconds = set()
    for seed in range(40):
        hung = hanging(rng(seed), pictures)
        at = int(hung[-1][0, 0, 0])
        seconds.add(at / 2)
        assert len(hung) == 24
        assert all(one is pictures[min(number, at)] for number, one in enumerate(hung))
    assert seconds == {1.0, 1.5, 2.0, 2.5, 3.0}
    assert len(hanging(rng(), pictures[:1])) == 1 and hanging(rng(), ()) == ()


@pytest.mark.parametrize("paint", [strip, blot])
@pytest.mark.parametrize("share", [0.6, 0.75, 0.9])
def test_a_cover_hides_its_share_and_is_wholly_there_or_not_but_at_its_edge(paint: Callable[..., np.ndarray], share: float) -> None:
    for seed in range(3):
        hidden_HW = cover(paint(rng(seed), (HEIGHT, WIDTH)), share)
        assert (hidden_HW >= 0.5).mean() == pytest.approx(share, abs=0.01)
        assert hidden_HW.min() == 0 and hidden_HW.max() == 1
        assert ((hidden_HW > 0) & (hidden_HW < 1)).mean() < 0.35


def test_the_cover_of_a_scene_is_one_and_it_hides_what_is_behind() -> None:
    pictures = (grey(0), grey(255))
    shares = []
    for seed in range(12):
        black, white = covered(rng(seed), pictures)
        through_HW = (white.astype(int) - black)[:, :, 0] / 255
        shares.append(float((through_HW <= 0.5).mean()))
        assert through_HW.min() < 0.01 and through_HW.max() > 0.99
    assert COVERED[0] - 0.01 <= min(shares) and max(shares) <= COVERED[1] + 0.01 and max(shares) - min(shares) > 0.1
    assert len({black.tobytes() for black in (covered(rng(seed), pictures)[0] for seed in range(4))}) == 4


@pytest.mark.parametrize(("seconds", "first", "last"), [(0.5, 0, 22), (2.0, 0, 19), (-2.0, 4, 0), (-0.5, 1, 0), (60.0, 0, 0)])
def test_moved_pictures_have_the_first_one_where_none_is_left(seconds: float, first: int, last: int) -> None:
    pictures = tuple(grey(value) for value in range(24))
    later = moved(pictures, seconds)
    assert len(later) == 24 and (later[0] is pictures[first]) and (later[-1] is pictures[last])
    by = round(2 * seconds)
    assert all(later[at] is pictures[at - by] for at in range(24) if 0 <= at - by < 24)


def test_training_varies_a_picture_mildly() -> None:
    before = demo().pictures[0]
    found = []
    for seed in range(6):
        after = varied(rng(seed), demo().pictures[:1])[0]
        found.append(float(after.mean()))
        assert quality(after, "brightness") == pytest.approx(quality(before, "brightness"), rel=0.2)
        assert quality(after, "sharpness") > quality(before, "sharpness") * 0.7
    assert len({round(value, 1) for value in found}) > 3
