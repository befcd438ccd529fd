"""Sessions as they would arrive, and the whole way of a window: encode what is new, gather, score and explain.

Laws:
1. Each picture, second of sound and transcript is encoded once, however many windows it belongs to.
2. What a session sends depends on the session and the hop alone.

A session: a camera of PICTURES a second, a microphone in chunks of a second, and somebody speaks in one second of SPEECH_EVERY. A window
ends every second and is two long, as in the default configuration. Hops are whole seconds. Shape key: as in models/fusion/windows.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.bench.encoders import Parts
from models.bench.machine import Ticks
from models.features import Array, Heard, Said, Seen
from models.head import FusionHead
from models.tokens import SECOND, Event, Gathered, gather, windows_of
from models.yamnet import SAMPLE_RATE

PICTURES = 2  # a second
SPEECH_EVERY = 5
HOP, WINDOW = 1, 2  # seconds
HEIGHT, WIDTH = 360, 640  # pixels of a picture
_POOL = 16
_TEXTS = (
    "good morning how are you today",
    "the train arrives on platform four",
    "somebody is breaking in, help",
    "give me the money or I will hurt you",
    "I need to charge my phone. Can you help me with it?",
)
Given = TypeVar("Given")
Got = TypeVar("Got")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class New:
    """What one session sent in one hop."""

    pictures: tuple[NDArray[np.uint8], ...]
    sound: Array
    text: str | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judged:
    """Probabilities and Shapley values, float64, in the order of the windows that were asked for."""

    probability_BC: Tensor
    share_BMC: Tensor


class Scene:
    """Noise from a small pool: the content costs nothing to make and changes no time."""

    def __init__(self, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self._pictures = [generator.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) for _ in range(_POOL)]
        self._sounds = [(generator.normal(size=SAMPLE_RATE) * 0.1).astype(np.float32) for _ in range(_POOL)]

    def new(self, session: int, hop: int) -> New:
        """Of that session in that second."""
        return New(
            pictures=tuple(self._pictures[(7 * session + PICTURES * hop + at) % _POOL] for at in range(PICTURES)),
            sound=self._sounds[(5 * session + hop) % _POOL],
            text=_TEXTS[(session // SPEECH_EVERY + hop) % len(_TEXTS)] if (session + hop) % SPEECH_EVERY == 0 else None,
        )


@dataclass(slots=True, eq=False)
class Pipeline:
    """One process. `spent`: seconds by stage, since it was made."""

    parts: Parts
    head: FusionHead
    scene: Scene
    clock: Ticks = time.perf_counter
    spent: dict[str, float] = field(default_factory=dict)
    _held: dict[int, list[Event]] = field(default_factory=dict)

    def step(self, due: Sequence[tuple[int, int]]) -> Judged:
        """The windows of these (session, hop): each ends with that hop. A session's hops come in their order."""
        gathered = self.gathered(due)
        with self._timing("score and explain"):
            parts = [self._judge(some) for some in self._groups(gathered)]
        return Judged(probability_BC=torch.cat([one for one, _ in parts]), share_BMC=torch.cat([one for _, one in parts]))

    def gathered(self, due: Sequence[tuple[int, int]]) -> list[Gathered]:
        """The tokens of those windows, after what is new in them was encoded."""
        self._encode(due)
        with self._timing("gather"):
            return [self._gathered(session, hop) for session, hop in due]

    def _encode(self, due: Sequence[tuple[int, int]]) -> None:
        new = [self.scene.new(session, hop) for session, hop in due]
        with self._timing("pictures"):
            seen = iter(self._all(self.parts.images, [picture for one in new for picture in one.pictures]))
        with self._timing("sound"):
            heard = iter(self._all(self.parts.sounds, [one.sound for one in new]))
        with self._timing("words"):
            said = iter(self._all(self.parts.words, [one.text for one in new if one.text is not None]))
        for (session, hop), one in zip(due, new, strict=True):
            events = [_picture(hop, at, next(seen)) for at in range(len(one.pictures))]
            events.append(_whole(hop, next(heard)))
            if one.text is not None:
                events.append(_whole(hop, next(said), one.text))
            held = self._held.get(session, [])
            self._held[session] = [event for event in held if event.end > (hop + HOP - WINDOW) * SECOND] + events

    def _gathered(self, session: int, hop: int) -> Gathered:
        end = (hop + HOP) * SECOND
        return gather(end - WINDOW * SECOND, end, self._held[session])

    def _judge(self, gathered: Sequence[Gathered]) -> tuple[Tensor, Tensor]:
        windows = windows_of(gathered)
        share_BMC, logit_BC = self.parts.judge(windows)
        if self.head.calibration is None:
            raise ValueError("this head is not calibrated")
        return self.head.calibration.apply(logit_BC, windows.present_BM), share_BMC

    def _all(self, encode: Callable[[list[Given]], list[Got]], events: list[Given]) -> list[Got]:
        return [made for some in self._groups(events) for made in encode(list(some))]

    def _groups(self, items: Sequence[Given]) -> Iterable[Sequence[Given]]:
        if self.parts.alone:
            return ([item] for item in items)
        return [items] if items else []

    @contextmanager
    def _timing(self, stage: str) -> Iterator[None]:
        start = self.clock()
        yield
        self.spent[stage] = self.spent.get(stage, 0.0) + self.clock() - start


def _picture(hop: int, at: int, seen: Seen) -> Event:
    start = hop * SECOND + at * SECOND // PICTURES
    return Event(start=start, end=start + 1, features=seen)


def _whole(hop: int, features: Heard | Said, text: str = "") -> Event:
    return Event(start=hop * SECOND, end=(hop + HOP) * SECOND, features=features, text=text)


def one_hop(sessions: int, hop: int) -> list[tuple[int, int]]:
    """Every session's window of that hop."""
    return [(session, hop) for session in range(sessions)]
