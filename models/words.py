"""Words that count: MiniLM sentence embeddings against prototype sentences of each class, and against neutral ones.

Reimers and Gurevych, "Sentence-BERT", arXiv:1908.10084; all-MiniLM-L6-v2, mean pooling, normalised. The chance of a class is
a logistic function of how much closer the words are to that class than to neutral speech. What is said is data:
it is only ever measured, never obeyed. Known trap: sentence embeddings hardly see a negation ("I am not going to shoot").

Punctuation tells where sentences end and is then left out: recognizers guess it, or give none, and "Help." and "Help!" are one call.

Shape key: N texts, T tokens, D embedding, K prototypes.
"""

from __future__ import annotations

import math
import re
import tomllib
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from models.features import Array, Said

PROTOTYPES = Path(__file__).with_name("prototypes.toml")
NEUTRAL = "neutral"
MOST_TOKENS = 128
RUN_ON = 120  # characters; a longer sentence is measured in pieces, for what counts in it is drowned by the rest
LONGEST = 60  # characters of such a piece
STRIDE = LONGEST // 2
MOST_PIECES = 2 * 4_000 // STRIDE + 2  # of one text: enough for the longest transcript, however it is cut
AT_ONCE = 32  # texts in one forward, of about the same length
SLOPE = 24.0  # log-odds per unit of similarity
MARGIN = 0.10  # how much closer to a class than to neutral speech is even odds
FLOOR = 0.36  # what is this far from everything is neutral
_SENTENCE = re.compile(r"(?<=[.!?;])\s+")
_WITHIN = re.compile(r"(?<=\w)[\-\N{HYPHEN}\N{NON-BREAKING HYPHEN}](?=\w)|(?<=\d)[.,:](?=\d)|[%&@]")
"""Punctuation that belongs to a word: within it, within a number, or spoken itself."""
_APOSTROPHE = re.compile(r"(?P<after>(?<=\w))?['\N{RIGHT SINGLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}](?P<before>(?=\w))?")


class SentenceEncoder:
    """Texts to unit vectors, mean pooled over their tokens."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, device: str = "cpu") -> None:
        self._model = model.eval().to(device)
        self._tokenizer = tokenizer
        self._device = device

    @classmethod
    def load(cls, folder: Path, *, device: str = "cpu") -> SentenceEncoder:
        """A local checkpoint in safetensors. Nothing is looked up anywhere else."""
        transformers_logging.disable_progress_bar()
        model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        return cls(model, AutoTokenizer.from_pretrained(folder, local_files_only=True), device=device)

    def __call__(self, texts: Sequence[str]) -> Array:
        """N texts to N x D, float32, each of length 1."""
        order = np.argsort([len(text) for text in texts], kind="stable")
        parts = [order[at : at + AT_ONCE] for at in range(0, len(order), AT_ONCE)]
        unit_ND: Array = np.concatenate([self._forward([texts[at] for at in part]) for part in parts])
        return unit_ND[np.argsort(order)]

    def _forward(self, texts: Sequence[str]) -> Array:
        batch = self._tokenizer(list(texts), padding=True, truncation=True, max_length=MOST_TOKENS, return_tensors="pt")
        with torch.inference_mode():
            hidden_NTD: Tensor = self._model(**batch.to(self._device)).last_hidden_state
            mask_NT1 = batch["attention_mask"].unsqueeze(-1).to(hidden_NTD.dtype)
            mean_ND = (hidden_NTD * mask_NT1).sum(1) / mask_NT1.sum(1)
            unit_ND: Array = torch.nn.functional.normalize(mean_ND, dim=1).cpu().numpy()
        return unit_ND


class WordJudge:
    """Transcripts to `Said`. A text is measured whole and piece by piece; the best one counts."""

    def __init__(self, encoder: SentenceEncoder, prototypes: Path = PROTOTYPES) -> None:
        self._encoder = encoder
        raw: dict[str, list[str]] = tomllib.loads(prototypes.read_text("utf-8"))
        bare = {name: [unpunctuated(sentence) for sentence in sentences] for name, sentences in raw.items()}
        self._neutral_KD = encoder(bare.pop(NEUTRAL))
        self._classes_KD = {name: encoder(sentences) for name, sentences in bare.items()}

    def __call__(self, texts: Sequence[str]) -> list[Said]:
        """Blocking; one result per text."""
        pieces = [pieces_of(text) for text in texts]
        flat_ND = self._encoder([unpunctuated(piece) for group in pieces for piece in group]) if pieces else np.empty((0, 0), np.float32)
        found, at = [], 0
        for group in pieces:
            found.append(self._judge(flat_ND[at : at + len(group)]))
            at += len(group)
        return found

    def _judge(self, pieces_ND: Array) -> Said:
        neutral_N = np.maximum((pieces_ND @ self._neutral_KD.T).max(axis=1), FLOOR)
        chances: dict[str, float] = {}
        nearest = -1.0
        for name, class_KD in self._classes_KD.items():
            similarity_N = (pieces_ND @ class_KD.T).max(axis=1)
            chances[name] = max(map(chance, similarity_N.tolist(), neutral_N.tolist()))
            nearest = max(nearest, float(similarity_N.max()))
        return Said(chances=chances, similarity=nearest, embedding_D=pieces_ND[0].copy())


def pieces_of(text: str) -> list[str]:
    """The whole text first, then its sentences where there are several; a long one in pieces that overlap by half.

    Too many sentences are put together to pieces of STRIDE, so that all of a text of 4,000 characters is measured.
    """
    sentences = [piece for piece in _SENTENCE.split(text.strip()) if piece]
    pieces = [piece for sentence in sentences for piece in _overlapping(sentence)]
    if len(pieces) > MOST_PIECES:
        pieces = [piece for joined in _joined(sentences) for piece in _overlapping(joined)]
    return [text, *pieces[:MOST_PIECES]] if len(pieces) > 1 else [text]


def _overlapping(sentence: str) -> Iterator[str]:
    """The sentence itself, or stretches of at most LONGEST that begin every STRIDE, at words where there are any."""
    if len(sentence) <= RUN_ON:
        yield sentence
        return
    at = 0
    while len(sentence) - at > LONGEST:
        cut = sentence.rfind(" ", at + STRIDE, at + LONGEST)
        yield sentence[at : cut if cut > 0 else at + LONGEST]
        word = sentence.rfind(" ", at + 1, at + STRIDE)
        at = word + 1 if word > 0 else at + STRIDE
    yield sentence[at:]


def _joined(sentences: Sequence[str]) -> Iterator[str]:
    """Neighbours put together as long as they stay within STRIDE."""
    held = ""
    for sentence in sentences:
        if held and len(held) + len(sentence) >= STRIDE:
            yield held
            held = sentence
        else:
            held = f"{held} {sentence}" if held else sentence
    yield held


def unpunctuated(text: str) -> str:
    """The words alone, one space between them; what consists of punctuation only is left as it is."""
    joining = {match.start() for match in _WITHIN.finditer(text)} | set(_apostrophes(text))
    kept = (one if at in joining or unicodedata.category(one)[0] != "P" else " " for at, one in enumerate(text))
    return " ".join("".join(kept).split()) or text


def _apostrophes(text: str) -> Iterator[int]:
    """Where they stand within a word, or end one (the dogs' bowl) and no quotation."""
    quoting = False
    for match in _APOSTROPHE.finditer(text):
        after, before = match["after"] is not None, match["before"] is not None
        if after and (before or not quoting):
            yield match.start()
        quoting = before if not after else quoting and before


def chance(similarity: float, neutral: float) -> float:
    """Even odds where the class is MARGIN closer than neutral speech."""
    return 1.0 / (1.0 + math.exp(-SLOPE * (similarity - neutral - MARGIN)))
