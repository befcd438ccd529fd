"""Stories that once ended badly: found by the simulator, shrunk by it, and written down step by step."""

from __future__ import annotations

from structlog.testing import capture_logs

from streamer.events import SECOND, Micros, Modality, Pace, SessionId, Track
from streamer.stages.envelope import write_mark
from tests.simulator.broker import Fault
from tests.simulator.schedule import WORKERS, Schedule, an_event
from tests.simulator.shrink import story, verdict
from tests.simulator.steps import Append, Crash, Read, Rebalance, Save, Step
from tests.stages.align_streams import AUDIO, FRAMES, SETTINGS, at

GATE = SessionId("gate")


def says(modality: Modality, start: float, end: float | None = None, *, arrival: float) -> Append:
    end = start if end is None else end
    return Append(at(arrival), an_event(modality, GATE, "one", at(start), at(end), Pace.LIVE))


def ends(modality: Modality, until: float, *, arrival: float) -> Append:
    return Append(at(arrival), write_mark(Track(session=GATE, modality=modality, source="one"), at(until), final=True), "end")


def reads(worker: str, **counts: int) -> Read:
    return Read("align", worker, counts)


def ends_well(*steps: Step, mixed: bool = False) -> None:
    fast = dict.fromkeys((name for names in WORKERS.values() for name in names), SECOND // 2)
    schedule = Schedule(0, SETTINGS, {}, {name: Micros(ahead) for name, ahead in fast.items()}, False, steps, mixed)
    with capture_logs():
        assert verdict(schedule)[0] == [], story(schedule)


def test_a_replaced_worker_calls_a_session_silent_that_its_owner_hears() -> None:
    """Its mark hid that the session fell silent later: an open alert was not resolved for an hour."""
    ends_well(
        reads("A"),
        says(FRAMES, 50.3, arrival=56.3),
        says(AUDIO, 79.5, 80.4, arrival=80.7),
        says(AUDIO, 80.9, 81.9, arrival=82.2),
        Rebalance("align", ("B", "B"), frozenset({"A"})),
        Save("align", "B"),
        reads("A", frames=1),
    )


def test_an_end_mark_that_is_read_again_does_not_end_a_track_that_spoke_after_it() -> None:
    ends_well(
        ends(AUDIO, 79.8, arrival=80.6),
        says(AUDIO, 137.6, 138.4, arrival=138.4),
        Rebalance("align", ("B", "B"), frozenset({"A"})),
        reads("B", audio=5),
        Rebalance("align", ("A", "B"), frozenset({"B"})),
    )


def test_a_replaced_worker_of_decide_writes_an_old_state_over_a_new_one() -> None:
    """It had judged by other rules what the alert is due to, and its record came late: nobody spoke of that alert again."""
    score = {"scores": 1}
    ends_well(
        says(FRAMES, 49.2, arrival=49.3),
        says(FRAMES, 49.7, arrival=49.8),
        says(FRAMES, 58, arrival=58.1),
        reads("A", frames=3),
        Read("infer", "I", {"windows": 2}),
        Rebalance("decide", ("E", "E")),
        Read("decide", "E", score),
        Rebalance("decide", ("D", "D"), frozenset({"E"})),
        Save("decide", "E", Fault("late", 0)),
        Read("decide", "D", score),
        Save("decide", "D"),
        Crash("decide", "E"),
        Crash("decide", "D"),
        mixed=True,
    )
