"""The aligner's worker and its sources' clocks: what it shows, what it says, and that nothing follows from it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from structlog.testing import capture_logs

from streamer.agents.align import Aligning
from streamer.agents.align_clocks import MOST_LINES, ClockWatch
from streamer.agents.align_inspect import Silent
from streamer.config import AlignSettings, Config, KafkaSettings, SessionSettings
from streamer.events import MILLISECOND, SECOND, Clock, Event, Message, Micros, Modality, Record, SessionId, Track
from streamer.kafka.client import Kafka, Written
from streamer.kafka.stateful import Batch
from streamer.metrics import Metrics
from streamer.stages.envelope import write_frame
from streamer.stages.wire import read_window
from tests.builders import T0, a_frame, a_record, an_event, at

CONFIG = Config(kafka=KafkaSettings(bootstrap="127.0.0.1:1", partitions=1), align=AlignSettings(idle="1h", session_end="1h"))


class Kept(Silent):
    """Writes nowhere, and keeps what it was given."""

    def __init__(self) -> None:
        super().__init__(Kafka(CONFIG.kafka))
        self.messages: list[Message] = []

    async def send(self, messages: Sequence[Message]) -> list[Written]:
        self.messages += messages
        return await super().send(messages)


async def nothing(topic: str, offset: int) -> AsyncIterator[Record]:
    del topic, offset
    for record in list[Record]():
        yield record


async def a_worker(config: Config = CONFIG) -> tuple[Aligning, Kept]:
    producer = Kept()
    producer.state = state = Aligning(config=config, producer=producer, metrics=Metrics("align"))
    await state.restore(0, {}, nothing)
    return state, producer


def records(*, minutes: float, ahead: dict[str, float]) -> list[Record]:
    """One frame a second of each source, 60 ms after it was taken; `ahead`: by how many seconds its clock is."""
    messages = [
        (n, write_frame(a_frame(n + by, source=source, at=Micros(at(n + by)))))
        for n in range(int(minutes * 60))
        for source, by in ahead.items()
    ]
    return [
        a_record(message, offset=offset, arrival=Micros(at(n) + 60 * MILLISECOND), partitions=1)
        for offset, (n, message) in enumerate(messages)
    ]


async def handle(state: Aligning, records: Sequence[Record]) -> None:
    for start in range(0, len(records), 30):
        some = tuple(records[start : start + 30])
        now = some[-1].arrival
        await state.handle(Batch(records=some, clocks={("frames", 0): Clock(arrival=now)}, now=now))


def shown(state: Aligning, name: str, modality: str = "frames") -> float | None:
    return state.metrics.registry.get_sample_value(name, {"modality": modality})


async def test_the_worst_clock_is_a_gauge_and_named_once_in_the_log() -> None:
    state, _ = await a_worker()
    with capture_logs() as logs:
        await handle(state, records(minutes=6, ahead={"cam-1": 0, "cam-2": -2.5, "cam-3": 0}))
    offset, drift = shown(state, "streamer_clock_offset_seconds"), shown(state, "streamer_clock_drift_ppm")
    assert offset is not None and abs(offset + 2.5) < 0.02 and drift == 0
    assert (shown(state, "streamer_clocks_off"), shown(state, "streamer_clock_steps_total")) == (1, 0)
    assert shown(state, "streamer_clocks_off", "audio") == 0
    told = [line for line in logs if "clock" in line["event"]]
    assert [(line["session"], line["source"], line["ahead_s"]) for line in told] == [("yard", "cam-2", -2.5)]


async def test_estimates_change_no_window() -> None:
    fed = records(minutes=3, ahead={"cam-1": 0, "cam-2": -2.5, "cam-3": 0})
    (with_, wrote), (without, wrote_too) = await a_worker(), await a_worker()
    without.clocks.see = lambda _: None
    await handle(with_, fed)
    await handle(without, fed)
    assert wrote.messages == wrote_too.messages != []
    assert (dict(with_.clocks.clocks.estimates()), dict(without.clocks.clocks.estimates())) != ({}, {})


async def test_a_configured_offset_moves_what_is_aligned_and_the_estimate_is_of_what_is_left() -> None:
    session = SessionSettings(id="yard", offsets=[{"source": "cam-2", "offset": "2s"}], expect=[])  # type: ignore[list-item, arg-type]
    fed = records(minutes=3, ahead={"cam-1": 0, "cam-2": -2})
    right = records(minutes=3, ahead={"cam-1": 0, "cam-2": 0})
    (state, wrote), (plain, wrote_too) = await a_worker(CONFIG.model_copy(update={"sessions": (session,)})), await a_worker()
    await handle(state, fed)
    await handle(plain, right)

    def manifests(kept: Kept) -> list[list[tuple[str, Micros]]]:
        windows = [read_window(a_record(message, partitions=1)) for message in kept.messages if message.topic == "windows"]
        return [[(ref.source, ref.start) for ref in getattr(window, "manifest", ())] for window in windows]

    assert manifests(wrote) == manifests(wrote_too) != []
    assert {round(one.offset / SECOND, 2) for _, one in state.clocks.clocks.estimates()} == {0}


def test_where_the_brokers_clock_is_wrong_not_every_source_gets_a_line() -> None:
    watch = ClockWatch(AlignSettings(), Metrics("align"))
    for n in range(3 * MOST_LINES):
        track = Track(session=SessionId(f"s{n}"), modality=Modality.FRAMES, source="cam")
        for second in range(0, 160, 5):
            event: Event = replace(an_event(when=second + 100), track=track, arrival=at(second))
            watch.see(event)
    with capture_logs() as logs:
        watch.gauge(T0)
        watch.gauge(Micros(T0 + SECOND))
    assert len(logs) == MOST_LINES + 1
    assert logs[-1]["clocks"] == 2 * MOST_LINES


def test_the_state_of_partitions_that_are_gone_is_forgotten_and_counters_do_not_fall() -> None:
    watch = ClockWatch(AlignSettings(), Metrics("align"))
    for second in range(0, 700, 5):
        watch.see(replace(an_event(when=second + (9 if second > 300 else 0)), arrival=at(second)))
    watch.gauge(at(700))
    steps = watch.metrics.clock_steps.labels("frames")._value.get()
    assert steps == 1
    watch.drop()
    watch.gauge(at(800))
    assert watch.metrics.clock_steps.labels("frames")._value.get() == steps
    assert list(watch.clocks.estimates()) == []
