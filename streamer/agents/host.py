"""Faust hosts the stages with state: an app inside our process, one agent over a channel, fed by the source.

The app connects to no broker and listens nowhere: reading, checkpoints and rebalancing are the source's (DESIGN §5).
One whole batch is one message; the agent completes its future, and the source waits for that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import faust

from streamer.health import Health
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.source import Batch, Source, Stateful
from streamer.runtime import Runtime, settle


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One batch on its way to the agent, and the future that says that it is done or why not."""

    batch: Batch
    done: asyncio.Future[None]


async def host(
    runtime: Runtime,
    kafka: Kafka,
    *,
    owner: str,
    topics: Sequence[str],
    outputs: Sequence[str] = (),
    stateful: Stateful,
    producer: Producer,
) -> None:
    """Run `stateful` as a Faust agent named `owner` over `topics` until `runtime.stop`. Raises whatever ended the work before."""
    app = faust.App(
        owner, broker="kafka://never-connected", store="memory://", web_enabled=False, topic_disable_leader=True, autodiscover=False
    )
    app.boot_strategy.enable_kafka = False  # agents only: no consumer thread, leader, tables or producer of Faust's own
    channel = app.channel(maxsize=1)

    async def work(deliveries: AsyncIterable[Delivery]) -> None:
        async for delivery in deliveries:
            try:
                await stateful.handle(delivery.batch)
            except Exception as exc:
                _finish(delivery, exc)
            else:
                _finish(delivery, None)

    async def deliver(batch: Batch) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        message: Any = Delivery(batch=batch, done=done)  # a channel carries any value
        await channel.put(message)
        await done

    app.agent(channel, name=owner)(work)
    app.finalize()
    settle()
    await app.start()
    app.flow_control.resume()  # no topic of its own: without this `put` would wait for ever
    try:
        source = Source(
            kafka,
            owner=owner,
            topics=topics,
            outputs=outputs,
            stateful=stateful,
            producer=producer,
            metrics=runtime.metrics,
            ready=partial(_tell, runtime.health),
            deliver=deliver,
            beacon=app.beacon,
        )
        await app.add_runtime_dependency(source)
        try:
            await source.wait_for(runtime.stop)
        finally:
            await source.stop()  # first: its last batch still needs the agent
    finally:
        await app.stop()


def _finish(delivery: Delivery, exc: Exception | None) -> None:
    if delivery.done.cancelled():
        return
    if exc is None:
        delivery.done.set_result(None)
    else:
        delivery.done.set_exception(exc)


def _tell(health: Health, why_not: str | None) -> None:
    if why_not is None:
        health.ready()
    else:
        health.not_ready(why_not)
