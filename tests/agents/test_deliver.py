"""deliver on real brokers, with a real receiver that fails some requests."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry

from streamer.agents.deliver import Board, Courier, run
from streamer.config import Config, DeliverSettings, KafkaSettings, LogSinkSettings, WebhookSinkSettings
from streamer.errors import BadRecord, Reason
from streamer.events import DeadLetter, Message, SessionId
from streamer.health import Health
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.deadletters import read_deadletters
from streamer.metrics import Metrics
from streamer.runtime import Runtime
from streamer.sinks.sink import Delivery, MemorySink, Sink
from streamer.stages.wire import write_alert
from tests.builders_decide import alert
from tests.sinks.receiver import SECRET, Receiver


async def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Poll a condition with a deadline."""
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def deliver(kafka: KafkaSettings, *sinks: LogSinkSettings | WebhookSinkSettings) -> AsyncIterator[Runtime]:
    """The running role, stopped the clean way at the end."""
    runtime = Runtime(
        config=Config(kafka=kafka, deliver=DeliverSettings(sinks=sinks)),
        metrics=Metrics("deliver", registry=CollectorRegistry()),
        health=Health(),
        stop=asyncio.Event(),
        secrets={"HOOK": SECRET},
    )
    task = asyncio.create_task(run(runtime))
    try:
        yield runtime
    finally:
        runtime.stop.set()
        await task


def hook(receiver: Receiver, name: str = "hook") -> WebhookSinkSettings:
    return WebhookSinkSettings(name=name, url=receiver.url, secret_env="HOOK")


async def write(kafka: KafkaSettings, messages: Sequence[Message]) -> None:
    async with Producer(Kafka(kafka)) as producer:
        await producer.send(messages)


def counted(runtime: Runtime, sink: str, outcome: str) -> float:
    return runtime.metrics.registry.get_sample_value("streamer_deliveries_total", {"sink": sink, "outcome": outcome}) or 0


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"streamer_{name}", labels) or 0


class Team:
    """Couriers of one sink, as processes of their own would run them."""

    def __init__(self, kafka: KafkaSettings, producer: Producer) -> None:
        self.kafka, self.producer, self.stop = Kafka(kafka), producer, asyncio.Event()

    def hire(self, sink: Sink) -> tuple[Courier, Health, asyncio.Task[None]]:
        health = Health()
        board = Board(health, {"m": "starting"})
        courier = Courier(name="m", sink=sink, kafka=self.kafka, producer=self.producer, metrics=Metrics("deliver"), board=board)
        return courier, health, asyncio.create_task(courier.run_until(self.stop))


async def letters(kafka: KafkaSettings) -> list[DeadLetter]:
    return [letter async for letter in read_deadletters(Kafka(kafka), stage="deliver")]


async def test_alerts_written_before_the_start_arrive_once_each_though_they_stand_twice(broker: KafkaSettings) -> None:
    alerts = [alert(n, revision=r, session=SessionId(f"s{n}")) for n in range(6) for r in range(2)]
    await write(broker, [write_alert(a) for a in [*alerts, *alerts]])
    async with Receiver(answers=[(503, {}), (0, {}), (429, {"retry-after": "0"})]) as receiver, deliver(broker, hook(receiver)) as runtime:
        await until(lambda: counted(runtime, "hook", "duplicate") == 12)
        assert runtime.health.why is None
    assert receiver.accepted == {f"{a.id}.{a.revision}": 1 for a in alerts}
    assert json.loads(receiver.bodies[f"{alerts[3].id}.1"])["severity"] == "warning"
    assert receiver.forged == 0 and receiver.broken == 1


async def test_an_alert_that_is_refused_or_broken_is_dead_lettered_and_holds_up_nothing(broker: KafkaSettings) -> None:
    one, two = alert(1), alert(2)
    broken = write_alert(alert(3))
    await write(broker, [write_alert(one), Message(topic="alerts", key=b"house-1", value=b"{", headers=broken.headers), write_alert(two)])
    async with Receiver(answers=[(422, {})]) as receiver, deliver(broker, hook(receiver)) as runtime:
        await until(lambda: counted(runtime, "hook", "delivered") == 1)
        assert (counted(runtime, "hook", "refused"), counted(runtime, "hook", "broken")) == (1, 1)
    assert receiver.accepted == {f"{two.id}.0": 1}
    found = await letters(broker)
    assert sorted((x.reason, x.origin.topic, x.stage) for x in found) == [
        ("bad_payload", "alerts", "deliver"),
        ("refused", "alerts", "deliver"),
    ]
    assert any("422" in x.detail for x in found)


async def test_stopped_and_started_again_and_again_each_revision_arrives_once(broker: KafkaSettings) -> None:
    alerts = [alert(n, session=SessionId(f"s{n % 5}")) for n in range(30)]
    async with Receiver() as receiver:
        for part in range(3):
            async with deliver(broker, hook(receiver)):
                await write(broker, [write_alert(a) for a in alerts[max(0, part * 10 - 3) : part * 10 + 10]])
                await until(lambda part=part: len(receiver.accepted) >= part * 10 + 10)  # type: ignore[misc]
    assert receiver.accepted == {f"{a.id}.0": 1 for a in alerts}


async def test_killed_in_the_middle_of_a_request_the_alert_is_sent_again_under_the_same_key(broker: KafkaSettings) -> None:
    await write(broker, [write_alert(alert(n)) for n in range(4)])
    async with Receiver(hold=asyncio.Event()) as receiver:
        assert receiver.hold
        config = Config(kafka=broker, deliver=DeliverSettings(sinks=(hook(receiver),)))
        runtime = Runtime(config=config, metrics=Metrics("deliver"), health=Health(), stop=asyncio.Event(), secrets={"HOOK": SECRET})
        task = asyncio.create_task(run(runtime))
        await until(lambda: len(receiver.requests) == 1)
        task.cancel()  # no clean end: nothing is committed
        await asyncio.wait([task])
        receiver.hold.set()
        receiver.hold = None
        async with deliver(broker, hook(receiver)):
            await until(lambda: len(receiver.accepted) == 4)
    assert len(set(receiver.requests)) == 4 and receiver.requests[0] == receiver.requests[1]


async def test_a_sink_that_is_down_holds_up_no_other_and_is_named_in_readiness(tansu: KafkaSettings) -> None:
    await write(tansu, [write_alert(alert(n)) for n in range(3)])
    down = WebhookSinkSettings(name="down", url="http://127.0.0.1:1/", secret_env="HOOK")
    async with Receiver() as receiver, deliver(tansu, hook(receiver), down) as runtime:
        await until(lambda: len(receiver.accepted) == 3)
        await until(lambda: "sink down: no answer" in (runtime.health.why or ""))


async def test_what_a_sink_will_never_take_is_not_tried_again(tansu: KafkaSettings) -> None:
    await write(tansu, [write_alert(alert(n)) for n in range(2)])
    sink, metrics = MemorySink(failures=[BadRecord(Reason.REFUSED, "no"), ValueError("a bug")]), Metrics("deliver")
    kafka, stop = Kafka(tansu), asyncio.Event()
    async with Producer(kafka) as producer:
        courier = Courier(name="m", sink=sink, kafka=kafka, producer=producer, metrics=metrics, board=Board(Health(), {}))
        task = asyncio.create_task(courier.run_until(stop))
        await until(lambda: metrics.registry.get_sample_value("streamer_deliveries_total", {"sink": "m", "outcome": "broken"}) == 1)
        stop.set()
        await task
    assert sink.taken == [] and sorted(x.reason for x in await letters(tansu)) == ["refused", "unexpected"]


async def test_couriers_that_join_and_leave_share_the_partitions_and_lose_and_repeat_nothing(broker: KafkaSettings) -> None:
    def some(revision: int) -> list[Message]:
        return [write_alert(alert(n, revision=revision, session=SessionId(f"s{n}"))) for n in range(8)]

    await write(broker, [write_alert(alert(0, session=SessionId("s1")))])  # the other partitions are empty: nothing is committed there
    first, second = MemorySink(), MemorySink()
    async with Producer(Kafka(broker)) as producer:
        team = Team(broker, producer)
        one, health, task = team.hire(first)
        await until(lambda: health.why is None and len(first.taken) == 1)
        guest = Team(broker, producer)
        other, other_health, other_task = guest.hire(second)
        await until(lambda: len(one.ours) == len(other.ours) == 2 and health.why is None and other_health.why is None)
        await write(broker, some(1))
        await until(lambda: len(first.taken) + len(second.taken) == 9)
        guest.stop.set()  # who is killed between the sink's yes and the position has it sent again, under the same key
        await other_task
        await until(lambda: task.done() or (len(one.ours) == 4 and health.why is None))
        await write(broker, some(2))
        await until(lambda: task.done() or len(first.taken) + len(second.taken) == 17)
        team.stop.set()
        await task
    assert len({d.key for d in [*first.taken, *second.taken]}) == len([*first.taken, *second.taken]) == 17


class SlowSink(MemorySink):
    """Takes what it is given a while after it was asked."""

    asked: int = 0

    async def send(self, delivery: Delivery) -> None:
        self.asked += 1
        await asyncio.sleep(1.5)
        await super().send(delivery)


async def test_an_attempt_under_way_at_a_rebalance_is_finished_and_not_repeated_by_the_next_owner(broker: KafkaSettings) -> None:
    slow, quick = SlowSink(), MemorySink()
    async with Producer(Kafka(broker)) as producer:
        team = Team(broker, producer)
        _, health, _ = first = team.hire(slow)
        await until(lambda: health.why is None)
        await write(broker, [write_alert(alert(n, session=SessionId(f"s{n}"))) for n in range(12)])
        await until(lambda: slow.asked == 1)
        second = team.hire(quick)
        await until(lambda: len({d.key for d in [*slow.taken, *quick.taken]}) == 12)
        team.stop.set()
        await asyncio.gather(first[2], second[2])
    assert quick.taken and len(slow.taken) + len(quick.taken) == 12


async def test_a_wrong_secret_waits_for_the_operator_and_is_named_in_readiness(tansu: KafkaSettings) -> None:
    await write(tansu, [write_alert(alert(1))])
    async with Receiver(answers=[(401, {})]) as receiver, deliver(tansu, hook(receiver)) as runtime:
        await until(lambda: runtime.health.why == "sink hook: answered 401")
        assert (counted(runtime, "hook", "refused"), len(receiver.requests)) == (0, 1)
    assert await letters(tansu) == []


async def test_what_deliver_does_is_counted(tansu: KafkaSettings) -> None:
    await write(tansu, [write_alert(alert(n)) for n in range(3)])
    async with Receiver(answers=[(200, {}), (410, {})]) as receiver, deliver(tansu, hook(receiver)) as runtime:
        await until(lambda: counted(runtime, "hook", "delivered") == 2)
        metrics = runtime.metrics
        await until(lambda: value(metrics, "latency_seconds_count", stage="deliver") > 0)
        assert value(metrics, "batch_records_sum", stage="deliver") == 3
        assert value(metrics, "records_written_total", stage="deliver", topic="deadletter") == 1
        assert value(metrics, "written_bytes_total", stage="deliver", topic="deadletter") > 0
        assert value(metrics, "lag_records", stage="deliver", topic="alerts") == 0


async def test_the_lag_is_what_a_sink_that_is_down_still_owes(tansu: KafkaSettings) -> None:
    await write(tansu, [write_alert(alert(n)) for n in range(3)])
    down = WebhookSinkSettings(name="down", url="http://127.0.0.1:1/", secret_env="HOOK")
    async with deliver(tansu, down) as runtime:
        await until(lambda: value(runtime.metrics, "lag_records", stage="deliver", topic="alerts") == 3)


async def test_an_alert_with_a_malformed_id_is_dead_lettered_and_the_next_one_is_sent(tansu: KafkaSettings) -> None:
    await write(tansu, [write_alert(alert(1, id="a\nb")), write_alert(alert(2))])
    async with Receiver() as receiver, deliver(tansu, hook(receiver)) as runtime:
        await until(lambda: counted(runtime, "hook", "delivered") == 1)
        assert counted(runtime, "hook", "broken") == 1 and runtime.health.why is None
    assert [(letter.reason, "id" in letter.detail) for letter in await letters(tansu)] == [("bad_payload", True)]
