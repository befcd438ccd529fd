"""Live scores whose alerts are known beforehand, decide and deliver as processes, and a receiver that counts what it takes.

The scores are written by hand (no model is asked): sirens that come and go in every session, with revisions that are late. What
must come of them is what the pure stage says of the same scores, in the order in which they were acknowledged.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streamer.config import Config
from streamer.events import Alert, Micros, Scores, SessionId, SessionMark
from streamer.kafka.client import Kafka
from streamer.kafka.topics import create_topics
from streamer.rules import parse_rules
from streamer.stages.decide import Decider, DecideSettings
from streamer.stages.wire import read_alert, write_scores, write_silence
from tests.bench.load import spread
from tests.builders_decide import mark, scores
from tests.faults.feed import AGAIN, LONGEST_REQUEST
from tests.faults.place import PARTITIONS, Place, fresh
from tests.faults.watch import watching
from tests.integration.pipeline import until
from tests.sinks.receiver import SECRET, Receiver

RULES = {"rules": [{"id": "siren", "class": "siren", "threshold": 0.5, "duration": "2s", "cooldown": 0}]}
BEAT = 0.25  # seconds between two windows of a session
QUIET = 4.0  # seconds without a delivery

Brief = tuple[str, int, int, float]


def beat(second: int, sessions: Sequence[str]) -> Iterator[Scores | SessionMark]:
    """One window of each session, and sometimes a late word about an earlier one."""
    for n, name in enumerate(sessions):
        place, loud = SessionId(name), (second + 3 * n) % 9 in (2, 3, 4)
        yield scores(second, 0.9 if loud else 0.1, session=place)
        if second % 7 == 6:
            yield scores(second - 4, 0.8 if loud else 0.2, revision=1, session=place, quote="help")


def brief(alert: Alert) -> Brief:
    """What a revision says."""
    return alert.state.value, alert.start, alert.end, alert.score


def expected(told: Sequence[Scores | SessionMark], config: Config) -> dict[tuple[str, int], Brief]:
    """What the pure stage says."""
    decider = Decider(parse_rules(RULES), DecideSettings.beyond(config.align))
    said = [alert for n, one in enumerate(told) for alert in decider.push(one, arrival=Micros(n), offset=n)]
    return {(alert.id, alert.revision): brief(alert) for alert in said}


@dataclass
class Alarms(Place):
    """A place with hand-written scores and a receiver. `told`: what the broker acknowledged, in that order."""

    config: Config = field(default_factory=Config)
    receiver: Receiver = field(default_factory=Receiver)
    told: list[Scores | SessionMark] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def feed(self) -> None:
        """Until `stop`; then every session falls silent, which resolves what is open."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self.kafka.settings.bootstrap, acks="all", enable_idempotence=True, request_timeout_ms=LONGEST_REQUEST
        )
        async with producer:
            for second in itertools.count():
                if self.stop.is_set():
                    break
                for one in beat(second, self.sessions):
                    await self._write(producer, one)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.stop.wait(), BEAT)
            for name in self.sessions:
                await self._write(producer, mark(second + 60, session=SessionId(name)))

    async def _write(self, producer: AIOKafkaProducer, one: Scores | SessionMark) -> None:
        message = write_silence("scores", one) if isinstance(one, SessionMark) else write_scores(one)
        while True:
            try:
                await producer.send_and_wait(self.kafka.physical(message.topic), message.value, message.key, headers=list(message.headers))
            except KafkaError:
                await asyncio.sleep(AGAIN)
            else:
                self.told.append(one)
                return

    async def finish(self, feeding: asyncio.Task[None]) -> None:
        """Until the receiver has all that must come, and then nothing more for a while."""
        self.stop.set()
        await feeding
        wanted = {f"{name}.{revision}" for name, revision in expected(self.told, self.config)}

        async def complete() -> bool:
            self.look()
            return self.receiver.accepted.keys() >= wanted

        with suppress(AssertionError):  # the verdict counts what is missing
            await until(complete, "every alert at the receiver", seconds=90)
        heard, since = -1, time.monotonic()
        while time.monotonic() - since < QUIET:
            if len(self.receiver.requests) != heard:
                heard, since = len(self.receiver.requests), time.monotonic()
            await asyncio.sleep(0.1)

    async def verdict(self) -> dict[str, int]:
        """Alerts that are lost, nobody's, or say something else; (id, revision) that the receiver took twice."""
        want = expected(self.told, self.config)
        names = {f"{name}.{revision}" for name, revision in want}
        written: dict[tuple[str, int], Brief] = {}
        for alert in await self.read("alerts", read_alert):
            written.setdefault((alert.id, alert.revision), brief(alert))
        accepted = self.receiver.accepted
        return {
            "scores told": len(self.told),
            "alerts": len(names),
            "alerts lost": len(names - accepted.keys()),
            "alerts unexpected": len(accepted.keys() - names),
            "alerts differ": sum(written.get(key) != said for key, said in want.items()),
            "twice": sum(count > 1 for count in accepted.values()),
            "forged": self.receiver.forged,
        }


@asynccontextmanager
async def alarms(address: str, folder: Path, *, sessions: int = 8) -> AsyncIterator[tuple[Alarms, asyncio.Task[None]]]:
    """A fresh place: its topics, its settings, scores flowing, the receiver listening. Yields it and its feed."""
    folder.mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(Receiver())
        sink = {"type": "webhook", "name": "hook", "url": receiver.url, "secret_env": "HOOK"}
        config = Config(kafka=fresh(address), rules=folder / "rules.yaml", deliver={"sinks": [sink]}, health={"port": 0})
        (folder / "rules.yaml").write_text(yaml.safe_dump(RULES))
        (folder / "streamer.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
        door, names = Kafka(config.kafka), tuple(spread(sessions, PARTITIONS))
        await create_topics(door)
        watches = {"alerts": await stack.enter_async_context(watching(door, "alerts"))}
        place = Alarms(kafka=door, folder=folder, sessions=names, watches=watches, env={"HOOK": SECRET}, config=config, receiver=receiver)
        stack.callback(place.close)
        feeding = asyncio.create_task(place.feed())
        stack.callback(feeding.cancel)
        yield place, feeding
