"""Laws of models/small/sound.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.classes import CLASSES
from models.features import SoundEncoder
from models.quality import SOUND
from models.small.sound import NETWORKS, SmallSounds, SoundNetwork
from models.yamnet import PATCH_SAMPLES, SAMPLE_RATE, patch_starts
from tests.models.small.builders import network, noise, tone


def encoder(architecture: str = "sound-cnn") -> SmallSounds:
    made, about = network(architecture)
    return SmallSounds(made, about.classes)


def test_log_mel_scaled_equals_a_slow_obvious_one() -> None:
    made, _ = network("sound-cnn")
    assert isinstance(made, SoundNetwork)
    sound_S = noise(1, 2)[:PATCH_SAMPLES]
    with torch.inference_mode():
        found_FB = made.standard(made.log_mel.forward(made.prepare([sound_S])))[0].numpy()
    window_N = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frame_FN = np.stack([sound_S[at * 160 : at * 160 + 400] * window_N for at in range(96)])
    mel_FB = np.log(np.abs(np.fft.rfft(frame_FN, 512)) @ made.log_mel.mel.mel_scale.fb.numpy() + 0.001)
    slow_FB = (mel_FB - made.standard.mean_D.numpy()) / made.standard.scale_D.numpy()
    assert found_FB.shape == (96, 64)
    assert np.abs(found_FB - slow_FB).max() < 2e-3


def test_scaling_is_fitted_band_by_band() -> None:
    made, _ = network("sound-cnn")
    assert isinstance(made, SoundNetwork)
    sound_PS = made.prepare([noise(1, at)[:PATCH_SAMPLES] for at in range(8)])
    made.fit(sound_PS)
    mel_PFB = made.standard(made.log_mel(sound_PS))
    assert torch.allclose(mel_PFB.mean((0, 1)), torch.zeros(64), atol=1e-3)
    assert torch.allclose(mel_PFB.std((0, 1), correction=0), torch.ones(64), atol=1e-3)


@pytest.mark.parametrize("architecture", NETWORKS)
def test_a_chunk_depends_on_its_own_samples_alone(architecture: str) -> None:
    made = encoder(architecture)
    alone = made([noise(1.3, 3)])[0]
    crowd = made([tone(440, 3), noise(1.3, 3), noise(0.2, 4), *(noise(2, at) for at in range(20))])[1]
    np.testing.assert_allclose(alone.posteriors_PL, crowd.posteriors_PL, atol=1e-5)
    np.testing.assert_allclose(alone.embeddings_PD, crowd.embeddings_PD, atol=1e-4)
    np.testing.assert_array_equal(alone.quality_PQ, crowd.quality_PQ)


@pytest.mark.parametrize("architecture", NETWORKS)
def test_patches_are_yamnets_and_each_has_its_features(architecture: str) -> None:
    made: SoundEncoder = encoder(architecture)
    (heard,) = made([noise(2, 5)])
    assert [(one.start_s, one.end_s) for one in heard.patches] == [(0.0, 0.975), (0.48, 1.455), (0.96, 1.935)]
    assert len(heard.patches) == len(patch_starts(2 * SAMPLE_RATE))
    assert heard.posteriors_PL.shape == (3, 6) and heard.embeddings_PD.shape == (3, 64) and heard.quality_PQ.shape == (3, len(SOUND))
    assert {each.dtype for each in (heard.posteriors_PL, heard.embeddings_PD, heard.quality_PQ)} == {np.dtype(np.float32)}
    for patch, posterior_L in zip(heard.patches, heard.posteriors_PL, strict=True):
        assert set(patch.chances) < set(CLASSES)
        assert list(patch.chances.values()) == pytest.approx(posterior_L.tolist())
        assert [chance for _, chance in patch.labels] == sorted((one for one in patch.chances.values() if one >= 0.05), reverse=True)


def test_a_chunk_of_several_patches_says_of_each_what_it_says_of_it_alone() -> None:
    made, sound_N = encoder(), noise(2, 6)
    (heard,) = made([sound_N])
    alone = [made([sound_N[start : start + PATCH_SAMPLES]])[0] for start in patch_starts(len(sound_N))]
    np.testing.assert_allclose(heard.embeddings_PD, np.concatenate([one.embeddings_PD for one in alone]), atol=1e-4)


@pytest.mark.parametrize("sound", [np.zeros(0, np.float32), np.zeros(10, np.float32), np.full(SAMPLE_RATE, np.nan, np.float32)])
@pytest.mark.parametrize("architecture", NETWORKS)
def test_odd_chunks_are_heard_as_silence(architecture: str, sound: np.ndarray) -> None:
    made = encoder(architecture)
    heard, silence = made([sound, np.zeros(SAMPLE_RATE, np.float32)])
    assert len(heard.patches) == 1
    np.testing.assert_allclose(heard.posteriors_PL, silence.posteriors_PL, atol=1e-5)
    assert np.isfinite(heard.quality_PQ).all()


def test_loud_and_infinite_samples_give_numbers() -> None:
    loud = np.where(np.arange(SAMPLE_RATE) % 100 == 0, np.inf, 1e6).astype(np.float32)
    assert np.isfinite(encoder()([loud])[0].posteriors_PL).all()


def test_no_chunks_give_no_features_and_two_channels_are_refused() -> None:
    made = encoder()
    assert made([]) == []
    with pytest.raises(ValueError, match=r"shape \(2, 16000\)"):
        made([np.zeros((2, SAMPLE_RATE), np.float32)])
