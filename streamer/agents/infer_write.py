"""What infer writes: scores in order, silences passed on, and a dead letter once for each record that is no good."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

import structlog

from streamer.errors import BadRecord, Reason, Transient
from streamer.events import SECOND, Message, Micros, Origin, Record, Scores
from streamer.health import Health
from streamer.kafka.client import Producer, Written
from streamer.metrics import Metrics
from streamer.stages.wire.dead import dead_letter, write_deadletter

FIRST_RETRY, LONGEST_RETRY, GIVE_UP = 0.1, 5.0, 120.0  # seconds
REMEMBERED = 10_000  # dead letters that are not written a second time

log = structlog.get_logger()


class Writer:
    """The only one who writes `scores`. Tries again while the world is wrong."""

    def __init__(self, producer: Producer, metrics: Metrics, health: Health) -> None:
        self._producer, self._metrics, self._health = producer, metrics, health
        self._buried = OrderedDict[Origin, Reason]()
        self._ahead = Micros(0)

    async def send(self, messages: Sequence[Message], *, ours: Callable[[], bool] = lambda: True) -> list[Written]:
        """Write all and wait for the broker's yes. Empty when `ours` became false while it failed. Raises Transient in the end."""
        pause, deadline = FIRST_RETRY, time.monotonic() + GIVE_UP
        while True:
            try:
                written = await self._producer.send(messages)
            except Transient as exc:
                if time.monotonic() > deadline:
                    raise
                self._metrics.retries.labels("infer").inc()
                self._health.not_ready(f"trying again: {exc}")
                log.warning("trying again", error=str(exc), pause=pause)
            else:
                self._count(messages, again=pause > FIRST_RETRY)
                return written
            await asyncio.sleep(pause)
            if not ours():
                return []
            pause = min(2 * pause, LONGEST_RETRY)

    async def bury(self, record: Record, error: Exception) -> Reason:
        """Write a dead letter, unless this process did so before. Returns its reason once it is acknowledged."""
        origin = Origin(topic=record.topic, partition=record.partition, offset=record.offset)
        if (before := self._buried.get(origin)) is not None:
            return before
        await self.send([write_deadletter(dead_letter("infer", record, error))])
        reason = error.reason if isinstance(error, BadRecord) else Reason.UNEXPECTED
        self._metrics.dead.labels("infer", reason.value).inc()
        self._buried[origin] = reason
        if len(self._buried) > REMEMBERED:
            self._buried.popitem(last=False)
        return reason

    def now(self) -> Micros:
        """The broker's time, as far as its last answer tells: its clock may be ahead of ours, or behind."""
        return Micros(time.time_ns() // 1_000 + self._ahead)

    def scored(self, score: Scores, written: Written) -> None:
        """Count an acknowledged score and what it took since its trigger."""
        self._metrics.scores.inc()
        now = Micros(time.time_ns() // 1_000)
        appended = written.arrival or now
        self._ahead = Micros(appended - now)
        self._metrics.added.observe(max(0.0, (appended - score.trigger) / SECOND))

    def _count(self, messages: Sequence[Message], *, again: bool) -> None:
        for message in messages:
            self._metrics.written.labels("infer", message.topic).inc()
            self._metrics.written_bytes.labels("infer", message.topic).inc(len(message.value or b""))
        if again:
            self._health.ready()
