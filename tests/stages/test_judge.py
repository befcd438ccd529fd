"""A judgement as the record that is written."""

from __future__ import annotations

from streamer.errors import Reason
from streamer.events import Absent
from streamer.stages.cache import Unusable
from streamer.stages.fuse import Judgement
from streamer.stages.judge import fuse_input, scores
from tests.builders import a_class_score, a_window, some_evidence

HELD = ("picture", Unusable(reason=Reason.EXPIRED), "words")


def test_the_head_gets_none_for_what_is_unusable() -> None:
    assert fuse_input(a_window(), HELD).features == ("picture", None, "words")


def test_a_score_says_what_it_used_and_what_was_absent() -> None:
    window = a_window(revision=2)
    judgement = Judgement(classes={"siren": a_class_score()}, evidence=some_evidence())
    score = scores(window, HELD, judgement, model="m-1", calibrated=True, may_alert=False)
    picture, sound, words = window.manifest
    assert score.absent == (Absent(ref=sound, reason="expired"),)
    assert score.sources == (picture.origin, words.origin)
    assert (score.window, score.revision, score.trigger, score.model, score.calibrated) == (window.id, 2, window.trigger, "m-1", True)
    assert score.completeness == window.completeness and not score.may_alert
