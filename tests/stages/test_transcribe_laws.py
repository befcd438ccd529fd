"""The listener's laws: several tracks of one partition, in arrival time, through ticks, checkpoints and crashes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.config import AlignSettings
from streamer.events import SECOND, Event, Mark, Micros, Modality, Origin, Pace, Track
from streamer.stages.align import Aligner, Rejected
from streamer.stages.times import EARLIEST, LATEST
from streamer.stages.transcribe import GAP, RATE, START, Checkpoint, Listener, Segment, Sound, refused
from tests.builders import a_mark, a_track, an_event, an_origin
from tests.stages.test_transcribe import SETTINGS, T0, LeakyVad, talk

ALIGN = AlignSettings()
HASTY = AlignSettings(session_end="12s")  # tracks are forgotten while others hold sound, and sooner than what is late
YEAR_2100 = Micros(4_102_444_800 * SECOND)
END_OF_TIME = Micros(LATEST + 24 * 3_600 * SECOND)

TRACKS = tuple(a_track(Modality.AUDIO, source=f"mic-{n}") for n in range(3))
HALF = SECOND // 2
LOUD, FAINT, ENDING = (talk(plan)[: RATE // 2] for plan in ([(True, 16)], [(False, 16)], [(True, 7), (False, 9)]))
SOUNDS = (LOUD, LOUD, FAINT, ENDING)
PACES = dict(zip(TRACKS, (Pace.LIVE, Pace.LIVE, Pace.RECORDED), strict=True))


@dataclass(frozen=True)
class Item:
    """One record: what it is, its sound, and its broker's timestamp."""

    head: Event | Mark
    sound: Sound
    arrival: Micros


@dataclass
class Log:
    """A partition's records, at their offsets; each track's event time goes on from `at`."""

    arrival: int = T0
    items: list[Item] = field(default_factory=list)
    at: dict[Track, int] = field(default_factory=dict)

    def chunk(self, track: Track, sound: Sound = LOUD, *, start: int | None = None, pace: Pace = Pace.LIVE) -> None:
        begin = Micros(self.at.get(track, self.arrival - HALF) if start is None else start)
        end = Micros(begin + len(sound) * SECOND // RATE)
        event = an_event(Modality.AUDIO, track=track, start=begin, end=end, origin=self._origin(), arrival=self.arrival, pace=pace)
        self.items.append(Item(event, sound, Micros(self.arrival)))
        self.at[track] = end if start is None else self.at.get(track, end)

    def mark(self, track: Track, *, final: bool = True, pace: Pace = Pace.LIVE) -> None:
        until = Micros(self.at.get(track, self.arrival))
        mark = a_mark(Modality.AUDIO, track=track, final=final, origin=self._origin(), arrival=Micros(self.arrival), pace=pace)
        self.items.append(Item(replace(mark, until=until), FAINT, Micros(self.arrival)))

    def again(self) -> None:
        """The newest record comes twice."""
        if self.items:
            last = self.items[-1]
            self.items.append(replace(last, head=replace(last.head, origin=self._origin()), arrival=Micros(self.arrival)))

    def _origin(self) -> Origin:
        return an_origin("audio", len(self.items))


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Jitter, outages, duplicates, ends, wrong clocks, timestamps that step back."""
    log = Log()
    for _ in range(draw(st.integers(5, 40))):
        log.arrival += draw(st.sampled_from([HALF, HALF, HALF, 0, -2 * SECOND, 5 * SECOND, 5 * SECOND + 1, 20 * SECOND, 700 * SECOND]))
        track, sound = draw(st.sampled_from(TRACKS)), draw(st.sampled_from(SOUNDS))
        match draw(st.sampled_from(["on", "on", "on", "on", "on", "on", "now", "again", "end", "progress", "2100", "1970"])):
            case "on":
                if track in log.at:
                    log.at[track] += draw(st.sampled_from([0, 0, 20_000, -20_000, 2 * SECOND]))
                log.chunk(track, sound, pace=PACES[track])
            case "now":
                log.at.pop(track, None)
                log.chunk(track, sound, pace=PACES[track])
            case "again":
                log.again()
            case "2100":
                log.chunk(track, sound, start=YEAR_2100, pace=PACES[track])
            case "1970":
                log.chunk(track, sound, start=0, pace=PACES[track])
            case kind:
                log.mark(track, final=kind == "end", pace=PACES[track])
    return log


Said = tuple[Track, int, int, bytes]


def key(track: Track, segment: Segment) -> Said:
    return track, segment.start, segment.end, segment.sound.tobytes()


def hear(listener: Listener, item: Item) -> Iterator[tuple[Track, Segment]]:
    """What the agent does with a record."""
    listener.arrive(item.arrival)
    if listener.refuses(item.head):
        return
    if isinstance(item.head, Event):
        yield from ((item.head.track, segment) for segment in listener.push(item.head, item.sound))
    elif item.head.final:
        yield from ((item.head.track, segment) for segment in listener.end(item.head))


def a_listener(align: AlignSettings = ALIGN) -> Listener:
    return Listener(SETTINGS, align, LeakyVad)


def undisturbed(log: Log, align: AlignSettings = ALIGN) -> set[Said]:
    """Record by record, and no tick before the end."""
    listener = a_listener(align)
    found = [pair for item in log.items for pair in hear(listener, item)]
    found += [(track, segment) for track, _, segment in listener.tick(END_OF_TIME)]
    return {key(*pair) for pair in found}


def disturbed(log: Log, align: AlignSettings, chance: Random) -> set[Said]:
    """With ticks that know no more than what was read, checkpoints, and workers that die. Checks that no mark passes what is new."""
    listener, saved, at, crashes, clock = a_listener(align), b"", 0, 3, int(START)
    found: set[Said] = set()
    promised: dict[Track, int] = {}

    def take(track: Track, segment: Segment) -> None:
        one = key(track, segment)
        forgotten = align is HASTY or PACES[track] is Pace.RECORDED  # it may come back with what was promised not to come
        assert forgotten or one in found or segment.start >= promised.get(track, 0)
        found.add(one)

    while at < len(log.items):
        item = log.items[at]
        if chance.random() < 0.3:
            for track, _, segment in listener.tick(Micros(chance.randint(clock, max(clock, item.arrival)))):
                take(track, segment)
        if chance.random() < 0.3:
            saved = msgspec.json.encode(listener.checkpoint(at))
        if crashes and chance.random() < 0.15:
            crashes -= 1
            checkpoint = msgspec.json.decode(saved, type=Checkpoint) if saved else Checkpoint(offset=0, clock=START)
            listener = a_listener(align)
            listener.restore(checkpoint)
            at, clock = checkpoint.offset, checkpoint.clock
            continue
        for track, segment in hear(listener, item):
            take(track, segment)
        promised |= {track: max(promised.get(track, 0), mark) for track in TRACKS if (mark := listener.progress(track))}
        clock, at = max(clock, item.arrival), at + 1
    for track, _, segment in listener.tick(END_OF_TIME):
        take(track, segment)
    return found


@settings(deadline=None, max_examples=300)
@given(log=logs(), align=st.sampled_from([ALIGN, HASTY]), seed=st.integers(0, 1 << 32))
def test_ticks_batches_checkpoints_and_crashes_change_no_segment(log: Log, align: AlignSettings, seed: int) -> None:
    assert disturbed(log, align, Random(seed)) == undisturbed(log, align)


@pytest.mark.parametrize(("pause", "segments"), [(5 * SECOND, 1), (5 * SECOND + 1, 2)])
def test_a_sentence_is_closed_by_a_gap_in_arrival_alone(pause: int, segments: int) -> None:
    log = Log()
    for n in range(4):
        log.arrival += pause if n == 2 else HALF
        log.chunk(TRACKS[0])
    assert len(undisturbed(log)) == segments


def test_a_tick_writes_what_a_dead_microphone_said_last() -> None:
    log, listener = Log(), a_listener()
    for _ in range(3):
        log.chunk(TRACKS[0])
    assert not [pair for item in log.items for pair in hear(listener, item)]
    assert not list(listener.tick(Micros(log.arrival + ALIGN.idle)))
    assert len(list(listener.tick(Micros(log.arrival + ALIGN.idle + 1)))) == 1
    assert not listener.holding(TRACKS[0])


@pytest.mark.parametrize("pace", Pace)
@pytest.mark.parametrize("wrong", [YEAR_2100, 0, EARLIEST, LATEST - HALF])
def test_one_wrong_clock_does_not_deafen_a_track(pace: Pace, wrong: int) -> None:
    log, clean = Log(), Log()
    for n in range(12):
        for each in (log, clean):
            each.arrival += HALF
            each.chunk(TRACKS[0], LOUD if n % 6 < 3 else FAINT, pace=pace)
        if n == 3:
            log.chunk(TRACKS[0], start=wrong, pace=pace)
    assert undisturbed(log) == undisturbed(clean) != set()


TIMES = st.one_of(
    st.integers(-200, 200).map(lambda seconds: T0 + seconds * SECOND),
    st.sampled_from([0, YEAR_2100, EARLIEST, EARLIEST + SECOND, LATEST, LATEST - SECOND]),
    st.integers(-25, 25).map(lambda hours: T0 + hours * 3_600 * SECOND),
)


@settings(max_examples=300)
@given(
    starts=st.lists(TIMES, min_size=1, max_size=3),
    length=st.sampled_from([0, SECOND, 60 * SECOND, 61 * SECOND]),
    pace=st.sampled_from(Pace),
)
def test_what_align_refuses_or_calls_late_is_refused_and_nothing_else(starts: list[int], length: int, pace: Pace) -> None:
    aligner, base = Aligner(ALIGN, {}), None
    for offset, start in enumerate(starts):
        event = an_event(
            Modality.AUDIO, start=Micros(start), end=Micros(start + length), arrival=T0, pace=pace, origin=an_origin("audio", offset)
        )
        outputs = aligner.push(event, T0)
        assert refused(event, T0, base, ALIGN) == bool(outputs)
        if base is None and not any(isinstance(output, Rejected) for output in outputs):
            base = event.start


def test_tracks_that_send_nothing_but_marks_are_not_remembered() -> None:
    log, listener = Log(), a_listener()
    for n in range(100):
        log.mark(a_track(Modality.AUDIO, source=f"mic-{n}"), final=n % 2 == 0)
    assert not [pair for item in log.items for pair in hear(listener, item)]
    assert len(listener) == 0


def test_a_track_is_remembered_after_its_end_and_forgotten_in_time() -> None:
    log, listener = Log(), a_listener()
    log.chunk(TRACKS[0])
    log.mark(TRACKS[0])
    log.arrival += ALIGN.session_end
    log.chunk(TRACKS[1])
    log.arrival += 1
    log.mark(TRACKS[1])
    kept = []
    for at, item in enumerate(log.items, start=1):
        list(hear(listener, item))
        kept.append([one.source for one in listener.checkpoint(at).tracks])
    assert kept == [["mic-0"], ["mic-0"], ["mic-0", "mic-1"], ["mic-1"]]
    assert len(listener) == 1


@pytest.mark.parametrize("milliseconds", [20, 40, 60, 100])
def test_short_chunks_are_heard(milliseconds: int) -> None:
    step, log = RATE * milliseconds // 1_000, Log()
    sound = talk([(True, 63)])[: 2 * RATE]
    for at in range(0, len(sound), step):
        log.arrival += milliseconds * 1_000
        log.chunk(TRACKS[0], sound[at : at + step])
    assert sum(end - start for _, start, end, _ in undisturbed(log)) >= 2 * SECOND - GAP


@pytest.mark.parametrize("twice", [False, True])
def test_a_track_is_kept_as_long_as_something_of_it_would_be_read_again(twice: bool) -> None:
    log, listener = Log(), a_listener(HASTY)
    log.chunk(TRACKS[1])
    if twice:
        begin = log.at[TRACKS[1]]
        log.chunk(TRACKS[1])
        log.mark(TRACKS[1])
    low = len(log.items)
    log.chunk(TRACKS[0])
    if twice:
        log.chunk(TRACKS[1], start=begin)
    else:
        log.chunk(TRACKS[1])
        log.mark(TRACKS[1])
    for _ in range(3):
        log.arrival += HASTY.idle
        log.chunk(TRACKS[0])
    found = {key(*pair) for item in log.items for pair in hear(listener, item)}
    checkpoint = listener.checkpoint(len(log.items))
    assert checkpoint.offset == low
    listener = a_listener(HASTY)
    listener.restore(checkpoint)
    found |= {key(*pair) for item in log.items[low:] for pair in hear(listener, item)}
    assert found | {key(track, segment) for track, _, segment in listener.tick(END_OF_TIME)} == undisturbed(log, HASTY)


def test_timestamps_that_step_back_do_not_undo_a_silence() -> None:
    log, listener = Log(), a_listener()
    log.chunk(TRACKS[0])
    for track, step in ((TRACKS[1], 6 * SECOND), (TRACKS[0], -2 * SECOND)):
        log.arrival += step
        log.chunk(track)
    found = {key(*pair) for item in log.items[:2] for pair in hear(listener, item)}
    found |= {key(track, segment) for track, _, segment in listener.tick(Micros(log.arrival + 2 * SECOND))}
    found |= {key(*pair) for pair in hear(listener, log.items[2])}
    assert found | {key(track, segment) for track, _, segment in listener.tick(END_OF_TIME)} == undisturbed(log)
