"""Encoders and head as the engine uses them, on networks with random weights: plain, or on the fast path.

The host's work is the real one: `YamnetEncoder`, `WordJudge` and the tokens of `models/tokens.py` are used as they are. Made here: the
picture encoder around `People`, and a tokenizer that needs no vocabulary.

Shape key: B windows, T tokens, K boxes, and as in models/fusion/windows.py.
"""

from __future__ import annotations

import importlib.util
import re
import tomllib
import zlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutput

from models import pictures, quality
from models.audioset import TABLE, SoundClasses
from models.bench.fast import Fast, Plan
from models.bench.networks import People, Sound, Words, in_precision, made
from models.calibration import PATTERNS, Calibration, Scale, Temperature
from models.classes import LABELS
from models.explain import shapley
from models.features import ImageEncoder, Seen, SoundEncoder, TextEncoder
from models.fusion.methods import DEFAULT
from models.fusion.windows import MODALITIES, Stream, Windows
from models.head import About, FusionHead
from models.tokens import MOST, widths
from models.words import SentenceEncoder, WordJudge
from models.yamnet import LABELS as SOUND_LABELS
from models.yamnet import Yamnet, YamnetEncoder

LENGTHS = (16, 32, 64, 128)
"""Tokens of a sentence that there are shapes for, on the fast path."""
ON_CPU = 1
"""Pictures in one forward of a CPU: more at once take longer for each, as with the shipped detector (models/persons.py)."""
OPENCV = importlib.util.find_spec("cv2") is not None
"""Without it the quality of pictures is left out (zeros, and no time), and pictures go to the device in their own size."""
_VOCABULARY = 30_522  # of BERT, uncased
_FIRST, _LAST, _WORD = 101, 102, 1_000
_PIECE = re.compile(r"\w+|[^\w\s]")

Judge = Callable[[Windows], tuple[Tensor, Tensor]]
"""Windows to share_BMC and logit_BC, on the host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a pipeline is made of. `alone`: it is given one event, and one window, at a time. `fasts`: to warm, and to ask for notes."""

    images: ImageEncoder
    sounds: SoundEncoder
    words: TextEncoder
    judge: Judge
    alone: bool = False
    fasts: tuple[Fast, ...] = ()


class PeopleEncoder:
    """Pictures of one size to `Seen`."""

    def __init__(self, network: Callable[[Tensor], tuple[Tensor, ...]], *, device: str, batch: int) -> None:
        self._network = network
        self._device = device
        self._batch = batch

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> list[Seen]:
        """Blocking; one result per picture."""
        return [seen for at in range(0, len(images), self._batch) for seen in self._some(images[at : at + self._batch])]

    @torch.inference_mode()
    def _some(self, images: Sequence[NDArray[np.uint8]]) -> list[Seen]:
        smalls = [pictures.smaller(image) for image in images] if OPENCV else images
        found = self._network(torch.from_numpy(np.stack(smalls)).to(self._device))
        chance_NK, box_NK4 = (each.cpu().numpy() for each in found)
        return [_seen(*each) for each in zip(images, smalls, chance_NK, box_NK4, strict=True)]


def _seen(image_HW3: NDArray[np.uint8], small_SS3: NDArray[np.uint8], chance_K: NDArray[np.float32], box_K4: NDArray[np.float32]) -> Seen:
    measured_Q = quality.of_picture(image_HW3, small_SS3) if OPENCV else np.zeros(len(quality.PICTURE), np.float32)
    return Seen(chances={"person": float(chance_K[0])}, boxes_N5=np.column_stack([box_K4, chance_K]), quality_Q=measured_Q)


class Hashed:
    """A tokenizer without a vocabulary: each word's checksum is its id."""

    def __call__(self, texts: Sequence[str], *, max_length: int, **_: object) -> BatchEncoding:
        """Ids and mask, padded to the longest."""
        rows = [[_FIRST, *map(_id, _PIECE.findall(text)[: max_length - 2]), _LAST] for text in texts]
        T = max(map(len, rows))
        ids_NT = torch.tensor([row + [0] * (T - len(row)) for row in rows])
        return BatchEncoding({"input_ids": ids_NT, "attention_mask": (ids_NT > 0).long()})


def _id(word: str) -> int:
    return _WORD + zlib.crc32(word.lower().encode()) % (_VOCABULARY - _WORD)


class FastWords:
    """A BERT on the fast path, in the form that `SentenceEncoder` calls: sentences padded to one of LENGTHS."""

    def __init__(self, fast: Fast) -> None:
        self._fast = fast

    def to(self, device: str) -> FastWords:
        """Stays where it is."""
        return self

    def eval(self) -> FastWords:
        """Is already."""
        return self

    def __call__(self, input_ids: Tensor, attention_mask: Tensor) -> BaseModelOutput:
        """Hidden states of the tokens that came."""
        T = input_ids.shape[1]
        more = next(length for length in LENGTHS if length >= T) - T
        (hidden_NTD,) = self._fast(functional.pad(input_ids, (0, more)), functional.pad(attention_mask, (0, more)))
        return BaseModelOutput(last_hidden_state=hidden_NTD[:, :T])  # type: ignore[arg-type]


class Judging(nn.Module):
    """Scores and Shapley values in one forward: tokens, mask and quality of each modality to share_BMC and logit_BC (float64)."""

    def __init__(self, head: FusionHead) -> None:
        super().__init__()
        self.head = deepcopy(head).cpu().double()  # its own, for modules move to devices; in the engine's precision

    def forward(self, *each: Tensor) -> tuple[Tensor, Tensor]:
        """The tensors of `parts_of`."""
        streams = {name: Stream.of(*each[3 * m : 3 * m + 3]) for m, name in enumerate(MODALITIES)}
        found = shapley(*self.head.read(Windows(**streams)))
        return found.share_BMC, found.logit_BC


def parts_of(windows: Windows) -> list[Tensor]:
    """The tensors that windows are made of, each modality with places for as many tokens as it can have: one shape."""
    found = []
    for name, stream in windows.streams():
        more = MOST[name] - stream.mask_BT.shape[1]
        found += [functional.pad(stream.tokens_BTD, (0, 0, 0, more)), functional.pad(stream.mask_BT, (0, more)), stream.quality_BQ]
    return found


def labels() -> list[str]:
    """As many as YAMNet's: those of the table, and numbers."""
    named = {label for row in tomllib.loads(TABLE.read_text("utf-8")).values() for label in row}
    return [*sorted(named), *(f"label {at}" for at in range(SOUND_LABELS - len(named)))]


@torch.no_grad()
def head(seed: int = 0) -> FusionHead:
    """A default head with random weights, in every part; its calibration changes nothing."""
    calibration = Calibration(
        split="none",
        windows=0,
        hours=0.0,
        per_hour=0.0,
        classes=tuple(Scale(name=name, scale=1.0, bias=0.0, threshold=0.5, positives=0, negatives=0) for name in LABELS),
        temperatures={name: Temperature(value=1.0, windows=0, fitted_on=None) for name in PATTERNS},
    )
    about = About(method=DEFAULT, widths=widths(len(LABELS)), classes=LABELS, encoders="random", seed=seed, recipe="random")
    built = FusionHead(about, calibration)
    generator = torch.Generator().manual_seed(seed)
    for parameter in built.parameters():
        parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return built


def plain(device: str, judging: FusionHead, *, batch: int = 32) -> Parts:
    """Float32, batched as the engine does it."""
    people, sound, words = (made(kind, seed).to(device) for seed, kind in enumerate((People, Sound, Words)))
    bert = cast(PreTrainedModel, words.network)
    return Parts(
        images=PeopleEncoder(people, device=device, batch=batch if device == "cuda" else ON_CPU),
        sounds=YamnetEncoder(cast(Yamnet, sound), SoundClasses.bind(labels()), device=device, batch=batch),
        words=WordJudge(SentenceEncoder(bert, cast(PreTrainedTokenizerBase, Hashed()), device=device)),
        judge=plainly(device, judging),
    )


def plainly(device: str, judging: FusionHead) -> Judge:
    """The head and its Shapley values, as they come."""
    judge = Judging(judging).to(device)

    def judged(windows: Windows) -> tuple[Tensor, Tensor]:
        share_BMC, logit_BC = judge(*(each.to(device) for each in parts_of(windows)))
        return share_BMC.cpu(), logit_BC.cpu()

    return judged


def networks(plan: Plan) -> dict[str, Fast]:
    """The encoders' networks on the fast path, by what they encode."""
    kinds = {"pictures": People, "sound": Sound, "words": Words}
    return {name: Fast(in_precision(made(kind, seed), plan.dtype), plan) for seed, (name, kind) in enumerate(kinds.items())}


def fast(plan: Plan, judging: FusionHead) -> Parts:
    """The same weights on the fast path. The head stays float64."""
    run = networks(plan)
    judge = Fast(Judging(judging), plan)

    def judged(windows: Windows) -> tuple[Tensor, Tensor]:
        share_BMC, logit_BC = judge(*parts_of(windows))
        return share_BMC, logit_BC

    most = plan.sizes[-1]
    bert = cast(PreTrainedModel, FastWords(run["words"]))
    return Parts(
        images=PeopleEncoder(run["pictures"], device="cpu", batch=most if plan.cuda else ON_CPU),
        sounds=YamnetEncoder(cast(Yamnet, run["sound"]), SoundClasses.bind(labels()), batch=most),
        words=WordJudge(SentenceEncoder(bert, cast(PreTrainedTokenizerBase, Hashed()))),
        judge=judged,
        fasts=(*run.values(), judge),
    )
