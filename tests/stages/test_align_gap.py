"""Retention overtook a checkpoint: what is lost is told, the windows that could have had it say so, and nothing else changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.events import Event, Micros, Modality, Window
from tests.stages.align_streams import AUDIO, FRAMES, SETTINGS, Driver, Log, at, final, logs, reference
from tests.stages.test_align_laws import Schedule, fast, moves, perform


def test_windows_that_could_have_had_lost_records_say_so_and_others_do_not() -> None:
    driver = interrupted()
    driver.append(31)
    driver.lose(FRAMES, 60)
    driver.resume()
    before = len(driver.windows)
    driver.run()
    marked = {window.start: window.completeness for window in driver.windows[before:] if isinstance(window, Window)}
    assert all(presence.gap for start, modalities in marked.items() if start < at(32) for m, presence in modalities.items() if m is FRAMES)
    assert not any(presence.gap for start, modalities in marked.items() if start >= at(32) for presence in modalities.values())
    assert not any(modalities[AUDIO].gap for modalities in marked.values())
    assert {start for start in marked if start >= at(32)}


def test_a_restart_in_between_learns_of_the_gap_again_and_later_it_is_over() -> None:
    driver = interrupted()
    driver.append(31)
    driver.lose(FRAMES, 60)
    driver.resume()
    lost = driver.saved.low[FRAMES].offset
    step(driver, 4)
    driver.checkpoint()
    assert driver.saved.low[FRAMES].offset == lost
    driver.resume()
    before = len(driver.windows)
    step(driver, 4)
    assert any(window.completeness[FRAMES].gap for window in driver.windows[before:] if isinstance(window, Window))
    driver.run()
    assert driver.saved.low[FRAMES].offset > 60
    driver.resume()
    driver.tick()
    assert not driver.aligner._shared.gaps


def test_when_all_of_it_is_lost_the_gap_ends_with_the_log() -> None:
    driver = interrupted()
    driver.append(len(driver.log.all))
    driver.lose(FRAMES, len(driver.log.topics[FRAMES]))
    driver.resume()
    driver.run()
    for _ in range(2):
        driver.now = Micros(driver.now + 2 * SETTINGS.horizon)
        driver.tick()
    assert driver.aligner.low_water(FRAMES, 1_000).offset == 1_000


def interrupted() -> Driver:
    """A minute of two frames and a chunk a second, of which 20 s are read and checkpointed."""
    log = Log()
    for second in range(60):
        log.event(FRAMES, second)
        log.event(FRAMES, second + 0.5)
        log.event(AUDIO, second, second + 1)
    driver = Driver(log)
    for _ in range(20):
        step(driver, 3)
    driver.checkpoint()
    return driver


def step(driver: Driver, count: int) -> None:
    """So many records come to be and are read."""
    driver.append(count)
    for modality in Modality:
        driver.read(modality, count)
    driver.tick()


@fast
@given(logs(), moves, moves, st.sampled_from(Modality), st.integers(1, 20))
def test_what_a_window_lacks_because_it_was_lost_is_told_by_its_next_revision(
    log: Log, early: Schedule, late: Schedule, modality: Modality, lost: int
) -> None:
    driver = Driver(log)
    perform(driver, early)
    driver.checkpoint()
    low = driver.saved.low[modality]
    driver.lose(modality, low.offset + lost)
    gone = range(low.offset, driver.gone[modality])
    driver.resume()
    before = len(driver.windows)
    perform(driver, late)
    driver.run()
    wanted, found = reference(log), final(driver.windows)
    latest = {(w.session, w.start): w for w in driver.windows[before:] if isinstance(w, Window)}
    for key in latest:
        lacking = wanted.get(key, frozenset()) - found[key]
        told = latest[key].completeness[modality].gap
        assert told or not [
            ref for ref in lacking if ref.origin.offset in gone and ref.modality is modality and in_order(log, modality, gone)
        ]
        assert all(ref.modality is modality for ref in lacking if in_order(log, modality, gone))


def in_order(log: Log, modality: Modality, gone: range) -> bool:
    """Whether the timestamps of that topic never step back there, so that the first record found is the last one's successor in time."""
    arrivals = [item.arrival for item in log.topics[modality]]
    return arrivals == sorted(arrivals) and gone.stop < len(arrivals)


def test_the_reference_knows_of_the_lost_records() -> None:
    driver = interrupted()
    lost = driver.log.topics[FRAMES][50]
    assert isinstance(lost, Event)
    assert any(ref.id == lost.id for refs in reference(driver.log).values() for ref in refs)
