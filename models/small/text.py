"""Words from scratch: hashed words and their trigrams, a GRU each way, attention over the words.

A word is the mean of the vectors of itself and of its trigrams (Bojanowski et al., arXiv:1607.04606), hashed into a table: so a word
that was misheard by a letter, or never seen, still has most of its parts. Nothing is looked up; there is no vocabulary to keep.

Shape key: N texts, W words, G hashes of a word, C classes, D embedding.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from models.features import Array, Said
from models.fusion.parts import AttentionPool
from models.small.file import Small
from models.small.parts import Network, Networks, chances_of
from models.words import pieces_of

MOST_WORDS = 64
"""Of one piece; what follows is not read. Pieces of `words.pieces_of` have fewer, but for a text as a whole."""
HASHES = 16
"""Of one word: itself, then its first trigrams."""
BUCKETS = 1 << 12
"""Rows of the table; row 0 is padding."""
_WORD = re.compile(r"[\w']+")


class TextGru(Network):
    """Hashed words to logits and embeddings."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(BUCKETS, width, padding_idx=0)
        self.word_dropout, self.dropout = nn.Dropout(0.0), nn.Dropout(0.0)
        self.gru = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.pool = AttentionPool(2 * width)
        self.classifier = nn.Linear(2 * width, classes)

    def prepare(self, events: Sequence[str]) -> Tensor:
        """Texts to rows of the table, (N, W, G) of int64, zeros where there is no word; a text without a word has an empty one."""
        texts = [words_of(event) for event in events]
        rows_NWG = torch.zeros(len(texts), max(map(len, texts), default=1), HASHES, dtype=torch.int64)
        for n, words in enumerate(texts):
            for w, word in enumerate(words):
                hashes = list(hashes_of(word))[:HASHES]
                rows_NWG[n, w, : len(hashes)] = torch.tensor(hashes)
        return rows_NWG

    def forward(self, rows_NWG: Tensor) -> tuple[Tensor, Tensor]:
        """(N, W, G) to logits (N, C) and embeddings (N, D). The GRU never runs over padding: a text does not feel its neighbours."""
        mask_NWG = rows_NWG > 0
        word_NWD = self.table(rows_NWG).sum(2) / mask_NWG.sum(2, keepdim=True).clamp(min=1)
        mask_NW = mask_NWG.any(2)
        packed = pack_padded_sequence(self.word_dropout(word_NWD), mask_NW.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        read_NWD, _ = pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=mask_NW.shape[1])
        embedding_ND = self.pool(read_NWD, mask_NW)
        return self.classifier(self.dropout(embedding_ND)), embedding_ND


NETWORKS: Networks = {"text-gru": TextGru}


class SmallTexts(Small):
    """Transcripts to `Said`: a `features.TextEncoder`. A text is measured whole and piece by piece; the best one counts.

    It has no prototypes: its similarity is its greatest chance, on the line from -1 to 1.
    """

    networks = NETWORKS

    def __call__(self, texts: Sequence[str]) -> list[Said]:
        """Blocking; one result per text."""
        pieces = [pieces_of(text) for text in texts]
        logits_NC, embeddings_ND = self.network.say([piece for group in pieces for piece in group])
        found, at = [], 0
        for group in pieces:
            rows = slice(at, at + len(group))
            found.append(self._said(logits_NC[rows], embeddings_ND[at]))
            at += len(group)
        return found

    def _said(self, logits_NC: Array, embedding_D: Array) -> Said:
        chances = chances_of(self.classes, logits_NC.max(axis=0))
        return Said(chances=chances, similarity=2 * max(chances.values()) - 1, embedding_D=embedding_D.copy())


def words_of(text: str) -> list[str]:
    """Small, without marks, MOST_WORDS at most; an empty one where there is none."""
    return [found[0] for found, _ in zip(_WORD.finditer(text.lower()), range(MOST_WORDS), strict=False)] or [""]


def hashes_of(word: str) -> Iterator[int]:
    """Rows of the table, 1 to BUCKETS - 1: of the word, then of its trigrams."""
    marked = f"<{word}>"
    for part in (marked, *(marked[at : at + 3] for at in range(len(marked) - 2))):
        yield 1 + zlib.crc32(part.encode()) % (BUCKETS - 1)
