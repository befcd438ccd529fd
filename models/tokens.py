"""What encoders made of a window's events, as the tokens that fusion methods read: the same code in training and live.

Laws:
1. Membership is the engine's: a picture belongs where its time lies, a patch where its midpoint lies, a transcript where it overlaps.
   Times are whole microseconds; a window holds its start and not its end.
2. A window has at most MOST tokens of a modality. Where there are more, those with the greatest chance of any class stay, the earliest
   of equals. They stand in the order of time, whatever order the events came in.
3. A window's quality is the mean over the tokens that stayed; without any the modality is absent (`windows.Stream`).
4. A token begins with the log-odds of its chances, one for each of CLASSES, zeros where its encoder cannot speak of a class: an expert
   can start from what is known without training.
5. What an encoder does not have is zeros at the end of its place; what is wider than its place is a ValueError.
6. A window's tokens depend on its own events alone: batching adds padding and nothing else.
7. A token knows which event and patch it is of; that decides neither what stays nor the order.

Shape key: B windows, T tokens of one modality, D width of a token, Q quality features, N boxes, L sound labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from models import quality, yamnet
from models.classes import CLASSES
from models.features import Array, Chances, Heard, Patch, Said, Seen
from models.fusion.windows import MODALITIES, Stream, Widths, Windows

SECOND = 1_000_000  # microseconds
MOST: Mapping[str, int] = {"frames": 8, "audio": 8, "transcripts": 8}
"""Tokens of one window, by modality: two seconds of two cameras at two pictures a second, or of four microphones."""
BOXES = 8
"""The surest of a picture; that there are more is told by their number and area alone."""
SURE = 1e-4
"""Log-odds are bounded as if no chance were nearer to 0 or 1 than this: -9.2 to 9.2."""
CHANCES = len(CLASSES)
"""Log-odds that every token begins with."""
SENTENCE = 384
"""Width of MiniLM's embedding."""
FRAME_WIDTH = CHANCES + 2 + 5 * BOXES
"""Chances, log(1 + number of boxes), the share of the picture that boxes cover (overlaps twice, at most 1), the boxes."""
AUDIO_WIDTH = CHANCES + yamnet.WIDTH + yamnet.LABELS
"""Chances, YAMNet's embedding, its posteriors as log-odds."""
WORDS_WIDTH = CHANCES + SENTENCE + 1
"""Chances, MiniLM's embedding, the greatest similarity to a prototype."""
TOKENS: Mapping[str, int] = {"frames": FRAME_WIDTH, "audio": AUDIO_WIDTH, "transcripts": WORDS_WIDTH}
QUALITY: Mapping[str, int] = {"frames": len(quality.PICTURE), "audio": len(quality.SOUND), "transcripts": len(quality.WORDS)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Event:
    """One event in microseconds, and what its encoder made of it. A picture needs no end. `text`, `confidence`: of a transcript."""

    start: int
    end: int
    features: Seen | Heard | Said
    text: str = ""
    confidence: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Token:
    """One picture, patch or transcript. `at`: when, in microseconds. `chance`: the greatest of any class.

    `event`: where its event stands in what `gather` was given; `patch`: which of that chunk's, 0 for the others.
    """

    at: int
    chance: float
    values_D: Array
    quality_Q: Array
    event: int = 0
    patch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gathered:
    """The tokens of one window, by modality; at most MOST each, in the order of time."""

    frames: tuple[Token, ...] = ()
    audio: tuple[Token, ...] = ()
    transcripts: tuple[Token, ...] = ()


def widths(classes: int, model: int = 64) -> Widths:
    """What a fusion method is built for that reads these tokens."""
    return Widths(tokens=TOKENS, quality=QUALITY, classes=classes, model=model, verdicts=CHANCES)


def gather(start: int, end: int, events: Iterable[Event]) -> Gathered:
    """What the window [start, end), in microseconds, has of these events; those of other windows are left out."""
    found: dict[str, list[Token]] = {name: [] for name in MODALITIES}
    for which, event in enumerate(events):
        match event.features:
            case Seen() as seen if start <= event.start < end:
                found["frames"].append(replace(of_picture(event.start, seen), event=which))
            case Heard() as heard:
                patches = _within(start, end, event, heard)
                found["audio"].extend(replace(of_patch(heard, number, at), event=which, patch=number) for number, at in patches)
            case Said() as said if start < max(event.end, event.start + 1) and event.start < end:
                found["transcripts"].append(replace(of_words(event, said), event=which))
    return Gathered(**{name: chosen(tokens, MOST[name]) for name, tokens in found.items()})


def _within(start: int, end: int, event: Event, heard: Heard) -> Iterator[tuple[int, int]]:
    for number, patch in enumerate(heard.patches):
        if start <= (at := middle(event.start, patch)) < end:
            yield number, at


def middle(start: int, patch: Patch) -> int:
    """When a patch is: its midpoint, of a chunk that starts at `start`, in microseconds."""
    return start + round((patch.start_s + patch.end_s) / 2 * SECOND)


def chosen(tokens: Iterable[Token], most: int) -> tuple[Token, ...]:
    """Law 2. Of one time, the most probable first; what stands in a token tells apart those that are left."""
    timely = sorted(tokens, key=lambda token: (token.at, -token.chance, token.values_D.tobytes(), token.quality_Q.tobytes()))
    kept = sorted(range(len(timely)), key=lambda at: -timely[at].chance)[:most]
    return tuple(timely[at] for at in sorted(kept))


def of_picture(at: int, seen: Seen) -> Token:
    """See FRAME_WIDTH. Boxes as in `Seen`, best first, zeros where there are fewer."""
    boxes_N5 = seen.boxes_N5
    area = float(((boxes_N5[:, 2] - boxes_N5[:, 0]) * (boxes_N5[:, 3] - boxes_N5[:, 1])).sum())
    crowd = np.array([math.log1p(len(boxes_N5)), min(area, 1.0)], np.float32)
    return _token(at, seen.chances, [crowd, _placed(boxes_N5[:BOXES].ravel(), 5 * BOXES)], seen.quality_Q)


def of_patch(heard: Heard, number: int, at: int) -> Token:
    """See AUDIO_WIDTH: of one patch of a chunk."""
    embedding_D = _placed(heard.embeddings_PD[number], yamnet.WIDTH)
    odds_L = _placed(log_odds(heard.posteriors_PL[number]), yamnet.LABELS)
    return _token(at, heard.patches[number].chances, [embedding_D, odds_L], heard.quality_PQ[number])


def of_words(event: Event, said: Said) -> Token:
    """See WORDS_WIDTH. How sure the recognizer was is quality."""
    parts = [_placed(said.embedding_D, SENTENCE), np.array([said.similarity], np.float32)]
    return _token(event.start, said.chances, parts, quality.of_words(event.text, event.confidence))


def _token(at: int, chances: Chances, parts: Sequence[Array], quality_Q: Array) -> Token:
    odds_C = log_odds(np.array([chances.get(name, 0.5) for name in CLASSES], np.float64))
    return Token(at=at, chance=max(chances.values(), default=0.0), values_D=np.concatenate([odds_C, *parts]), quality_Q=quality_Q)


def log_odds(chances: NDArray[np.floating]) -> Array:
    """Bounded by SURE; of 0.5: 0."""
    bounded = np.minimum(np.maximum(chances.astype(np.float64), SURE), 1.0 - SURE)  # `clip`, which takes longer on so few numbers
    odds: Array = np.log(bounded / (1.0 - bounded)).astype(np.float32)
    return odds


def _placed(values: Array, width: int) -> Array:
    if len(values) > width:
        raise ValueError(f"{len(values)} values of an encoder have no place in {width} of a token")
    return values if len(values) == width else np.concatenate([values, np.zeros(width - len(values), values.dtype)])


def windows_of(gathered: Sequence[Gathered]) -> Windows:
    """One batch, each modality padded to the most tokens that a window has of it (one at least)."""
    return Windows(**{name: _stream([getattr(one, name) for one in gathered], name) for name in MODALITIES})


def _stream(tokens: Sequence[Sequence[Token]], name: str) -> Stream:
    size = (len(tokens), max(1, max(map(len, tokens), default=0)))
    tokens_BTD = np.zeros((*size, TOKENS[name]), np.float32)
    mask_BT = np.zeros(size, np.bool_)
    quality_BQ = np.zeros((len(tokens), QUALITY[name]), np.float32)
    for at, window in enumerate(tokens):
        for place, token in enumerate(window):
            tokens_BTD[at, place] = token.values_D
        mask_BT[at, : len(window)] = True
        if window:
            quality_BQ[at] = np.mean([token.quality_Q for token in window], axis=0)
    return Stream.of(torch.from_numpy(tokens_BTD), torch.from_numpy(mask_BT), torch.from_numpy(quality_BQ))
