"""Speech: a voice detector that is fed 32 ms at a time (Silero VAD), and Whisper through faster-whisper.

Both are deterministic: the detector carries its state from `reset` on and nothing else, Whisper decodes at temperature 0
without memory of earlier segments (its default list of temperatures samples, and then the same sound gives other words).

Whisper's encoder was trained on 30 s and always computes as much; most of it is padding where a segment has a few seconds. So a short
sound is heard over a shorter context, with the padding that the network was trained on. Where a voice's words go round in circles
there, it is heard again over the whole 30 s, and what comes of that counts.

Shape key: S samples, M mel bands, F frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ctranslate2 import StorageView
from faster_whisper import WhisperModel
from faster_whisper.transcribe import Segment
from faster_whisper.vad import get_vad_model

from models.features import Array

STEP = 512  # samples, 32 ms at 16 kHz
_CONTEXT = 64  # samples of the step before that Silero wants in front
_STATE = (1, 1, 128)
WHOLE = 3_000  # frames of 10 ms: the 30 s of Whisper's encoder
CONTEXT = 1_200  # frames: what it hears of a short sound
_SPARE = 100  # frames of padding that a short sound leaves, to say where it ends
_HOP = 160  # samples in a frame
_FAINTEST = -1.5  # what silence is in features: (log10 1e-10 + 4) / 4 ...
_RANGE = 2.0  # ... but never further than 80 dB below the loudest: 8 / 4
_REPETITIVE = 2.4  # compression ratio of words that go round in circles, as in OpenAI's decoder
_NOBODY = 0.5  # chance of no speech above which it is not worth another try


class SileroVad:
    """Silero VAD v6 (it travels in faster-whisper's wheel), one step at a time. One instance per track."""

    def __init__(self) -> None:
        self._session = get_vad_model().session
        self.reset()

    def reset(self) -> None:
        """Forget everything heard so far."""
        self._h = np.zeros(_STATE, np.float32)
        self._c = np.zeros(_STATE, np.float32)
        self._context_S = np.zeros(_CONTEXT, np.float32)

    def probability(self, step_S: Array) -> float:
        """How sure it is that these 512 samples hold a voice, 0..1. ValueError for any other number of samples."""
        if step_S.shape != (STEP,):
            raise ValueError(f"a step has {STEP} samples, got an array of shape {step_S.shape}")
        step_S = step_S.astype(np.float32, copy=False)
        heard_1S = np.concatenate([self._context_S, step_S])[None]
        speech, self._h, self._c = self._session.run(None, {"input": heard_1S, "h": self._h, "c": self._c})
        self._context_S = step_S[-_CONTEXT:].copy()
        return float(speech[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """What Whisper makes of one stretch of sound. `no_speech` 0..1; `log_probability` is the mean over tokens, <= 0."""

    text: str
    confidence: float
    language: str
    no_speech: float
    log_probability: float
    compression_ratio: float


class _Near(WhisperModel):
    """The same weights, hearing no further than `context` frames. It changes nothing of the whole one, and keeps no state."""

    def __init__(self, whole: WhisperModel, context: int) -> None:
        self.__dict__.update(vars(whole))
        self._whole, self._context = whole, context

    def encode(self, features_MF: Array) -> StorageView:
        """Features come padded to WHOLE with zeros: a hiss. In training that was silence (OpenAI's `log_mel_spectrogram`): here too."""
        features_MF = features_MF[..., : self._context].copy()
        heard = int(np.flatnonzero(features_MF.any(axis=0)).max(initial=-1)) + 1
        features_MF[:, heard:] = max(_FAINTEST, float(features_MF.max()) - _RANGE)
        return self._whole.encode(features_MF)


class Whisper:
    """Whisper in CTranslate2's format, from a local folder, int8, one thread."""

    def __init__(self, model: WhisperModel, *, language: str | None, context: int = CONTEXT) -> None:
        self._whole, self._near = model, _Near(model, context)
        self._short = (context - _SPARE) * _HOP if context < WHOLE else 0  # samples
        self._language = language

    @classmethod
    def load(cls, folder: Path, *, language: str | None = "en", device: str = "cpu", context: int = CONTEXT) -> Whisper:
        """`language` None: told by the model, segment by segment. `context` WHOLE: everything is heard over 30 s, once."""
        compute = "int8" if device == "cpu" else "int8_float16"
        model = WhisperModel(str(folder), device=device, compute_type=compute, cpu_threads=1, num_workers=1, local_files_only=True)
        return cls(model, language=language, context=context)

    def transcribe(self, sound_S: Array) -> Spoken:
        """One segment (float32, 16 kHz, mono). Blocking; the same sound gives the same words. Nothing is filtered here."""
        sound_S = np.asarray(sound_S, np.float32)
        if len(sound_S) <= self._short:
            spoken = self._hear(self._near, sound_S)
            if spoken.compression_ratio <= _REPETITIVE or spoken.no_speech > _NOBODY:
                return spoken
        return self._hear(self._whole, sound_S)

    def _hear(self, model: WhisperModel, sound_S: Array) -> Spoken:
        segments, info = model.transcribe(
            sound_S,
            language=self._language,
            temperature=0.0,
            beam_size=5,
            condition_on_previous_text=False,
            no_speech_threshold=None,
            log_prob_threshold=None,
            compression_ratio_threshold=None,
        )
        return _join(list(segments), info.language)


def _join(segments: Sequence[Segment], language: str) -> Spoken:
    """Whisper cuts a sound as it likes: one text, its weakest signs, and the mean log-probability over all tokens."""
    if not segments:
        return Spoken(text="", confidence=0.0, language=language, no_speech=1.0, log_probability=-10.0, compression_ratio=0.0)
    tokens = sum(len(segment.tokens) for segment in segments)
    mean = sum(segment.avg_logprob * len(segment.tokens) for segment in segments) / max(1, tokens)
    return Spoken(
        text=" ".join(segment.text.strip() for segment in segments).strip(),
        confidence=min(1.0, math.exp(mean)),
        language=language,
        no_speech=max(segment.no_speech_prob for segment in segments),
        log_probability=min(0.0, mean),
        compression_ratio=max(segment.compression_ratio for segment in segments),
    )
