"""decide on real brokers: the same alerts however often it is stopped, killed, or fed twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
import yaml
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from streamer.agents.decide import Checkpoint, Deciding, run
from streamer.config import Config, InferSettings, KafkaSettings
from streamer.engine import open_engine
from streamer.errors import ConfigError
from streamer.events import SECOND, Alert, Clock, Message, Micros, Record, Scores, SessionId, SessionMark
from streamer.health import Health
from streamer.ids import partition_of
from streamer.kafka import checkpoints
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
        assert await alerts(whole) == [] and [entry["model"] for entry in logs] == ["tiny-2"]
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


STRICT = rules(threshold=0.95)


async def told(kafka: KafkaSettings) -> list[tuple[int, str]]:
    return [(alert.revision, alert.state.value) for alert in await alerts(kafka)]


def log_of(reader: LogReader, topic: str, offset: int) -> AsyncIterator[Record]:
    return reader.read(topic, offset, partition=HOME)


async def test_killed_between_an_alert_and_its_checkpoint_and_started_with_other_rules(whole: KafkaSettings) -> None:
    async with Producer(Kafka(whole)) as producer, LogReader(Kafka(whole)) as reader:
        read = partial(log_of, reader)
        first, second = deciding(producer), deciding(producer, STRICT)
        await first.restore(HOME, {}, read)
        await first.handle(batch(1, (0, scores(9))))
        saved = {"": await first.checkpoint(HOME, {"scores": 1, "alerts": 0}), HOUSE: first.decider.state(HOUSE)}
        await first.handle(batch(2, (1, scores(10, 0.9))))
        assert (await second.restore(HOME, saved, read))["scores"].offset == 1
        await second.handle(batch(2, (1, scores(10, 0.9)), (2, scores(11)), (3, scores(12))))
        assert await told(whole) == [(0, "raised"), (1, "retracted")]
        again = deciding(producer, STRICT)
        await again.restore(HOME, {"": await second.checkpoint(HOME, {"scores": 4, "alerts": 2}), HOUSE: second.decider.state(HOUSE)}, read)
        await again.handle(batch(3, (4, scores(13)), (5, mark(20))))
        assert len(await told(whole)) == 2


async def test_what_a_replaced_worker_still_wrote_is_noticed_at_the_next_checkpoint(whole: KafkaSettings) -> None:
    async with Producer(Kafka(whole)) as producer, LogReader(Kafka(whole)) as reader:
        first, second = deciding(producer), deciding(producer, STRICT)
        _ = [await worker.restore(HOME, {}, partial(log_of, reader)) for worker in (first, second)]
        await second.handle(batch(1, (0, scores(10, 0.9)), (1, scores(11, 0.97))))
        await first.handle(batch(1, (0, scores(2, 0.9))))
        with capture_logs() as logs:
            saved = msgspec.json.decode(await second.checkpoint(HOME, {"scores": 2, "alerts": 2}), type=Checkpoint)
        assert saved.alerts == 3 and [(entry["log_level"], entry["sessions"]) for entry in logs] == [("warning", 1)]
        assert await told(whole) == [(0, "raised"), (0, "raised"), (1, "retracted")]  # at once: all that it is due to was read


async def test_what_these_rules_sent_comes_again_and_no_checkpoint_passes_it_before(whole: KafkaSettings) -> None:
    """The next worker may have other rules."""
    async with Producer(Kafka(whole)) as producer, LogReader(Kafka(whole)) as reader:
        first, second, third = deciding(producer), deciding(producer), deciding(producer, STRICT)
        read = partial(log_of, reader)
        await first.restore(HOME, {}, read)
        await first.handle(batch(1, (0, scores(9)), (1, scores(10, 0.9))))
        await second.restore(HOME, {}, read)
        await second.handle(batch(1, (0, scores(9))))
        saved = {"": await second.checkpoint(HOME, {"scores": 1, "alerts": 1}), HOUSE: second.decider.state(HOUSE)}
        assert msgspec.json.decode(saved[""], type=Checkpoint).alerts == 0
        await third.restore(HOME, saved, read)
        await third.handle(batch(2, (1, scores(10, 0.9)), (2, scores(11)), (3, scores(12))))
        assert await told(whole) == [(0, "raised"), (1, "retracted")]
        await second.handle(batch(1, (1, scores(10, 0.9))))
        assert msgspec.json.decode(await second.checkpoint(HOME, {"scores": 2, "alerts": 3}), type=Checkpoint).alerts == 3


async def test_what_it_said_before_it_forgot_a_session_is_not_taken_over(whole: KafkaSettings) -> None:
    """Killed before the checkpoint that no longer names it: its record is still there, and it says the same again."""
    async with Producer(Kafka(whole)) as producer, LogReader(Kafka(whole)) as reader:
        first, second = deciding(producer), deciding(producer, STRICT)
        await first.restore(HOME, {}, partial(log_of, reader))
        await first.handle(batch(1, (0, scores(10, 0.9))))
        saved = {"": await first.checkpoint(HOME, {"scores": 1, "alerts": 1})}
        await first.handle(batch(2 * HOUR, (1, mark(20))))
        await first.handle(batch(5 * HOUR))
        await first.checkpoint(HOME, {"scores": 2, "alerts": 2})
        saved |= await checkpoints.fold("decide", log_of(reader, "checkpoints", 0))
        await second.restore(HOME, saved, partial(log_of, reader))
        await second.handle(batch(5 * HOUR, (1, mark(20)), (2, scores(21)), (3, scores(22))))
        assert await told(whole) == [(0, "raised"), (1, "resolved")]


async def test_its_own_writes_are_no_gap(whole: KafkaSettings) -> None:
    async with Producer(Kafka(whole)) as producer:
        worker, reads = deciding(producer), list[int]()

        async def read(topic: str, offset: int) -> AsyncIterator[Record]:
            reads.append(offset)
            return
            yield

        await worker.restore(HOME, {}, read)
        await worker.handle(batch(1, (0, scores(10, 0.9)), (1, mark(20))))
        await worker.checkpoint(HOME, {"scores": 2, "alerts": 2})
        assert reads == [0] and await told(whole) == [(0, "raised"), (1, "resolved")]


async def test_a_checkpoint_of_an_older_version_takes_nothing_over(whole: KafkaSettings) -> None:
    """It does not say where `alerts` ended, and all of it may be long settled."""
    async with Producer(Kafka(whole)) as producer, LogReader(Kafka(whole)) as reader:
        first, second = deciding(producer), deciding(producer, STRICT)
        await first.restore(HOME, {}, partial(log_of, reader))
        await first.handle(batch(1, (0, scores(10, 0.9))))
        await second.restore(HOME, {"": b'{"offset":1,"clock":1,"sessions":{}}'}, partial(log_of, reader))
        saved = msgspec.json.decode(await second.checkpoint(HOME, {"scores": 1, "alerts": 1}), type=Checkpoint)
        assert saved.alerts == 1 and saved.sessions == {}


async def test_the_role_ends_what_it_said_by_rules_that_are_gone(broker: KafkaSettings, tmp_path: Path) -> None:
    """Killed as soon as its alert is to be read, whether that is saved or not."""
    (old,) = RULES["rules"]
    files = [tmp_path / "old.yaml", tmp_path / "new.yaml"]
    for file, rule in zip(files, (old, old | {"threshold": 0.95}), strict=True):
        file.write_text(yaml.safe_dump({"rules": [rule]}))
    async with decide(broker, files[0], kill=True):
        await write(broker, [message(scores(second, 0.9)) for second in range(5)])
        await until_last(broker, "raised", "updated")
    async with decide(broker, files[1]):
        await write(broker, [message(one) for one in (*map(scores, range(5, 9)), mark(30))])
        await until_last(broker, "resolved", "retracted")


async def until_last(kafka: KafkaSettings, *states: str) -> None:
    async with asyncio.timeout(60):
        while not (found := await alerts(kafka)) or found[-1].state.value not in states:
            await asyncio.sleep(0.05)
