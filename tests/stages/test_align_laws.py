"""Laws 1 to 9 of the aligner (streamer/stages/align/aligner.py), each as a property over random streams and random settings.

1 to 8: test_law_1_... to test_law_8_... here; 9: the two test_law_9_... and test_what_is_held_is_forgotten_... (memory).
2 bounds, patience, waited-for: test_law_2; an expected track, a camera that trails: test_align.py.
3 idleness, flush, end, reactivation: test_law_3; test_end_marks_flush_at_once, test_silence_flushes_once_and_again_... in test_align.py.
4 closed_by, completeness: test_law_4 (closed_by stays), test_a_window_goes_out_... in test_align.py; `gap`: test_align_gap.py.
5 horizon: test_law_5. 6 skew: test_law_6. Tumbling, hopping and overlapping grids, intervals: `rules` and `logs` draw them for all.
Recorded sessions: `logs` has one in every stream; what they are measured from, and sources without number: test_align_tracks.py.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from streamer.config import AlignSettings
from streamer.errors import Reason
from streamer.events import ClosedBy, Event, Mark, Micros, Modality, Pace, SessionMark, Window
from streamer.stages.align import Aligner, Rejected
from tests.stages.align_streams import AUDIO, FRAMES, MOVE, SETTINGS, TRANSCRIPTS, Driver, Log, final, judge, logs, reference, rows, rules

fast = settings(max_examples=100, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink))
Schedule = list[tuple[str, Modality, int]]
configs = st.just(SETTINGS) | rules()
moves = st.integers(0, 60).flatmap(lambda count: rows(MOVE, count))


def windows(driver: Driver) -> list[Window]:
    return [record for record in driver.windows if isinstance(record, Window)]


@fast
@given(logs(), configs, st.booleans())
def test_law_1_the_same_inputs_give_the_same_outputs(log: Log, config: AlignSettings, live: bool) -> None:
    first, second = Driver(log, config, live=live).run(), Driver(log, config, live=live).run()
    assert first.windows == second.windows
    assert first.late == second.late


@fast
@given(logs(), configs, st.booleans())
def test_law_2_the_watermark_never_goes_back_and_waits_for_every_active_track(log: Log, config: AlignSettings, live: bool) -> None:
    driver = Driver(log, config, live=live)
    before: dict[str, int] = {}
    for outputs in driver.drain(3):
        now = driver.aligner.watermarks()
        assert all(now[session] >= before[session] for session in before if session in now)
        earlier, before = before, dict(now)
        for window in outputs:
            if isinstance(window, Window) and window.revision == 0 and window.closed_by is ClosedBy.WATERMARK:
                assert window.end <= now[window.session]
                passed_before = window.end <= earlier.get(window.session, 0)
                waited = all(watermark >= window.end for watermark in promises(driver, window))
                assert passed_before or waited or all_would_be_late(driver, window)


def all_would_be_late(driver: Driver, window: Window) -> bool:
    """Nothing can join it any more, whatever its tracks promise."""
    heard = [max(driver.now, clock.arrival) if clock.caught_up else clock.arrival for clock in driver.clocks().values()]
    return min(heard) - window.end >= driver.settings.horizon


def promises(driver: Driver, window: Window) -> list[int]:
    """The watermark of each track that this window had to wait for, found again from the log alone."""
    config = driver.settings
    progress: dict[tuple[Modality, str], int] = {}
    last: dict[tuple[Modality, str], int] = {}
    ended: set[tuple[Modality, str]] = set()
    for modality in config.wait_for:
        clock = 0
        for item in driver.log.topics[modality][: driver.position[modality]]:
            clock = max(clock, item.arrival)
            until, key = item.end if isinstance(item, Event) else item.until, (modality, item.track.source)
            if item.track.session != window.session or item.pace is not Pace.LIVE or until - clock > config.skew:
                continue
            if isinstance(item, Event) and key not in progress and clock - item.start > config.horizon:
                continue  # nobody becomes known by what is late
            if until > progress.get(key, -1):
                ended.discard(key)
            progress[key], last[key] = max(until, progress.get(key, -1)), clock
            if isinstance(item, Mark) and item.final:
                ended.add(key)
    clocks = driver.clocks()
    heard = {m: max(driver.now, c.arrival) if c.caught_up else c.arrival for m, c in clocks.items()}
    active = [key for key in progress if key not in ended and heard[key[0]] - last[key] < config.idle]
    return [progress[key] - config.bound(key[0]) for key in active if last[key] - progress[key] <= config.patience]


@fast
@given(logs(), configs, st.booleans())
def test_law_3_silence_is_judged_in_arrival_time_and_leaves_no_window_open(log: Log, config: AlignSettings, live: bool) -> None:
    driver = Driver(log, config, live=live)
    for outputs in driver.drain(4):
        for mark in outputs:
            if isinstance(mark, SessionMark):
                assert promises(driver, windowless(mark)) == []
    assert driver.aligner.tally.open_windows == driver.aligner.tally.open_events == 0


def windowless(mark: SessionMark) -> Window:
    """A window to ask `promises` about a session."""
    at = mark.at
    return Window(
        id="w", session=mark.session, start=at, end=at, revision=0, closed_by=ClosedBy.IDLE, manifest=(), completeness={}, trigger=at
    )


@fast
@given(logs(), configs, st.booleans())
def test_law_4_revisions_are_whole_and_at_most_one_goes_out_per_window_and_batch(log: Log, config: AlignSettings, live: bool) -> None:
    driver = Driver(log, config, live=live)
    for outputs in driver.drain(3):
        ids = [output.id for output in outputs if isinstance(output, Window)]
        assert len(ids) == len(set(ids))
    known: dict[str, Window] = {}
    for window in windows(driver):
        before = known.get(window.id)
        assert window.revision == (before.revision + 1 if before else 0)
        assert window.manifest
        assert list(window.manifest) == sorted(window.manifest, key=lambda ref: (ref.start, ref.modality, ref.source, ref.id))
        if before:
            assert set(before.manifest) < set(window.manifest)
            assert window.closed_by is before.closed_by
        known[window.id] = window


@fast
@given(logs(), configs, st.booleans())
def test_law_5_every_record_is_aligned_late_rejected_a_duplicate_or_a_mark(log: Log, config: AlignSettings, live: bool) -> None:
    driver, verdict = Driver(log, config, live=live).run(), judge(log, config)
    tally = driver.aligner.tally
    events = [item for item in log.all if isinstance(item, Event)]
    rejected = [output.item for output in driver.rejected.values()]
    assert set(driver.late) == {event.origin for event in verdict["late"]}
    assert {item.origin for item in rejected if isinstance(item, Event)} == {event.origin for event in verdict["future"]}
    assert tally.marks.total() + sum(isinstance(item, Mark) for item in rejected) == len(log.all) - len(events)
    assert tally.aligned.total() + tally.duplicates.total() == len(verdict["fit"])
    in_windows = {ref.origin for window in windows(driver) for ref in window.manifest}
    assert len(in_windows) == tally.aligned.total()


@fast
@given(logs(), st.data())
def test_law_6_records_from_the_future_move_nothing(log: Log, data: st.DataObject) -> None:
    plain, disturbed = Aligner(SETTINGS, {}), Aligner(SETTINGS, {})
    clocks = dict.fromkeys(Modality, Micros(0))
    for item in log.all:
        modality = item.track.modality
        clock = clocks[modality] = max(clocks[modality], item.arrival)
        if isinstance(item, Event) and item.pace is Pace.LIVE and data.draw(st.booleans()):
            ahead = replace(item, start=Micros(clock + 3_600_000_000), end=Micros(clock + 3_600_000_000))
            [refused] = disturbed.push(ahead, clock)
            assert isinstance(refused, Rejected)
            assert refused.reason is Reason.FUTURE
        assert plain.push(item, clock) == disturbed.push(item, clock)
        assert plain.tick({}, clock) == disturbed.tick({}, clock)
        assert plain.watermarks() == disturbed.watermarks()


@fast
@given(logs(), configs, st.randoms(use_true_random=False))
def test_law_7_duplicates_and_order_within_the_horizon_change_nothing(log: Log, config: AlignSettings, random: object) -> None:
    fit = [event for event in judge(log, config)["fit"] if event.end <= event.arrival]
    fit = list({(event.track, event.id): event for event in fit}.values())
    shuffled, tidy = Log(), Log()
    for event in sorted(fit, key=lambda event: event.arrival):
        tidy._append(replace(event, origin=tidy._next(event.track.modality)))
    groups: dict[int, list[Event]] = {}
    for event in fit + fit[::2]:
        groups.setdefault(event.arrival // 2_000_000, []).append(event)
    for _, group in sorted(groups.items()):
        random.shuffle(group)  # type: ignore[attr-defined]
        when = max(event.arrival for event in group)
        for event in group:
            shuffled._append(replace(event, arrival=when, origin=shuffled._next(event.track.modality)))
    for track in sorted({event.track for event in fit if event.pace is Pace.RECORDED}, key=str):  # a recording is out when it has ended
        for one in (shuffled, tidy):
            one.mark(track.modality, 60, final=True, session=track.session, source=track.source, pace=Pace.RECORDED)
    roomy = config.model_copy(update={"horizon": config.horizon + 2_000_000})
    assert names(Driver(shuffled, roomy).run()) == names(Driver(tidy, roomy).run())


def names(driver: Driver) -> dict[object, set[tuple[str, str, str]]]:
    return {key: {(ref.modality, ref.source, ref.id) for ref in refs} for key, refs in final(driver.windows).items()}


def play(log: Log, schedule: Schedule, *, live: bool, config: AlignSettings = SETTINGS) -> Driver:
    """Follow a schedule of reads, ticks, checkpoints and crashes, then finish undisturbed."""
    driver = Driver(log, config, live=live)
    perform(driver, schedule)
    return driver.run()


def perform(driver: Driver, schedule: Schedule) -> None:
    """Follow a schedule."""
    for move, modality, count in schedule:
        if move == "append":
            driver.append(count)
        elif move == "read":
            driver.read(modality, count)
        elif move == "tick":
            driver.tick()
        elif move == "save":
            driver.checkpoint()
        elif move == "wait":
            driver.wait(count)
        else:
            if move == "torn":
                driver.tick(writes=count // 2)
            driver.resume()


@settings(fast, max_examples=300)
@given(logs(), configs, moves, st.booleans())
def test_law_8_crashes_and_interleaving_do_not_change_the_final_manifests(
    log: Log, config: AlignSettings, schedule: Schedule, live: bool
) -> None:
    driver = play(log, schedule, live=live, config=config)
    assert final(driver.windows) == reference(log, config)
    assert set(driver.late) == {event.origin for event in judge(log, config)["late"]}


@fast
@given(logs(80), configs, moves)
def test_law_9_open_windows_are_bounded_and_close_early_without_loss(log: Log, config: AlignSettings, schedule: Schedule) -> None:
    for bound in ("max_events", "max_session_events"):
        tight = config.model_copy(update={bound: 5})
        driver = Driver(log, tight)
        for _ in driver.drain(9):
            opened = [session.open_events for session in driver.aligner._sessions.values()]
            assert sum(opened) == driver.aligner.tally.open_events
            assert (sum(opened) if bound == "max_events" else max(opened, default=0)) <= 5
        assert final(driver.windows) == reference(log, config)
        assert final(play(log, schedule, live=True, config=tight).windows) == reference(log, config)


@fast
@given(logs(80), configs, st.sampled_from(["max_held", "max_session_held"]))
def test_law_9_what_is_remembered_is_bounded_and_what_has_no_place_is_refused(log: Log, config: AlignSettings, bound: str) -> None:
    driver, batch = Driver(log, config.model_copy(update={bound: 10})), 9
    longest = config.longest_event // config.hop + 1
    for _ in driver.drain(batch):
        remembered = [session.held for session in driver.aligner._sessions.values()]
        assert sum(remembered) == driver.aligner.tally.held_events
        assert (sum(remembered) if bound == "max_held" else max(remembered, default=0)) < 10 + 3 * batch * longest
    judged, fit = judge(log, config), reference(log, config)
    refused = {origin for origin, rejected in driver.rejected.items() if rejected.reason is Reason.CROWDED}
    aligned = {ref.origin for refs in final(driver.windows).values() for ref in refs}
    assert {event.origin for event in judged["fit"]} >= aligned | refused
    assert {ref.origin for refs in fit.values() for ref in refs} - aligned <= refused | set(driver.late)


@fast
@given(logs(), configs)
def test_what_is_held_is_forgotten_when_its_time_is_over(log: Log, config: AlignSettings) -> None:
    driver = Driver(log, config).run()
    for _ in range(3):
        driver.now = Micros(driver.now + max(config.session_end, config.horizon) + config.skew)
        driver.tick()
    tally = driver.aligner.tally
    assert (tally.open_windows, tally.open_events, tally.held_events) == (0, 0, 0)
    assert driver.aligner.oldest_out() is None
    assert driver.aligner.watermarks() == {}
    assert Counter(type(record) for record in driver.windows)[SessionMark] >= bool(windows(driver))
    assert all(driver.aligner.low_water(m, driver.position[m]).offset == driver.position[m] for m in (FRAMES, AUDIO, TRANSCRIPTS))
