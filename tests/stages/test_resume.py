"""Where infer reads on."""

from __future__ import annotations

from dataclasses import replace

from streamer.events import Modality, Window
from streamer.stages.resume import media_positions
from tests.builders import a_ref, a_window, an_origin

FIRST = {"frames": 10, "audio": 20}


def window(*places: tuple[str, int], revision: int = 0) -> Window:
    manifest = tuple(a_ref(Modality(topic), 0, origin=an_origin(topic, offset)) for topic, offset in places)
    return replace(a_window(), manifest=manifest, revision=revision)


def test_reading_goes_on_at_the_lowest_that_an_uncommitted_window_names() -> None:
    after = [window(("frames", 33), ("audio", 41)), window(("frames", 31), ("frames", 35))]
    assert media_positions([window(("frames", 90))], after, FIRST, committed=True) == {"frames": 31, "audio": 41}


def test_without_one_it_goes_on_past_the_highest_that_a_committed_window_names() -> None:
    before = [window(("frames", 33), ("audio", 41)), window(("frames", 35))]
    assert media_positions(before, [], FIRST, committed=True) == {"frames": 36, "audio": 42}


def test_revisions_move_no_position() -> None:
    before, after = [window(("frames", 33))], [window(("frames", 12), revision=1)]
    assert media_positions(before, after, FIRST, committed=True) == {"frames": 34, "audio": None}


def test_without_a_commit_it_begins_at_the_start_of_the_log_or_the_first_window() -> None:
    assert media_positions([], [], FIRST, committed=False) == FIRST
    assert media_positions([], [window(("frames", 12))], FIRST, committed=False) == {"frames": 12, "audio": 20}


def test_what_retention_took_is_not_asked_for() -> None:
    assert media_positions([], [window(("frames", 3))], FIRST, committed=True) == {"frames": 10, "audio": None}
