"""One line per alert, without anything that a terminal could obey."""

from __future__ import annotations

import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from streamer.events import AlertState
from streamer.sinks.log import LogSink, line, printable
from tests.builders_decide import alert
from tests.sinks.test_contract import delivery


def test_a_line_says_time_severity_rule_score_contributions_words_and_that_it_is_uncalibrated() -> None:
    text = line(alert()).plain
    for part in ("WARNING", "raised", "house-1 siren", "0.83 uncalibrated", "sound +2.5", "words +0.5", "“help me”"):
        assert part in text
    assert text[2] == text[5] == ":"


def test_a_calibrated_score_is_not_called_uncalibrated_and_an_upgrade_is_shown_as_one() -> None:
    text = line(alert(calibrated=True, state=AlertState.UPGRADED)).plain
    assert "uncalibrated" not in text and "upgraded" in text


def test_words_cannot_move_the_cursor_or_turn_the_line_around() -> None:
    text = line(alert(text="a\x1b[2J\x1b]0;t\x07b\u202ec\u2066d\ne\x9bf[bold]g")).plain
    assert "\x1b" not in text and "\n" not in text and "\u202e" not in text and "[bold]g" in text


@pytest.mark.parametrize("text", ["[music] help", "[/music]", ":bomb:", "[link=https://x]y[/link]"])
async def test_words_in_brackets_are_words_and_not_markup(text: str) -> None:
    out = io.StringIO()
    await LogSink(Console(file=out, width=80)).send(delivery(text=text))
    assert f"“{text}”" in out.getvalue()


async def test_below_a_new_alert_it_says_why_and_words_in_it_are_not_obeyed() -> None:
    out = io.StringIO()
    sink = LogSink(Console(file=out, width=80))
    why = "Siren: 83%. The sound speaks for it (+2.5), most at 12:00:01.5 UTC (“\x1b[2Jhelp”). " + "x" * 200
    for state in (AlertState.RAISED, AlertState.UPDATED, AlertState.RESOLVED):
        await sink.send(delivery(explanation=why, state=state))
    lines = out.getvalue().splitlines()
    assert len(lines) == 4 and lines[1].strip() == why.replace("\x1b", "�")


@given(st.text())
def test_printable_text_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    assert all(c == " " or unicodedata.category(c)[0] not in "CZ" for c in printable(text).replace("�", ""))
