"""decide on real brokers: the same alerts however often it is stopped, killed, or fed twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from streamer.agents.decide import Deciding, run
from streamer.config import Config, InferSettings, KafkaSettings
from streamer.engine import open_engine
from streamer.errors import ConfigError
from streamer.events import SECOND, Alert, Clock, Message, Micros, Record, Scores, SessionId, SessionMark
from streamer.health import Health
from streamer.ids import partition_of
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.deadletters import read_deadletters
from streamer.kafka.log import LogReader
from streamer.kafka.stateful import Batch
from streamer.kafka.topics import create_topics
from streamer.metrics import Metrics
from streamer.rules import Rules, parse_rules
from streamer.runtime import Runtime
from streamer.stages.decide import Decider, DecideSettings
from streamer.stages.judge import fuse_input
from streamer.stages.judge import scores as judge
from streamer.stages.wire import read_alert, write_scores, write_silence
from tests.builders import a_window
from tests.builders_decide import HOUSE, mark, rules, scores

PLACES = [SessionId(f"place-{n}") for n in range(3)]
RULES = {"rules": [{"id": "siren", "class": "siren", "threshold": 0.5, "duration": "2s", "cooldown": "10s"}]}


@pytest.fixture
def rules_file(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(RULES))
    return path


def story() -> list[Scores | SessionMark]:
    """Three places: sirens, blips, revisions that come late and one that retracts."""
    told: list[Scores | SessionMark] = []
    for second in range(40):
        for n, place in enumerate(PLACES):
            loud = (second + 5 * n) % 17 in (3, 4, 5, 9)
            told.append(scores(second, 0.9 if loud else 0.1, session=place))
            if second % 7 == 6:
                told.append(scores(second - 4, 0.8 if loud else 0.2, revision=1, session=place, quote="help"))
    return [*told, *(mark(60, session=place) for place in PLACES)]


def message(record: Scores | SessionMark) -> Message:
    return write_silence("scores", record) if isinstance(record, SessionMark) else write_scores(record)


def runtime_of(kafka: KafkaSettings, rules_file: Path) -> Runtime:
    return Runtime(
        config=Config(kafka=kafka, rules=rules_file),
        metrics=Metrics("decide", registry=CollectorRegistry()),
        health=Health(),
        stop=asyncio.Event(),
    )


@asynccontextmanager
async def decide(kafka: KafkaSettings, rules_file: Path, *, kill: bool = False) -> AsyncIterator[Runtime]:
    """The running role; `kill`: cancelled in the middle instead of stopped."""
    runtime = runtime_of(kafka, rules_file)
    task = asyncio.create_task(run(runtime))
    try:
        yield runtime
    finally:
        if kill:
            task.cancel()
            await asyncio.wait([task])
        else:
            runtime.stop.set()
            await task


async def until(true: Callable[[], bool], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)


def read(runtime: Runtime) -> float:
    return runtime.metrics.registry.get_sample_value("streamer_records_read_total", {"stage": "decide", "topic": "scores"}) or 0


async def write(kafka: KafkaSettings, messages: Sequence[Message]) -> None:
    async with Producer(Kafka(kafka)) as producer:
        await producer.send(messages)


async def alerts(kafka: KafkaSettings) -> list[Alert]:
    async with LogReader(Kafka(kafka)) as reader:
        return [read_alert(r) for p in range(kafka.partitions) async for r in reader.read("alerts", 0, partition=p)]


async def until_told(kafka: KafkaSettings, wanted: Collection[tuple[str, int]], seconds: float = 60) -> None:
    """Poll the alerts with a deadline: a record that was read need not have been judged."""
    async with asyncio.timeout(seconds):
        while not {(a.id, a.revision) for a in await alerts(kafka)} >= set(wanted):
            await asyncio.sleep(0.05)


def content(found: Sequence[Alert]) -> dict[tuple[str, int], Alert]:
    """By (id, revision). What stands twice must be the same twice."""
    told: dict[tuple[str, int], Alert] = {}
    for one in found:
        assert told.setdefault((one.id, one.revision), one) == one
    return told


def expected(records: Sequence[Scores | SessionMark]) -> dict[tuple[str, int], tuple[str, int, int, float]]:
    """What the pure stage says, offsets counted per partition."""
    decider = Decider(parse_rules(RULES), DecideSettings.beyond(Config().align))
    said = [a for n, r in enumerate(records) for a in decider.push(r, arrival=Micros(n), offset=n)]
    return {(a.id, a.revision): (a.state.value, a.start, a.end, a.score) for a in said}


def brief(found: Sequence[Alert]) -> dict[tuple[str, int], tuple[str, int, int, float]]:
    return {key: (a.state.value, a.start, a.end, a.score) for key, a in content(found).items()}


async def test_stopped_killed_and_started_in_the_middle_it_says_what_one_run_says(broker: KafkaSettings, rules_file: Path) -> None:
    records = story()
    parts = [records[:30], records[30:70], records[70:]]
    for until_now, (part, kill) in enumerate(zip(parts, (True, False, False), strict=True), 1):
        async with decide(broker, rules_file, kill=kill):
            await write(broker, [message(r) for r in part])
            await until_told(broker, expected([r for part in parts[:until_now] for r in part]).keys())
    found = await alerts(broker)
    assert brief(found) == expected(records) and len(brief(found)) > 10
    assert all(a.at > 0 for a in found)


async def test_a_bad_record_is_dead_lettered_and_the_next_one_is_judged(broker: KafkaSettings, rules_file: Path) -> None:
    good = message(scores(1, 0.1, session=PLACES[0]))
    home = partition_of(good.key, broker.partitions)
    lie = message(scores(1, 1.5, session=PLACES[0]))
    stray = Message(topic="scores", key=good.key, value=good.value, headers=good.headers, partition=(home + 1) % broker.partitions)
    bad = [Message(topic="scores", key=good.key, value=b"{", headers=good.headers), lie, stray]
    async with decide(broker, rules_file) as runtime:
        await write(broker, [*bad, *(message(scores(n, 0.9, session=PLACES[0])) for n in (1, 2))])
        await until(lambda: read(runtime) >= 5)
        assert runtime.health.why is None
    reasons = [letter.reason async for letter in read_deadletters(Kafka(broker), stage="decide")]
    assert sorted(reasons) == ["bad_payload", "bad_payload", "wrong_partition"]
    assert [a.state.value for a in await alerts(broker)] == ["raised"]


HOME = partition_of(HOUSE.encode(), Config().kafka.partitions)
HOUR = 3_600 * SECOND


def deciding(producer: Producer, which: Rules | None = None) -> Deciding:
    """The state behind the source, alone."""
    decider = Decider(which or rules(), DecideSettings.beyond(Config().align))
    return Deciding(config=Config(), producer=producer, metrics=Metrics("decide", registry=CollectorRegistry()), decider=decider)


def batch(clock: float, *records: tuple[int, Scores | SessionMark]) -> Batch:
    """(offset, record) pairs that arrive at `clock` microseconds."""
    found = []
    for offset, one in records:
        raw = message(one)
        found.append(
            Record(
                topic="scores", partition=HOME, offset=offset, arrival=Micros(int(clock)), key=raw.key, value=raw.value, headers=raw.headers
            )
        )
    return Batch(records=tuple(found), clocks={("scores", HOME): Clock(arrival=Micros(int(clock)))}, now=Micros(int(clock)))


async def no_log(topic: str, offset: int) -> AsyncIterator[Record]:
    return
    yield


@pytest.fixture
async def whole(tansu_address: str) -> AsyncIterator[KafkaSettings]:
    """A fresh prefix with as many partitions as the settings have by default."""
    settings = KafkaSettings(bootstrap=tansu_address, prefix=f"t{uuid4().hex[:10]}.", idempotent=False)
    await create_topics(Kafka(settings))
    yield settings


async def test_a_state_older_than_its_checkpoint_is_noticed_and_its_scores_are_read_again(whole: KafkaSettings) -> None:
    """A replaced worker that wakes may write its old state over the new one."""
    async with Producer(Kafka(whole)) as producer:
        first, old = deciding(producer), b""
        for offset in range(4):
            await first.handle(batch(offset, (offset, scores(offset, 0.9))))
            old = first.decider.state(HOUSE) if offset == 1 else old
        saved = await first.checkpoint(HOME, {"scores": 4})
        again = deciding(producer)
        assert (await again.restore(HOME, {"": saved, HOUSE: first.decider.state(HOUSE)}, no_log))["scores"].offset == 4
        again.drop()
        assert (await again.restore(HOME, {"": saved, HOUSE: old}, no_log))["scores"].offset == 2
        with pytest.raises(ConfigError, match="another version"):
            await again.restore(HOME, {"": saved, HOUSE: b"?"}, no_log)


async def test_a_session_without_a_state_record_was_forgotten_and_its_scores_are_not_read_again(whole: KafkaSettings) -> None:
    """It is deleted before the checkpoint that no longer names it."""
    async with Producer(Kafka(whole)) as producer:
        first, again = deciding(producer), deciding(producer)
        await first.handle(batch(0, (5_000, scores(1))))
        saved = await first.checkpoint(HOME, {"scores": 5_001})
        assert (await again.restore(HOME, {"": saved}, no_log))["scores"].offset == 5_001


async def test_a_session_long_silent_is_forgotten_and_what_it_left_open_is_resolved_first(whole: KafkaSettings) -> None:
    async with Producer(Kafka(whole)) as producer:
        stateful = deciding(producer)
        await stateful.handle(batch(1, (0, scores(1, 0.9))))
        assert b"house-1" in await stateful.checkpoint(HOME, {"scores": 1})
        await stateful.handle(batch(2 * HOUR))
        assert b"house-1" not in await stateful.checkpoint(HOME, {"scores": 1})
    assert [(a.state.value, a.at) for a in await alerts(whole)] == [("raised", 1), ("resolved", HOUR + 1)]


async def test_a_session_is_kept_for_its_longest_cooldown(whole: KafkaSettings) -> None:
    async with Producer(Kafka(whole)) as producer:
        stateful = deciding(producer, rules(cooldown="4h"))
        await stateful.handle(batch(1, (0, scores(1, 0.9)), (1, mark(3))))
        await stateful.handle(batch(2 * HOUR))
        assert b"house-1" in await stateful.checkpoint(HOME, {"scores": 2})
        await stateful.handle(batch(2 * HOUR, (2, scores(7_200, 0.9))))
    assert [a.state.value for a in await alerts(whole)] == ["raised", "resolved"]


async def test_scores_of_the_tiny_engine_raise_nothing_which_is_said_once(whole: KafkaSettings) -> None:
    engine = open_engine(InferSettings(profile="tiny"), None)
    window = a_window(session=HOUSE)
    held = [None] * len(window.manifest)
    (judgement,) = engine.fuse([fuse_input(window, held)])
    judgement = replace(judgement, classes=scores(1, 0.99).classes)
    told = judge(window, held, judgement, model=engine.version, calibrated=engine.calibrated, may_alert=engine.may_alert)
    async with Producer(Kafka(whole)) as producer:
        stateful = deciding(producer)
        with capture_logs() as logs:
            await stateful.handle(batch(1, (0, told), (1, replace(told, revision=1))))
        assert await alerts(whole) == [] and [entry["model"] for entry in logs] == ["tiny-1"]
        await stateful.handle(batch(1, (2, replace(told, may_alert=True))))
    assert [a.state.value for a in await alerts(whole)][:1] == ["raised"]


async def test_scores_that_come_too_late_are_counted_in_the_log(whole: KafkaSettings) -> None:
    async with Producer(Kafka(whole)) as producer:
        stateful = deciding(producer)
        await stateful.handle(batch(1, (0, scores(1)), (1, scores(1_000)), (2, scores(1, 0.9, revision=1))))
        with capture_logs() as logs:
            await stateful.checkpoint(HOME, {"scores": 3})
            await stateful.checkpoint(HOME, {"scores": 3})
    assert [entry["scores"] for entry in logs] == [1]
    assert stateful.metrics.ignored_scores._value.get() == 1


async def test_rules_that_are_wrong_are_refused_at_the_start(tansu: KafkaSettings, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("rules: [{id: a, class: person}]")
    with pytest.raises(ConfigError, match=r"rules\.0\.threshold"):
        await run(runtime_of(tansu, path))
