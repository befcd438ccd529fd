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
from streamer.sinks.sink import MemorySink
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
