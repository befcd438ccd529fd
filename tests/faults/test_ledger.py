"""The judge of the fault runs: what the pure aligner makes of a feed is right, and each kind of loss is seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest

from streamer.events import DeadLetter, Event, EventRef, Late, Micros, SessionMark, Window
from tests.faults.feed import Line, Plan, Settings
from tests.faults.ledger import Expected, Verdict, expected, item, origin, verdict
from tests.stages.align_streams import NOON, SETTINGS, Driver, Log

PLACES = ("gate", "yard")


def told() -> list[Line]:
    """Twelve seconds of a feed, as one partition of each topic would hold them, and each track's end."""
    plan = Plan(
        Settings(address="", prefix="", ledger="", sessions=PLACES, horizon=SETTINGS.horizon / 1_000_000, seed=3),
    )
    due = sorted(one for second in range(12) for one in plan.second(Micros(NOON + second * 1_000_000)))
    offsets, lines = Counter[str](), []
    last = round(due[-1].at * 1_000_000)
    for arrival, line in [*((round(one.at * 1_000_000), one.line) for one in due), *((last, line) for _, line in plan.ends())]:
        lines.append(replace(line, topic=line.modality, offset=offsets[line.modality], arrival=arrival))
        offsets[line.modality] += 1
    return lines


@dataclass
class Output:
    """What stands in the topics after a run."""

    want: Expected
    windows: list[Window]
    late: list[Late]
    dead: list[DeadLetter]

    def verdict(self) -> Verdict:
        return verdict(self.want, self.windows, self.late, self.dead)


@pytest.fixture
def output() -> Output:
    """The pure aligner's."""
    lines, log = told(), Log()
    for line in lines:
        if line.kind != "broken":
            log._append(item(line))
    driver = Driver(log, SETTINGS).run()
    dead = [buried(line) for line in lines if line.kind in ("broken", "future")]
    windows = [one for one in driver.windows if not isinstance(one, SessionMark)]
    return Output(expected(lines, SETTINGS), windows, list(driver.late.values()), dead)


def buried(line: Line) -> DeadLetter:
    return DeadLetter(
        id="d",
        stage="align",
        reason="x",
        detail="",
        origin=origin(line),
        session=line.session,
        arrival=Micros(line.arrival),
        headers=(),
        payload=None,
        payload_size=0,
    )


def test_what_the_aligner_makes_of_a_feed_is_right(output: Output) -> None:
    found = output.verdict()
    assert found.wrong == dict.fromkeys(found.wrong, 0), found.missed
    assert min(found.duplicates, found.marks, found.late, found.dead, found.revisions) > 0


def without_a_window(output: Output) -> None:
    first = output.windows[0].id
    output.windows = [one for one in output.windows if one.id != first]


def without_a_line(output: Output) -> None:
    """One event is taken out of every window that names it."""
    gone = next(ref for ref in output.windows[0].manifest)
    output.windows = [replace(one, manifest=without(one.manifest, gone)) for one in output.windows]


def without(manifest: Sequence[EventRef], gone: EventRef) -> tuple[EventRef, ...]:
    return tuple(ref for ref in manifest if ref.origin != gone.origin)


def with_a_stranger(output: Output) -> None:
    """A late event stands in a window after all."""
    stray = next(item(line) for line in output.want.lines if origin(line) in output.want.late)
    assert isinstance(stray, Event)
    ref = replace(output.windows[-1].manifest[0], id=stray.id, start=stray.start, end=stray.end, origin=stray.origin)
    output.windows[-1] = replace(output.windows[-1], manifest=(*output.windows[-1].manifest, ref))


def without_a_late_record(output: Output) -> None:
    del output.late[0]


def without_a_dead_letter(output: Output) -> None:
    del output.dead[0]


def with_a_window_of_nobody(output: Output) -> None:
    output.windows.append(replace(output.windows[0], start=Micros(0), id="w"))


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (without_a_window, {"missing"}),
        (without_a_line, {"lost", "differ"}),
        (with_a_stranger, {"differ"}),
        (without_a_late_record, {"lost", "misjudged"}),
        (without_a_dead_letter, {"lost", "misjudged"}),
        (with_a_window_of_nobody, {"unexpected"}),
    ],
)
def test_each_kind_of_loss_is_seen(output: Output, spoil: Callable[[Output], None], seen: set[str]) -> None:
    spoil(output)
    assert {name for name, count in output.verdict().wrong.items() if count} == seen
