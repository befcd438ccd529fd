"""align or decide as it ships, in a process of its own on a real broker, that dies or loses an answer where a schedule says.

python -m tests.simulator.worker ROLE SEED RECORDS KAFKA_AS_JSON FILE

FILE.fault is read before each write, and says what strikes it (`arm`); FILE.ready is there once it works.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from streamer.agents import align
from streamer.agents.align import Aligning
from streamer.agents.decide import ALERTS, SCORES, Deciding
from streamer.agents.host import host
from streamer.config import KafkaSettings
from streamer.errors import Transient
from streamer.events import Message
from streamer.health import Health
from streamer.kafka.client import Kafka, Producer, Written
from streamer.metrics import Metrics
from streamer.runtime import Runtime
from tests.simulator.broker import Fault
from tests.simulator.outcome import config_of, decider_of
from tests.simulator.schedule import Schedule, generate


class Faulty(Producer):
    """A producer that is struck as `Door` is, once `file` says so: "crash 3", "lost 0". What would come late does not come."""

    def __init__(self, kafka: Kafka, file: Path) -> None:
        super().__init__(kafka)
        self._file = file

    async def send(self, messages: Sequence[Message]) -> list[Written]:
        """Write all, or fail in the middle. A fault that the messages do not reach strikes one of the next ones."""
        if (fault := _taken(self._file)) is None:
            return await super().send(messages)
        if fault.after > len(messages) or not messages:
            arm(self._file, Fault(fault.kind, fault.after - len(messages)))
            return await super().send(messages)
        await super().send(messages[: fault.after])
        if fault.kind == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        raise Transient("no acknowledgement came")


def arm(file: Path, fault: Fault) -> None:
    """The worker that looks at this file is struck after so many more writes."""
    fresh = file.with_suffix(".new")
    fresh.write_text(f"{fault.kind} {fault.after}")
    fresh.replace(file)


def _taken(file: Path) -> Fault | None:
    try:
        kind, after = file.read_text().split()
    except FileNotFoundError:
        return None
    file.unlink()
    return Fault(kind, int(after))


class Told(Health):
    """Leaves a file when it is ready."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def ready(self) -> None:
        """The process does its work."""
        super().ready()
        self._file.touch()


async def work(role: str, schedule: Schedule, settings: KafkaSettings, file: Path) -> None:
    """Until SIGTERM."""
    config, metrics, kafka = config_of(schedule, settings), Metrics(role), Kafka(settings)
    runtime = Runtime(config=config, metrics=metrics, health=Told(file.with_suffix(".ready")), stop=asyncio.Event())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, runtime.stop.set)
    async with Faulty(kafka, file.with_suffix(".fault")) as producer:
        if role == "align":
            aligning = Aligning(config=config, producer=producer, metrics=metrics)
            await host(runtime, kafka, owner=role, topics=align.TOPICS, outputs=(align.WINDOWS,), stateful=aligning, producer=producer)
        else:
            deciding = Deciding(config=config, producer=producer, metrics=metrics, decider=decider_of(schedule, file.name))
            await host(runtime, kafka, owner=role, topics=(SCORES,), outputs=(ALERTS,), stateful=deciding, producer=producer)


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    _, name, seed, records, kafka_settings, where = sys.argv
    told = KafkaSettings.model_validate_json(kafka_settings)
    asyncio.run(work(name, generate(int(seed), records=int(records)), told, Path(where)))
