"""How far each modality's watermark is behind, as the aligner tells it for the gauge."""

from __future__ import annotations

from streamer.events import Micros, Modality, Pace
from tests.stages.align_streams import AUDIO, FRAMES, SETTINGS, TRANSCRIPTS, Driver, Log, at


def after(log: Log, *, now: float) -> dict[Modality, Micros]:
    """The delays once all of it is read, at `now` seconds after noon."""
    driver = Driver(log)
    driver.append(len(log.all))
    driver.now = at(now)
    for modality in Modality:
        driver.read(modality, 1_000)
    driver.tick()
    return driver.aligner.delays()


def test_a_delay_is_the_time_since_the_slowest_active_track_s_watermark() -> None:
    log = Log()
    log.event(FRAMES, 9)
    log.event(FRAMES, 7.5, arrival=9, source="slow", session="yard")
    log.event(AUDIO, 8, 9)
    assert after(log, now=10) == {FRAMES: 2_500_000 + SETTINGS.bound_frames, AUDIO: 1_000_000 + SETTINGS.bound_audio}


def test_a_progress_mark_shortens_the_delay() -> None:
    log = Log()
    log.event(TRANSCRIPTS, 1, 2, arrival=9)
    log.mark(TRANSCRIPTS, 8, arrival=9)
    assert after(log, now=10) == {TRANSCRIPTS: 2_000_000 + SETTINGS.bound_transcripts}


def test_idle_ended_and_recorded_tracks_have_no_delay() -> None:
    log = Log()
    log.event(FRAMES, 1)
    log.event(AUDIO, 8, 9)
    log.mark(AUDIO, 9, final=True)
    log.event(TRANSCRIPTS, 1, 2, arrival=9, session="tape", pace=Pace.RECORDED)
    assert after(log, now=10) == {}
