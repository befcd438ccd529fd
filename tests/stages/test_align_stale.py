"""A topic's end is known as of a while ago: what had arrived since is aligned like all else (laws 5 and 8)."""

from __future__ import annotations

import pytest

from streamer.config import AlignSettings
from streamer.events import FRESH, SECOND, Clock, Late, Micros, Modality, SessionMark, Window
from streamer.stages.align import Aligner
from tests.stages.align_streams import Log, at, final, reference


@pytest.mark.parametrize(("skew", "stale"), [("5s", 0), ("5s", FRESH), ("1s", FRESH - 1), ("0s", FRESH)])
@pytest.mark.parametrize("start", [101.5, 101.6, 102.4])
def test_words_that_came_since_the_end_was_told_stand_in_all_their_windows(skew: str, stale: int, start: float) -> None:
    """Everything is read to its end, as a fetch `stale` microseconds ago said; words come within the horizon of 10 s all the same."""
    settings = AlignSettings(length="2s", hop="1s", horizon="10s", idle="3s", session_end="20s", skew=skew, longest_event="5s")  # type: ignore[arg-type]
    log, aligner, out = Log(), Aligner(settings, {}), list[Window | SessionMark]()
    clocks = dict.fromkeys(Modality, Micros(0))

    def tick(now: float, late: int = 0) -> None:
        known = {modality: Clock(arrival=clock, caught_up=True) for modality, clock in clocks.items()}
        for output in aligner.tick(known, Micros(at(now) + late)):
            if isinstance(output, Window | SessionMark):
                aligner.written(output, len(out))
                out.append(output)

    for tenth in range(70):
        when = 100 + tenth / 10
        for event in (log.event(Modality.FRAMES, when, name=f"f{tenth}"), log.event(Modality.AUDIO, when, when + 0.1, name=f"a{tenth}")):
            clocks[event.track.modality] = max(clocks[event.track.modality], event.arrival)
            aligner.push(event, event.arrival)
        tick(when + 0.1)
    arrival = start + 9.9
    tick(arrival - 1, stale)
    tick(arrival, stale)
    word = log.event(Modality.TRANSCRIPTS, start, start + 0.1, arrival=arrival)
    clocks[Modality.TRANSCRIPTS] = word.arrival
    assert not [output for output in aligner.push(word, word.arrival) if isinstance(output, Late)]
    tick(arrival + 0.1, stale)
    tick(arrival + 60)
    assert final(out) == reference(log, settings)
    assert word.end - word.start < SECOND
