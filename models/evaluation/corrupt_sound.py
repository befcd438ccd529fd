"""What is done to a scene's sound: noise at a level, too much gain, lost packets.

Laws:
1. Noise stands at the signal-to-noise ratio asked for, RMS of the scene's whole sound over RMS of the noise. A mix that would clip is
   brought down as a whole, so that this stays. Most of a scene's sound is its events': its quiet moments are noisier than the number.
2. All noise is generated, nobody recorded it: `street` for the benchmark's conditions, `other` for training, whose colours and shapes
   are not the street's.
3. Packets are lost in bursts: the two-state channel of Gilbert (1960) and Elliott (1963), from its stationary state on. What is lost
   is zeros.

Shape key: N samples (16 kHz), P packets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.evaluation.media import RATE
from models.evaluation.scenes import NOISE_DB, PEAK, rms
from models.evaluation.scripts import Script
from models.features import Array

LOWEST_HZ = 30.0
VOICE_HZ, SYLLABLES_HZ, GUSTS_HZ = (200.0, 4000.0), (2.0, 8.0), (0.1, 1.0)
"""The band of `street`'s modulated part and how fast it swells; how fast `other` swells."""
COLOURS = (-1.0, 0.0, 2.0)
"""Blue, white and brown noise: power goes as frequency to minus this. Pink, which is 1, is the street's."""
MAINS_HZ = (50.0, 60.0)
CLIPPED_SHARE = 0.05
PACKET = RATE // 50  # samples, 20 ms
LOST_SHARE, BURST = 0.2, 5.0
"""Of packets; how many packets the channel stays bad for, on average."""
LOST_GOOD, LOST_BAD = 0.02, 0.8
"""Shares lost while the channel is good, and while it is bad."""
_TINY = 1e-12


def noisy(sound_N: Array, noise_N: Array, snr_db: float) -> Array:
    """Both together. Where the sound is silence, so is the noise."""
    level = rms(sound_N) * 10 ** (-snr_db / 20) / max(rms(noise_N), _TINY)
    return louder(sound_N + noise_N * np.float32(level), 0.0)


def louder(sound_N: Array, gain_db: float) -> Array:
    """With so much gain, or with as much as leaves it unclipped."""
    peak = float(np.abs(sound_N).max(initial=0.0))
    return sound_N * np.float32(min(10 ** (gain_db / 20), PEAK / max(peak, _TINY)))


def street(rng: np.random.Generator, count: int) -> Array:
    """Pink noise, and as loud as that, noise in the voice's band that swells as syllables do: traffic and a murmur."""
    murmur_N = coloured(rng, count, 0.0, VOICE_HZ) * swell(rng, count, SYLLABLES_HZ)
    return coloured(rng, count, 1.0) + murmur_N / np.float32(max(rms(murmur_N), _TINY))


def other(rng: np.random.Generator, count: int) -> Array:
    """White, blue or brown noise; steady, in gusts, or over the hum of a power line."""
    noise_N = coloured(rng, count, COLOURS[int(rng.integers(len(COLOURS)))])
    shape = rng.integers(3)
    if shape == 0:
        return noise_N
    if shape == 1:
        return noise_N * swell(rng, count, GUSTS_HZ)
    turns_N = MAINS_HZ[int(rng.integers(2))] * np.arange(count) / RATE
    hum_N = sum(np.sin(2 * np.pi * harmonic * turns_N + rng.uniform(0, 2 * np.pi)) / harmonic for harmonic in range(1, 8))
    return noise_N + np.asarray(hum_N, np.float32)


def coloured(rng: np.random.Generator, count: int, slope: float, band: tuple[float, float] = (LOWEST_HZ, RATE / 2)) -> Array:
    """Noise whose power goes as frequency to minus `slope` within the band, in Hz, and is nothing outside; RMS 1, or 0 of an empty band."""
    frequency = np.fft.rfftfreq(count, 1 / RATE)
    inside = (frequency >= band[0]) & (frequency <= band[1])
    gain = np.where(inside, np.maximum(frequency, _TINY) ** (-slope / 2), 0.0)
    shaped_N: Array = np.fft.irfft(np.fft.rfft(rng.standard_normal(count)) * gain, count).astype(np.float32)
    return shaped_N / np.float32(max(rms(shaped_N), _TINY))


def swell(rng: np.random.Generator, count: int, band: tuple[float, float]) -> Array:
    """An envelope, above 0, that rises and falls at these rates."""
    return np.float32(0.1) + np.abs(coloured(rng, count, 0.0, band))


def clipped(sound_N: Array, share: float = CLIPPED_SHARE) -> Array:
    """So much gain that this share of the samples reaches full scale. Digital silence stays what it is."""
    level = float(np.quantile(np.abs(sound_N), 1 - share)) if len(sound_N) else 0.0
    return amplified(sound_N, -20 * float(np.log10(max(level, _TINY))))


def amplified(sound_N: Array, gain_db: float) -> Array:
    """With so much gain, cut off at full scale."""
    return np.asarray(np.clip(sound_N * np.float32(10 ** (gain_db / 20)), -1, 1), np.float32)


def lossy(rng: np.random.Generator, sound_N: Array, share: float = LOST_SHARE) -> Array:
    """Without this share of its packets, on average; ValueError where no channel of this kind loses so much."""
    lost_P = lost(rng, -(-len(sound_N) // PACKET), share)
    return np.where(np.repeat(lost_P, PACKET)[: len(sound_N)], np.float32(0), sound_N)


def lost(rng: np.random.Generator, packets: int, share: float) -> NDArray[np.bool_]:
    """Which packets. The bad state lasts `BURST` packets on average, the good one as long as the share asks for."""
    bad_share = (share - LOST_GOOD) / (LOST_BAD - LOST_GOOD)
    if not 0 < bad_share < BURST / (1 + BURST):
        raise ValueError(f"share={share} must lie between {LOST_GOOD} and {(LOST_GOOD + BURST * LOST_BAD) / (1 + BURST):.2f}")
    recovers, worsens = 1 / BURST, bad_share / (1 - bad_share) / BURST
    change_P, drop_P = rng.random(packets), rng.random(packets)
    bad_P = np.zeros(packets, np.bool_)
    bad = bool(rng.random() < bad_share)
    for at in range(packets):
        bad_P[at] = bad
        bad = bool(change_P[at] >= recovers) if bad else bool(change_P[at] < worsens)
    return drop_P < np.where(bad_P, LOST_BAD, LOST_GOOD)


def moved(rng: np.random.Generator, sound_N: Array, seconds: float, script: Script) -> Array:
    """Later by so many seconds, earlier where below 0. The microphone's own noise stands where nothing is left."""
    by = int(np.clip(round(seconds * RATE), -len(sound_N), len(sound_N)))
    level = 10 ** ((script.level_db + NOISE_DB) / 20)
    shifted_N: Array = rng.standard_normal(len(sound_N), dtype=np.float32) * np.float32(level)
    if by >= 0:
        shifted_N[by:] = sound_N[: len(sound_N) - by]
    else:
        shifted_N[:by] = sound_N[-by:]
    return shifted_N
