"""Laws of models/evaluation/attention_plot.py: what stands in its panels, and that it draws them."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from models.attention import by_token, gates, maps
from models.classes import LABELS
from models.evaluation.attention_plot import QUOTE, draw, panels
from models.head import FusionHead
from models.tokens import SECOND, gather, windows_of
from tests.models.fusion.builders import shaken
from tests.models.test_account import made, picture, sound, words

EVENTS = [
    *(picture(10.0 + at / 2, 0.1 + at / 10, at % 3) for at in range(8)),
    *(sound(10.0 + at, ("Siren", 0.1 + at / 5)) for at in range(4)),
    words(11.5, "$x^2$ <b>ignore</b> & what was said before", 0.8),
    words(11.8, "Stop", 0.3),
]
STARTS, LENGTH = [10 * SECOND, 11 * SECOND, 12 * SECOND], 2 * SECOND


@pytest.fixture(scope="module")
def head() -> FusionHead:
    return shaken(made())


def test_a_field_is_a_token_s_share_of_a_window_and_empty_elsewhere(head: FusionHead) -> None:
    frames, audio, said, *rest = [panel for row in panels(head, EVENTS, STARTS, LENGTH) for panel in row if panel]
    assert frames.labels == tuple(f"{at / 2:.1f} s" for at in range(8)) and audio.labels == ("0.5 s", "1.5 s", "2.5 s", "3.5 s")
    assert said.labels == ("“$x^2$ <b>ignore</b> & w…” 1.5 s", "“Stop” 1.8 s") and len("$x^2$ <b>ignore</b> & w…") == QUOTE
    windows = windows_of([gather(start, start + LENGTH, EVENTS) for start in STARTS])
    weight_BT = by_token(maps(head, windows), windows)["pool"]["audio"].tolist()
    for y, row in enumerate(audio.shares):
        for b, share in enumerate(row):
            assert share == weight_BT[b][y - b] if b <= y < b + 2 else math.isnan(share)
    assert [panel.title for panel in rest] == ["frames, gates", "audio, gates", "transcripts, gates"]


def test_gates_are_of_the_classes_in_which_a_modality_has_a_voice() -> None:
    head = shaken(made())
    head.method.experts.speaks_MC[0, 1:] = False
    head.method.experts.speaks_MC[2] = False
    *_, seen, heard = [panel for row in panels(head, EVENTS, STARTS, LENGTH) for panel in row if panel]
    assert seen.labels == LABELS[:1] and heard.title == "audio, gates" and heard.labels == LABELS
    windows = windows_of([gather(start, start + LENGTH, EVENTS) for start in STARTS])
    assert seen.shares == (tuple(gates(head, windows)[:, 0, 0].tolist()),)


def test_a_reader_has_a_column_and_a_modality_a_row() -> None:
    rows = panels(shaken(made("cross_attention")), EVENTS, STARTS, LENGTH)
    assert [[panel.title if panel else None for panel in row] for row in rows] == [
        ["frames, read by pool", None, "frames, read by audio", "frames, read by transcripts"],
        ["audio, read by pool", "audio, read by frames", None, "audio, read by transcripts"],
        ["transcripts, read by pool", "transcripts, read by frames", "transcripts, read by audio", None],
    ]
    without_words = panels(shaken(made("attention_pooling")), EVENTS[:-2], STARTS, LENGTH)
    assert [[panel.title if panel else None for panel in row] for row in without_words] == [
        ["frames, read by query"],
        ["audio, read by query"],
    ]


@pytest.mark.parametrize("name", ["map.svg", "map.png"])
def test_it_is_drawn_the_same_bytes_again_and_what_was_said_is_text(name: str, tmp_path: Path) -> None:
    head = shaken(made("bottleneck"))
    draw(head, EVENTS, STARTS, LENGTH, tmp_path / name)
    found = (tmp_path / name).read_bytes()
    draw(head, EVENTS, STARTS, LENGTH, tmp_path / name)
    assert (tmp_path / name).read_bytes() == found
    if name.endswith("svg"):
        assert "“$x^2$ &lt;b&gt;ignore&lt;/b&gt; &amp; w…” 1.5 s</text>" in found.decode()
    else:
        assert found.startswith(b"\x89PNG")


def test_what_cannot_be_drawn_is_refused(head: FusionHead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"must end in \.svg or \.png"):
        draw(head, EVENTS, STARTS, LENGTH, tmp_path / "map.gif")
    with pytest.raises(ValueError, match="nothing to draw"):
        draw(head, EVENTS, [], LENGTH, tmp_path / "map.svg")
    with pytest.raises(ValueError, match="nothing to draw"):
        draw(made("bottleneck"), [], STARTS, LENGTH, tmp_path / "map.svg")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'streamer\[training\]'"):
        draw(head, EVENTS, STARTS, LENGTH, tmp_path / "map.svg")
