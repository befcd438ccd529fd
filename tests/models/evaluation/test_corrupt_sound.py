"""models/evaluation/corrupt_sound.py, law by law."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from models.evaluation.corrupt_sound import (
    BURST,
    CLIPPED_SHARE,
    LOST_SHARE,
    PACKET,
    clipped,
    coloured,
    lossy,
    lost,
    louder,
    moved,
    noisy,
    other,
    street,
)
from models.evaluation.media import RATE
from models.evaluation.scenes import NOISE_DB, PEAK, rms
from models.features import Array
from models.quality import SOUND, of_sound
from tests.models.evaluation.builders import script
from tests.models.evaluation.demo import demo


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def measured_db(sound_N: Array, total_N: Array) -> float:
    """The signal-to-noise ratio of a mix whose gain is unknown: the sound's part is what of the mix is like it."""
    sound, total = sound_N.astype(np.float64), total_N.astype(np.float64)
    gain = (sound @ total) / (sound @ sound)
    return float(20 * np.log10(gain * rms(sound_N) / np.sqrt(np.mean((total - gain * sound) ** 2))))


@pytest.mark.parametrize("make", [street, other])
@pytest.mark.parametrize("level", [0.01, 3.0])
@pytest.mark.parametrize("snr_db", [20.0, 10.0, 5.0, 0.0, -5.0])
def test_noise_stands_at_its_ratio_and_the_mix_never_clips(make: object, level: float, snr_db: float) -> None:
    sound_N = demo().sound_N * np.float32(level)
    total_N = noisy(sound_N, make(rng(round(snr_db + 5)), len(sound_N)), snr_db)  # type: ignore[operator]
    assert measured_db(sound_N, total_N) == pytest.approx(snr_db, abs=0.5)
    assert np.abs(total_N).max() <= PEAK + 1e-6 and total_N.dtype == np.float32


def slope(noise_N: Array, low: float, high: float) -> float:
    """Power goes as frequency to minus this."""
    power = np.abs(np.fft.rfft(noise_N)) ** 2
    frequency = np.fft.rfftfreq(len(noise_N), 1 / RATE)
    edges = np.geomspace(low, high, 20)
    bands = [power[(frequency >= a) & (frequency < b)].mean() for a, b in pairwise(edges)]
    return -float(np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(bands), 1)[0])


@pytest.mark.parametrize("colour", [-1.0, 0.0, 1.0, 2.0])
def test_coloured_noise_has_its_colour_and_its_level(colour: float) -> None:
    noise_N = coloured(rng(), 12 * RATE, colour)
    assert slope(noise_N, 50, 7000) == pytest.approx(colour, abs=0.1)
    assert rms(noise_N) == pytest.approx(1, abs=1e-3)


def swelling(noise_N: Array) -> float:
    """How much the level of 25 ms pieces varies, over itself."""
    levels = np.sqrt(np.mean(noise_N.reshape(-1, RATE // 40) ** 2, axis=1))
    return float(levels.std() / levels.mean())


def test_the_streets_murmur_swells_and_is_half_of_it() -> None:
    pink_N = coloured(rng(), 12 * RATE, 1.0)
    street_N = street(rng(), 12 * RATE)
    assert rms(street_N) == pytest.approx(np.sqrt(2), rel=0.05)
    assert swelling(street_N) > 1.5 * swelling(pink_N)


def test_clipping_brings_its_share_to_full_scale() -> None:
    sound_N = demo().sound_N
    spoilt_N = clipped(sound_N)
    assert float((np.abs(spoilt_N) >= 1).mean()) == pytest.approx(CLIPPED_SHARE, abs=1e-3)
    at = SOUND.index("clipped")
    assert of_sound(sound_N)[at] == 0 and of_sound(spoilt_N)[at] == pytest.approx(CLIPPED_SHARE, abs=2e-3)
    assert of_sound(spoilt_N)[SOUND.index("crest")] < of_sound(sound_N)[SOUND.index("crest")] - 0.1
    quiet_N = np.zeros(100, np.float32)
    assert (clipped(quiet_N) == 0).all() and len(clipped(quiet_N[:0])) == 0


@pytest.mark.parametrize("share", [0.05, LOST_SHARE, 0.3])
def test_packets_are_lost_at_their_share_and_in_bursts(share: float) -> None:
    lost_SP = np.stack([lost(rng(seed), 600, share) for seed in range(150)])
    assert lost_SP.mean() == pytest.approx(share, rel=0.08)
    after_a_loss = lost_SP[:, 1:][lost_SP[:, :-1]].mean()
    assert after_a_loss > share + 0.3, "alone they would be lost with the share's own chance"
    assert lost_SP[:, 0].mean() == pytest.approx(share, abs=0.1), "the channel begins in its stationary state"


def test_what_is_lost_is_whole_packets_of_zeros_and_the_rest_as_it_was() -> None:
    sound_N = demo().sound_N[: 100 * PACKET + 7]
    spoilt_N = lossy(rng(1), sound_N)
    gone_P = lost(rng(1), 101, LOST_SHARE)
    assert 0 < gone_P.sum() < 101
    for at, gone in enumerate(gone_P):
        piece = slice(at * PACKET, (at + 1) * PACKET)
        np.testing.assert_array_equal(spoilt_N[piece], 0 if gone else sound_N[piece])
    assert of_sound(spoilt_N)[SOUND.index("silent")] == pytest.approx(gone_P.mean(), abs=0.02)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.68, 1.0])
def test_a_loss_that_the_channel_cannot_have_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"between 0\.02 and 0\.67"):
        lost(rng(), 10, share)
    assert lost(rng(), 40_000, 0.66).mean() == pytest.approx(0.66, abs=0.03) and BURST > 1


def test_more_gain_stops_before_it_clips() -> None:
    sound_N = demo().sound_N
    assert rms(louder(sound_N, -6.0)) == pytest.approx(rms(sound_N) * 10 ** (-6 / 20), rel=1e-4)
    assert np.abs(louder(sound_N, 60.0)).max() == pytest.approx(PEAK, abs=1e-4)


@pytest.mark.parametrize("seconds", [0.5, 2.0, -0.5, -2.0, 12.0, -30.0])
def test_a_moved_sound_leaves_a_faint_noise_behind(seconds: float) -> None:
    sound_N, by = demo().sound_N, round(seconds * RATE)
    later_N = moved(rng(), sound_N, seconds, script())
    assert later_N.shape == sound_N.shape and later_N.dtype == np.float32
    kept = slice(max(by, 0), len(sound_N) + min(by, 0))
    if abs(by) < len(sound_N):
        np.testing.assert_array_equal(later_N[kept], sound_N[max(-by, 0) : len(sound_N) - max(by, 0)])
    filled_N = later_N[:by] if by > 0 else later_N[by:]
    assert 20 * np.log10(rms(filled_N)) == pytest.approx(script().level_db + NOISE_DB, abs=0.3)
