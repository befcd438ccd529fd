"""What runs live: the encoders of a profile, and the head that was trained on what they make.

`bundled`: pretrained weights, and the head that ships in `heads/` (its card lies beside it). `tiny`: random ones, for tests.

Laws:
1. A head reads the encoders that it was trained on, and no others; on a GPU the person detector is the one that its 8 bits were made of.
2. An encoder's fingerprint changes with its weights and tables. Whoever changes code that a feature depends on trains the head again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from models import weights
from models.audioset import TABLE
from models.calibration import PATTERNS, Calibration, Scale, Temperature
from models.classes import LABELS
from models.features import ImageEncoder, SoundEncoder, TextEncoder
from models.fusion.methods import DEFAULT
from models.head import About, FusionHead
from models.packages import PackageError
from models.persons import ASSET_SHA256, SOURCE_SHA256, PersonDetector
from models.persons_torch import TorchPersonDetector
from models.tiny import TinyImages, TinySounds, TinyWords
from models.tokens import widths
from models.words import PROTOTYPES, SentenceEncoder, WordJudge
from models.yamnet import YamnetEncoder

BATCH = 32
"""Patches of sound in one forward."""
HEAD = Path(__file__).with_name("heads") / "bundled.safetensors"
HEAD_SHA256 = "378c483e7f083b1bb92da32d37c7a2c7ec71597b1e303f0ca12e8f728983a45d"
TINY = "tiny-2"
WINDOW_S = 2.0
"""Seconds of a window in training: of other lengths a probability is not calibrated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoders:
    """One of each kind. `fingerprint`: of their weights and tables (law 2)."""

    images: ImageEncoder
    sounds: SoundEncoder
    words: TextEncoder
    fingerprint: str

    @classmethod
    def bundled(cls, home: Path | None, *, device: str = "cpu", batch: int = BATCH) -> Encoders:
        """Those with pretrained weights. PackageError: missing or altered. How many threads torch has is left as it is.

        People are found in 8 bits on a CPU, as when the head was trained; on any other device by the published network in floats. Its
        chances differ by 0.01 on average and by 0.16 at most (persons.py), so the fingerprint is another. What the head of 2026-11-26 made
        of them was as good: AP of person, intrusion and breakage within 0.2 points, calibration error within 0.001 (400 scenes of test
        and calibration); of the one that ships now it was not measured.
        """
        return cls(
            images=PersonDetector.load() if device == "cpu" else TorchPersonDetector.load(device=device),
            sounds=YamnetEncoder.load(weights.locate(home, "yamnet"), device=device, batch=batch),
            words=WordJudge(SentenceEncoder.load(weights.locate(home, "minilm"), device=device)),
            fingerprint=fingerprint(device),
        )

    @classmethod
    def tiny(cls) -> Encoders:
        """Random ones."""
        return cls(images=TinyImages(), sounds=TinySounds(), words=TinyWords(), fingerprint=TINY)


def fingerprint(device: str = "cpu") -> str:
    """Of the bundled encoders, and of the tables that turn what they find into chances of the classes."""
    parts = (
        weights.fingerprint(),
        ASSET_SHA256 if device == "cpu" else SOURCE_SHA256,
        TABLE.read_text("utf-8"),
        PROTOTYPES.read_text("utf-8"),
    )
    return "bundled-" + hashlib.sha256(json.dumps(parts, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def bundled_head(path: Path = HEAD, sha256: str = HEAD_SHA256) -> FusionHead:
    """The head that ships. PackageError: altered, or trained for other encoders (law 1)."""
    head = FusionHead.load(weights.check_file(path, sha256))
    if head.about.encoders != fingerprint():
        raise PackageError(f"{path.name} was trained on other encoders than these: train it again with `streamer models train`")
    return head


def tiny_head() -> FusionHead:
    """Untrained, so a window scores what its encoders say; its calibration changes nothing."""
    about = About(method=DEFAULT, widths=widths(len(LABELS)), classes=LABELS, encoders=TINY, seed=0, recipe="")
    plain = [Scale(name=name, scale=1.0, bias=0.0, threshold=0.5, positives=0, negatives=0) for name in LABELS]
    level = {name: Temperature(value=1.0, windows=0, fitted_on=None) for name in PATTERNS}
    none = Calibration(split="nothing", windows=0, hours=0.0, per_hour=0.0, classes=tuple(plain), temperatures=level)
    return FusionHead(about, none)
