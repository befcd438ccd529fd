"""Records of one window that several workers wrote: what the log effectively holds, and what is still lacking."""

from __future__ import annotations

from dataclasses import replace

from streamer.events import Clock, Event, Modality, SessionMark, Window
from streamer.stages.align import Aligner
from tests.stages.align_streams import FRAMES, SETTINGS, Driver, Log, at, ref
from tests.stages.test_align import read, street


def two_frames() -> tuple[Event, Event, Window]:
    """Two events, and a window that could hold them."""
    log = Log()
    window = next(w for w in read(Driver(street(4))) if isinstance(w, Window) and w.start == at(0))
    return log.event(FRAMES, 0.2), log.event(FRAMES, 0.4), window


def test_an_old_revision_that_shows_up_again_does_not_hide_what_is_still_lacking() -> None:
    first, second, window = two_frames()
    stood = [replace(window, revision=n, manifest=(ref(event),)) for n, event in ((0, first), (1, second), (0, second))]
    aligner = Aligner(SETTINGS, {})
    aligner.restore(enumerate(stood), {})
    (mended,) = [output for output in aligner.tick({}, at(0)) if isinstance(output, Window)]
    assert (mended.revision, set(mended.manifest)) == (2, {ref(first), ref(second)})


def test_what_stands_twice_under_a_taken_revision_is_still_lacking() -> None:
    """A replaced worker wrote its revision 0 behind ours, and once more when no acknowledgement came: who reads keeps ours."""
    first, second, window = two_frames()
    stood = [replace(window, manifest=tuple(map(ref, events))) for events in ([first], [first, second], [first, second])]
    for seen_before in (0, 1):
        aligner = Aligner(SETTINGS, {})
        aligner.restore(list(enumerate(stood))[: len(stood) - seen_before], {})
        aligner.merge(list(enumerate(stood))[len(stood) - seen_before :])
        (mended,) = [output for output in aligner.tick({}, at(0)) if isinstance(output, Window)]
        assert (mended.revision, set(mended.manifest)) == (1, {ref(first), ref(second)})


def test_a_window_is_not_forgotten_while_its_last_revision_is_unacknowledged() -> None:
    """A replaced worker wrote another revision 1 before ours, which went out when the window's time was over."""
    first, second, window = two_frames()
    clocks = {modality: Clock(arrival=at(300), caught_up=True) for modality in Modality}
    aligner = Aligner(SETTINGS, {})
    aligner.restore([(0, replace(window, manifest=(ref(first),)))], {})
    assert aligner.push(second, second.arrival) == []
    late = [out for out in aligner.tick(clocks, at(300)) if isinstance(out, Window) and out.start == at(0)]
    assert [(out.revision, set(out.manifest)) for out in late] == [(1, {ref(first), ref(second)})]
    aligner.merge([(1, replace(window, revision=1, manifest=(ref(first),)))])
    aligner.written(late[0], 2)
    (mended,) = [out for out in aligner.tick(clocks, at(300)) if isinstance(out, Window) and out.start == at(0)]
    assert (mended.revision, set(mended.manifest)) == (2, {ref(first), ref(second)})


def test_a_window_whose_revisions_a_replaced_worker_wrote_further_is_forgotten_once_ours_is_acknowledged() -> None:
    log = Log()
    log.event(FRAMES, 0.2), log.event(FRAMES, 0.4)
    aligner = Aligner(SETTINGS, {})
    for event in log.all:
        assert aligner.push(event, event.arrival) == []
    caught_up = {modality: Clock(arrival=at(5), caught_up=True) for modality in Modality}
    ours = [output for output in aligner.tick(caught_up, at(5)) if isinstance(output, Window | SessionMark)]
    theirs = [replace(ours[0], manifest=ours[0].manifest[:1]), replace(ours[0], revision=1)]
    aligner.merge(enumerate(theirs))  # they stand before ours, and the later one is whole
    for _ in range(3):
        for offset, output in enumerate(ours, 2):
            aligner.written(output, offset)
        ours = list(aligner.tick({modality: Clock(arrival=at(300), caught_up=True) for modality in Modality}, at(300)))
    assert (ours, aligner.tally.held_events, aligner.oldest_out()) == ([], 0, None)
