"""What small encoders make fits where fusion reads what the bundled ones make."""

from __future__ import annotations

import numpy as np
import pytest

from models.fusion.windows import MODALITIES
from models.small.file import WIDTHS
from models.small.picture import SmallPictures
from models.small.sound import SmallSounds
from models.small.text import SmallTexts
from models.tokens import CHANCES, SECOND, TOKENS, Event, gather, windows_of
from tests.models.small.builders import network, noise, picture


@pytest.mark.parametrize("width", [WIDTHS.start, WIDTHS[-1]])
@pytest.mark.parametrize(("picturing", "hearing"), [("picture-cnn", "sound-crnn"), ("picture-vit", "sound-cnn")])
def test_features_become_tokens_of_every_modality(picturing: str, hearing: str, width: int) -> None:
    images, sounds, texts = (network(name, width=width) for name in (picturing, hearing, "text-gru"))
    (seen,) = SmallPictures(images[0], images[1].classes)([picture(1)])
    (heard,) = SmallSounds(sounds[0], sounds[1].classes)([noise(1)])
    (said,) = SmallTexts(texts[0], texts[1].classes)(["help me"])
    events = [
        Event(start=0, end=0, features=seen),
        Event(start=0, end=SECOND, features=heard),
        Event(start=0, end=SECOND, features=said, text="help me", confidence=0.9),
    ]
    windows = windows_of([gather(0, 2 * SECOND, events)])
    assert windows.present_BM.all()
    for name in MODALITIES:
        token_D = getattr(windows, name).tokens_BTD[0, 0].numpy()
        assert len(token_D) == TOKENS[name] and np.isfinite(token_D).all() and token_D[:CHANCES].any()
