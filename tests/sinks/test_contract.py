"""What every sink promises, over every implementation, the fake included."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from rich.console import Console

from streamer.config import WebhookSinkSettings
from streamer.sinks.log import LogSink
from streamer.sinks.sink import Delivery, MemorySink, Sink
from streamer.sinks.webhook import WebhookSink
from streamer.stages.wire import write_alert
from tests.builders_decide import alert
from tests.sinks.receiver import SECRET, Receiver

Opened = tuple[Sink, Callable[[], int]]


def delivery(number: int = 0, **changes: object) -> Delivery:
    one = alert(number, **changes)  # type: ignore[arg-type]
    return Delivery(alert=one, body=write_alert(one).value or b"")


@asynccontextmanager
async def opened(kind: str) -> AsyncIterator[Opened]:
    """A sink, and how many deliveries its far side has taken."""
    if kind == "memory":
        memory = MemorySink()
        yield memory, lambda: len(memory.taken)
    elif kind == "log":
        out = io.StringIO()
        yield LogSink(Console(file=out, width=80)), lambda: out.getvalue().count("\n")
    else:
        async with Receiver() as receiver:
            settings = WebhookSinkSettings(name="hook", url=receiver.url, secret_env="S")
            async with WebhookSink(settings, SECRET) as sink:
                yield sink, lambda: sum(receiver.accepted.values())


@pytest.fixture(params=["memory", "log", "webhook"])
async def sink(request: pytest.FixtureRequest) -> AsyncIterator[Opened]:
    async with opened(request.param) as found:
        yield found


async def test_what_a_sink_said_yes_to_has_arrived(sink: Opened) -> None:
    send, taken = sink
    for number in range(3):
        await send.send(delivery(number))
        assert taken() == number + 1


async def test_a_sink_takes_the_same_revision_again(sink: Opened) -> None:
    """At least once: telling duplicates is deliver's and the receiver's, by the key."""
    await sink[0].send(delivery())
    await sink[0].send(delivery())
    assert sink[1]() == 2


@pytest.mark.parametrize(
    "text", ["", "“quoted”", "привет", "[red]markup[/red]", "\x1b[2J\x07\u202eevil\n\r\x9b", "x" * 5_000, "\ud7ff\U0001f6a8"]
)
async def test_any_words_go_through(sink: Opened, text: str) -> None:
    await sink[0].send(delivery(text=text))
    assert sink[1]() == 1


async def test_an_alert_without_evidence_goes_through(sink: Opened) -> None:
    one = alert()
    await sink[0].send(delivery(evidence=type(one.evidence)(), contributions={}, sources=()))
    assert sink[1]() == 1
