"""YAMNet: 16 kHz sound to 521 AudioSet posteriors and a 1024-d embedding per patch of 0.96 s.

Plakal and Ellis, "YAMNet", TensorFlow Models, 2019; a MobileNet v1 (Howard et al., arXiv:1704.04861) on log-mel patches. The
weights are float32 in an ONNX file made for a quantising compiler: its Quantize/Dequantize pairs are left out here.

Shape key: S samples, F frames of 10 ms, B mel bands, P patches, C channels, H time and W band of a map, L labels, D embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models import quality
from models.audioset import SoundClasses, read_labels
from models.features import Array, Chances, Heard, Patch

if TYPE_CHECKING:
    import onnx

SAMPLE_RATE = 16_000  # Hz
FRAME_HOP = SAMPLE_RATE // 100  # samples, 10 ms
FRAME_LENGTH = SAMPLE_RATE // 40  # samples, 25 ms
FFT = 512  # samples
BANDS = 64
PATCH_FRAMES = 96  # 0.96 s
PATCH_SAMPLES = (PATCH_FRAMES - 1) * FRAME_HOP + FRAME_LENGTH  # 15,600
PATCH_HOP = 48 * FRAME_HOP  # samples, 0.48 s
TAIL = SAMPLE_RATE // 10  # samples: a rest shorter than this gets no patch of its own
LABELS = 521
WIDTH = 1_024
_MEL_FLOOR = 0.001
_CHANNELS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1_024, 1_024)
_STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


def patch_starts(samples: int) -> list[int]:
    """Where a chunk's patches begin, in samples: every 0.48 s, the last one aligned with the chunk's end.

    A chunk shorter than a patch has one (it is padded with silence). An uncovered rest below `TAIL` is left: chunks of
    1.000 s would pay for a second patch that repeats 97 % of the first.
    """
    last = max(0, samples - PATCH_SAMPLES)
    starts = list(range(0, last + 1, PATCH_HOP))
    return [*starts, last] if last - starts[-1] >= TAIL else starts


class LogMel(nn.Module):
    """Sound (P, S) to log-mel patches (P, F, B): HTK mel from 125 to 7,500 Hz of the magnitude, log(x + 0.001)."""

    def __init__(self) -> None:
        super().__init__()
        self.mel = torchaudio.transforms.MelSpectrogram(
            sample_rate=SAMPLE_RATE,
            n_fft=FFT,
            win_length=FRAME_LENGTH,
            hop_length=FRAME_HOP,
            f_min=125.0,
            f_max=7_500.0,
            n_mels=BANDS,
            power=1.0,
            center=False,
            mel_scale="htk",
            norm=None,
        )

    def forward(self, sound_PS: Tensor) -> Tensor:
        """The FFT's frame is wider than the window that torch centres in it: the margins are silence, not samples lost."""
        margin = (FFT - FRAME_LENGTH) // 2
        mel_PBF: Tensor = self.mel(functional.pad(sound_PS, (margin, margin)))
        return torch.log(mel_PBF + _MEL_FLOOR).transpose(1, 2)


class Conv(nn.Module):
    """A convolution with its batch norm folded in, padded as TensorFlow's SAME, then ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups)
        before = (kernel - stride) // 2
        after = kernel - stride - before
        self.pad = (before, after, before, after) if kernel > 1 else (0, 0, 0, 0)

    def forward(self, map_PCHW: Tensor) -> Tensor:
        """(P, C, H, W) to (P, C', H', W')."""
        return functional.relu(self.conv(functional.pad(map_PCHW, self.pad)))


class Yamnet(nn.Module):
    """The network, its preprocessing and nothing else: (P, S) samples to logits (P, L) and embeddings (P, D).

    Maps lie channels last: on a CPU that is 1.5 times as fast.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_mel = LogMel()
        parts: list[nn.Module] = [Conv(1, _CHANNELS[0], 3, _STRIDES[0])]
        for inputs, outputs, stride in zip(_CHANNELS, _CHANNELS[1:], _STRIDES[1:], strict=False):
            parts += [Conv(inputs, inputs, 3, stride, groups=inputs), Conv(inputs, outputs, 1, 1)]
        self.body = nn.Sequential(*parts)
        self.classifier = nn.Linear(WIDTH, LABELS)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, sound_PS: Tensor) -> tuple[Tensor, Tensor]:
        """PATCH_SAMPLES samples per patch."""
        return self.classify(self.log_mel(sound_PS))

    def classify(self, mel_PFB: Tensor) -> tuple[Tensor, Tensor]:
        """Log-mel patches to logits and embeddings."""
        map_PCHW = self.body(mel_PFB.unsqueeze(1))
        embedding_PD = map_PCHW.mean(dim=(2, 3))
        return self.classifier(embedding_PD), embedding_PD

    @classmethod
    def load(cls, folder: Path) -> Yamnet:
        """From the folder with `model.onnx` and `model.data`. ValueError when the shapes are another model's."""
        network = cls()
        tensors = iter(read_convolutions(folder / "model.onnx"))
        layers = [part.conv for part in network.body if isinstance(part, Conv)] + [network.classifier]
        with torch.no_grad():
            for layer, (weight, bias) in zip(layers, tensors, strict=True):
                if layer.weight.shape != weight.shape or layer.bias is None:
                    raise ValueError(f"a layer of shape {tuple(layer.weight.shape)} got weights of shape {weight.shape}")
                layer.weight.copy_(torch.from_numpy(weight))
                layer.bias.copy_(torch.from_numpy(bias))
        return network.eval()


def read_convolutions(path: Path) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Weight and bias of each Conv and Gemm in the graph's order; names are followed through Quantize/Dequantize pairs."""
    import onnx  # here, so that the network itself can be built where there is no ONNX

    graph = onnx.load(str(path)).graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    source = {node.output[0]: node.input[0] for node in graph.node if node.op_type in {"QuantizeLinear", "DequantizeLinear"}}
    for node in graph.node:
        if node.op_type in {"Conv", "Gemm"}:
            weight, bias = (_array(name, tensors, source) for name in node.input[1:3])
            yield weight, bias


def _array(name: str, tensors: Mapping[str, onnx.TensorProto], source: Mapping[str, str]) -> NDArray[np.float32]:
    from onnx import numpy_helper

    while name not in tensors:
        name = source[name]
    return np.array(numpy_helper.to_array(tensors[name]), np.float32)


class YamnetEncoder:
    """Chunks to `Heard`. All patches of all chunks go through the network together, at most `batch` at a time."""

    def __init__(self, network: Yamnet, classes: SoundClasses, *, device: str = "cpu", batch: int = 32) -> None:
        self._network = network.to(device)
        self._classes = classes
        self._device = device
        self._batch = batch

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu", batch: int = 32) -> YamnetEncoder:
        """From verified files: `model.onnx`, `model.data`, `classes.csv`."""
        return cls(Yamnet.load(folder), SoundClasses.bind(read_labels(folder / "classes.csv")), device=device, batch=batch)

    def __call__(self, sounds: Sequence[Array]) -> list[Heard]:
        """Blocking; one result per chunk."""
        return heard(sounds, self._forward, lambda posterior_L: (self._classes.chances(posterior_L), self._classes.top(posterior_L)))

    def _forward(self, patches: Sequence[Array]) -> tuple[Array, Array]:
        posteriors, embeddings = [np.empty((0, LABELS), np.float32)], [np.empty((0, WIDTH), np.float32)]
        with torch.inference_mode():
            for at in range(0, len(patches), self._batch):
                sound_PS = torch.from_numpy(padded(patches[at : at + self._batch])).to(self._device)
                logits_PL, embedding_PD = self._network(sound_PS)
                posteriors.append(torch.sigmoid(logits_PL).cpu().numpy())
                embeddings.append(embedding_PD.cpu().numpy())
        return np.concatenate(posteriors), np.concatenate(embeddings)


Forward = Callable[[Sequence[Array]], tuple[Array, Array]]
"""Patches, each of at most PATCH_SAMPLES, to posteriors (P, L) and embeddings (P, D)."""
Describe = Callable[[Array], tuple[Chances, tuple[tuple[str, float], ...]]]
"""A patch's posteriors (L) to its chances and its labels, best first."""


def heard(sounds: Sequence[Array], forward: Forward, describe: Describe) -> list[Heard]:
    """Chunks, cut into patches that go through a network together, to what it made of each chunk."""
    cut = [cut_of(sound) for sound in sounds]
    posteriors_PL, embeddings_PD = forward([patch for patches in cut for _, patch in patches])
    found, at = [], 0
    for patches in cut:
        rows = slice(at, at + len(patches))
        found.append(_heard(patches, posteriors_PL[rows], embeddings_PD[rows], describe))
        at += len(patches)
    return found


def _heard(cut: Sequence[tuple[int, Array]], posteriors_PL: Array, embeddings_PD: Array, describe: Describe) -> Heard:
    told = [describe(posterior_L) for posterior_L in posteriors_PL]
    return Heard(
        patches=tuple(
            Patch(start_s=start / SAMPLE_RATE, end_s=(start + len(patch)) / SAMPLE_RATE, chances=chances, labels=labels)
            for (start, patch), (chances, labels) in zip(cut, told, strict=True)
        ),
        posteriors_PL=posteriors_PL.copy(),
        embeddings_PD=embeddings_PD.copy(),
        quality_PQ=np.stack([quality.of_sound(patch) for _, patch in cut]),
    )


def cut_of(sound_N: Array) -> list[tuple[int, Array]]:
    """A chunk's patches, each with its start in samples, at most PATCH_SAMPLES long. What is no number, and would spread, becomes silence.

    ValueError where a chunk is no line of samples.
    """
    if np.ndim(sound_N) != 1:
        raise ValueError(f"a chunk of shape {np.shape(sound_N)} must be one line of mono samples")
    clean_N = np.nan_to_num(np.asarray(sound_N, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    return [(start, clean_N[start : start + PATCH_SAMPLES]) for start in patch_starts(len(clean_N))]


def padded(patches: Sequence[Array]) -> Array:
    """(P, S): each followed by silence to PATCH_SAMPLES."""
    sound_PS = np.zeros((len(patches), PATCH_SAMPLES), np.float32)
    for row_S, patch in zip(sound_PS, patches, strict=True):
        row_S[: len(patch)] = patch
    return sound_PS
