"""decide on real brokers: the same alerts however often it is stopped, killed, or fed twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from streamer.agents.decide import Deciding, run
from streamer.config import Config, KafkaSettings
from streamer.errors import ConfigError
from streamer.events import Alert, Clock, Message, Micros, Record, Scores, SessionId, SessionMark
from streamer.health import Health
from streamer.ids import partition_of
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.deadletters import read_deadletters
from streamer.kafka.log import LogReader
from streamer.kafka.stateful import Batch
from streamer.metrics import Metrics
from streamer.rules import parse_rules
from streamer.runtime import Runtime
from streamer.stages.decide import Decider, DecideSettings
from streamer.stages.wire import read_alert, write_scores, write_silence
from tests.builders_decide import mark, rules, scores

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
    for part, kill in zip(parts, (True, False, False), strict=True):
        async with decide(broker, rules_file, kill=kill) as runtime:
            await write(broker, [message(r) for r in part])
            await until(lambda runtime=runtime, part=part: read(runtime) >= len(part))  # type: ignore[misc]
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


async def test_a_state_older_than_its_checkpoint_is_noticed_and_its_scores_are_read_again(tansu: KafkaSettings) -> None:
    """A replaced worker that wakes may write its old state over the new one."""
    kafka, place = Kafka(tansu), PLACES[0]
    home = partition_of(place.encode(), tansu.partitions)

    def fresh(producer: Producer) -> Deciding:
        decider = Decider(rules(), DecideSettings.beyond(Config().align))
        return Deciding(config=Config(kafka=tansu), producer=producer, metrics=Metrics("decide"), decider=decider)

    async def no_log(topic: str, offset: int) -> AsyncIterator[Record]:
        return
        yield

    async with Producer(kafka) as producer:
        first, old = fresh(producer), b""
        for offset in range(4):
            raw = message(scores(offset, 0.9, session=place))
            record = Record(
                topic="scores", partition=home, offset=offset, arrival=Micros(offset), key=raw.key, value=raw.value, headers=raw.headers
            )
            clocks = {("scores", home): Clock(arrival=Micros(offset))}
            await first.handle(Batch(records=(record,), clocks=clocks, now=Micros(offset)))
            old = first.decider.state(place) if offset == 1 else old
        saved = await first.checkpoint(home, {"scores": 4})
        again = fresh(producer)
        assert (await again.restore(home, {"": saved, place: first.decider.state(place)}, no_log))["scores"].offset == 4
        again.drop()
        assert (await again.restore(home, {"": saved, place: old}, no_log))["scores"].offset == 2
        with pytest.raises(ConfigError, match="another version"):
            await again.restore(home, {"": saved, place: b"?"}, no_log)


async def test_a_session_long_silent_is_forgotten(tansu: KafkaSettings) -> None:
    async with Producer(Kafka(tansu)) as producer:
        decider = Decider(rules(), DecideSettings.beyond(Config().align))
        stateful = Deciding(config=Config(kafka=tansu), producer=producer, metrics=Metrics("decide"), decider=decider)
        raw = message(scores(1, 0.9))
        home = partition_of(raw.key, tansu.partitions)
        record = Record(topic="scores", partition=home, offset=0, arrival=Micros(1), key=raw.key, value=raw.value, headers=raw.headers)
        await stateful.handle(Batch(records=(record,), clocks={("scores", home): Clock(arrival=Micros(1))}, now=Micros(1)))
        assert b"house-1" in await stateful.checkpoint(home, {"scores": 1})
        later = Micros(2 * 3_600 * 1_000_000)
        await stateful.handle(Batch(records=(), clocks={("scores", home): Clock(arrival=later)}, now=later))
        assert b"house-1" not in await stateful.checkpoint(home, {"scores": 1})


async def test_rules_that_are_wrong_are_refused_at_the_start(tansu: KafkaSettings, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("rules: [{id: a, class: person}]")
    with pytest.raises(ConfigError, match=r"rules\.0\.threshold"):
        await run(runtime_of(tansu, path))
