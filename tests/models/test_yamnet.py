"""YAMNet in torch equals the original graph; patches as the design says."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import weights
from models.audioset import TABLE, SoundClasses
from models.yamnet import LABELS, PATCH_HOP, PATCH_SAMPLES, SAMPLE_RATE, TAIL, Yamnet, YamnetEncoder, patch_starts

QUANTIZE = {"QuantizeLinear", "DequantizeLinear"}


@pytest.fixture(scope="module")
def folder(home: Path) -> Path:
    return weights.locate(home, "yamnet")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> YamnetEncoder:
    return YamnetEncoder.load(folder)


def noise(seconds: float, seed: int = 0, gain: float = 0.1) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=round(seconds * SAMPLE_RATE)) * gain).astype(np.float32)


def tone(hertz: float, seconds: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)).astype(np.float32)


def without_quantisation(path: Path) -> tuple[onnxruntime.InferenceSession, str]:
    """The original graph, each Quantize/Dequantize pair cut out, in onnxruntime."""
    model = onnx.load(str(path))
    source = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type in QUANTIZE}
    nodes = [node for node in model.graph.node if node.op_type not in QUANTIZE]
    for node in nodes:
        for at, name in enumerate(node.input):
            while name in source:
                name = source[name]
            node.input[at] = name
    first, last = nodes[0].input[0], nodes[-1].output[0]
    value = onnx.helper.make_tensor_value_info
    ends = [value(first, onnx.TensorProto.FLOAT, [1, 1, 96, 64])], [value(last, onnx.TensorProto.FLOAT, [1, LABELS])]
    graph = onnx.helper.make_graph(nodes, "yamnet", *ends, list(model.graph.initializer))
    plain = onnx.helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(plain.SerializeToString(), options), first


def test_the_network_in_torch_equals_the_original_graph_in_onnxruntime(folder: Path) -> None:
    session, name = without_quantisation(folder / "model.onnx")
    network = Yamnet.load(folder)
    sounds = [noise(1, 1)[:PATCH_SAMPLES], tone(900, 1)[:PATCH_SAMPLES], np.zeros(PATCH_SAMPLES, np.float32)]
    with torch.inference_mode():
        mel_PFB = network.log_mel(torch.from_numpy(np.stack(sounds)))
        posteriors_PL = torch.sigmoid(network.classify(mel_PFB)[0]).numpy()
    for mel_FB, posterior_L in zip(mel_PFB.numpy(), posteriors_PL, strict=True):
        (logit_1L,) = session.run(None, {name: mel_FB[None, None]})
        assert np.abs(1 / (1 + np.exp(-np.maximum(logit_1L[0], -80))) - posterior_L).max() <= 1e-5


def test_log_mel_equals_a_slow_obvious_one() -> None:
    sound = noise(1, 2)[:PATCH_SAMPLES]
    network = Yamnet()
    mel_FB = network.log_mel(torch.from_numpy(sound)[None])[0].numpy()
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames_FS = np.stack([sound[at * 160 : at * 160 + 400] * window for at in range(96)])
    magnitude = np.abs(np.fft.rfft(frames_FS, 512))
    slow_FB = np.log(magnitude @ network.log_mel.mel.mel_scale.fb.numpy() + 0.001)
    assert mel_FB.shape == (96, 64)
    assert np.abs(mel_FB - slow_FB).max() < 1e-3


@given(st.integers(0, 20 * SAMPLE_RATE))
def test_patches_cover_a_chunk_except_a_short_tail(samples: int) -> None:
    starts = patch_starts(samples)
    assert starts[0] == 0
    assert all(0 < after - before <= PATCH_HOP for before, after in itertools.pairwise(starts))
    assert samples - (starts[-1] + PATCH_SAMPLES) < TAIL
    assert len(starts) == 1 or starts[-1] + PATCH_SAMPLES <= samples


def test_a_chunk_of_one_second_has_one_patch_and_a_longer_one_ends_right_aligned() -> None:
    assert patch_starts(SAMPLE_RATE) == [0]
    assert patch_starts(2 * SAMPLE_RATE) == [0, 7_680, 15_360]
    assert patch_starts(PATCH_SAMPLES + 3_000) == [0, 3_000]


def test_a_chunk_depends_on_its_own_samples_alone(encoder: YamnetEncoder) -> None:
    alone = encoder([noise(1, 3)])[0]
    crowd = encoder([tone(440, 3), noise(1, 3), noise(0.2, 4)])[1]
    np.testing.assert_allclose(alone.posteriors_PL, crowd.posteriors_PL, atol=1e-5)
    np.testing.assert_allclose(alone.embeddings_PD, crowd.embeddings_PD, atol=1e-4)


@pytest.mark.parametrize("sound", [np.zeros(0, np.float32), np.zeros(10, np.float32), np.full(SAMPLE_RATE, np.nan, np.float32)])
def test_odd_chunks_are_heard_as_silence(encoder: YamnetEncoder, sound: np.ndarray) -> None:
    heard = encoder([sound])[0]
    assert heard.posteriors_PL.shape == (1, LABELS)
    assert heard.patches[0].labels[0][0] == "Silence"
    assert max(heard.patches[0].chances.values()) < 0.05


def test_no_chunks_give_no_features(encoder: YamnetEncoder) -> None:
    assert encoder([]) == []


def test_a_patch_says_when_it_was(encoder: YamnetEncoder) -> None:
    patches = encoder([noise(2, 5)])[0].patches
    assert [(patch.start_s, patch.end_s) for patch in patches] == [(0.0, 0.975), (0.48, 1.455), (0.96, 1.935)]


def test_weights_of_another_shape_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.yamnet._CHANNELS", (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 512, 1_024))
    with pytest.raises(ValueError, match="got weights of shape"):
        Yamnet.load(folder)


def test_a_typing_error_in_the_table_is_refused(tmp_path: Path) -> None:
    for text in ('[glass_brake]\n"Glass" = 1.0', '[glass_break]\n"Glas" = 1.0'):
        table = tmp_path / "table.toml"
        table.write_text(text)
        with pytest.raises(ValueError, match="unknown"):
            SoundClasses.bind(["Glass"], table)


def test_the_table_names_only_labels_of_yamnet(encoder: YamnetEncoder) -> None:
    assert TABLE.exists()
    assert set(encoder([noise(1)])[0].patches[0].chances) >= {"glass_break", "gunshot", "explosion", "scream", "siren", "footsteps"}
