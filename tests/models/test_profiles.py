"""Laws of models/profiles.py, and what ships: the head, its digest, its card."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from models import profiles
from models.classes import LABELS
from models.features import Seen
from models.packages import PackageError
from models.tokens import Event, gather, windows_of
from models.verdict import calibration_of

CARD = profiles.HEAD.with_suffix(".md")


def test_the_head_that_ships_reads_the_encoders_that_ship() -> None:
    head = profiles.bundled_head()
    assert (head.about.method, head.about.classes, head.about.encoders) == ("gated", LABELS, profiles.fingerprint())
    assert profiles.HEAD.stat().st_size < 4 << 20


def test_a_head_that_was_altered_or_is_of_other_encoders_is_refused(tmp_path: Path) -> None:
    data = bytearray(profiles.HEAD.read_bytes())
    data[-1] ^= 1
    (altered := tmp_path / "bundled.safetensors").write_bytes(data)
    with pytest.raises(PackageError, match="missing or altered"):
        profiles.bundled_head(altered)
    profiles.tiny_head().save(other := tmp_path / "tiny.safetensors")
    with pytest.raises(PackageError, match="other encoders"):
        profiles.bundled_head(other, hashlib.sha256(other.read_bytes()).hexdigest())


def test_the_card_is_of_this_head_and_names_every_class_with_its_threshold() -> None:
    card = CARD.read_text("utf-8")
    assert profiles.HEAD_SHA256 in card and profiles.fingerprint()[:24] in card
    assert "composed from real recordings" in card
    for one in calibration_of(profiles.bundled_head()).classes:
        (row,) = [line for line in card.splitlines() if line.startswith(f"| {one.name} |")]
        assert f"| {one.threshold:.3f} |" in row if one.threshold <= 1 else "| never |" in row


def test_the_tiny_head_says_what_the_encoders_say() -> None:
    encoders, head = profiles.Encoders.tiny(), profiles.tiny_head()
    (seen,) = encoders.images([torch.arange(300, dtype=torch.uint8).reshape(10, 10, 3).numpy()])
    assert isinstance(seen, Seen)
    windows = windows_of([gather(0, 2_000_000, [Event(start=1, end=1, features=seen)])])
    probability_C = head.probabilities(windows)[0]
    assert probability_C[LABELS.index("person")] == pytest.approx(seen.chances["person"], abs=1e-5)
    assert probability_C[LABELS.index("siren")] == 0.5  # pictures say nothing of it
