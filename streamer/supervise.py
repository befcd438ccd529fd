"""`streamer run`: one child process per role, on one machine.

Laws
1. A child that fails is started again with back-off; one that says "my configuration is wrong" (exit 2) ends the run.
2. Children never outlive the supervisor, however it ends (PR_SET_PDEATHSIG).
3. Stopping asks first (SIGTERM, sources before sinks, each given a moment to end before the next), waits, and only then kills.
4. The configuration may hold logins: children read it through an inherited descriptor, and it never stands on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
import yaml

from streamer.config import Config
from streamer.errors import ConfigError, StreamerError
from streamer.kafka.client import Kafka
from streamer.kafka.embedded import EmbeddedBroker, die_with
from streamer.kafka.topics import create_topics
from streamer.roles import MISCONFIGURED, OK, Logging, leaves
from streamer.topology import ROLES

log = structlog.get_logger()

FIRST_PAUSE, LONGEST_PAUSE, STEADY = 0.5, 30.0, 60.0  # seconds
PATIENCE = 15.0  # seconds that stopping may take before what is left is killed


@dataclass(slots=True)
class Child:
    """One role's process and how often it had to be started."""

    role: str
    process: asyncio.subprocess.Process | None = None
    starts: int = 0
    pause: float = FIRST_PAUSE
    exit_code: int | None = None


@dataclass(slots=True)
class Supervisor:
    """Runs `roles` as children until `stop` is set. A role that ends by itself with 0 (ingest, when its files are over) is done."""

    config: Config
    roles: Sequence[str] = ROLES
    logging: Logging = field(default_factory=Logging)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    patience: float = PATIENCE
    children: dict[str, Child] = field(default_factory=dict)
    problem: str | None = None

    async def run(self) -> None:
        """Start all, keep them running, end them. Raises ConfigError if a child refused its configuration."""
        with shared(self.config) as file:
            tasks = {role: asyncio.create_task(self._keep(role, file)) for role in self.roles}
            asking: asyncio.Future[Any] = asyncio.create_task(self.stop.wait())
            over: asyncio.Future[Any] = asyncio.gather(*tasks.values())
            try:
                await asyncio.wait({asking, over}, return_when=asyncio.FIRST_COMPLETED)
            finally:  # also when cancelled
                asking.cancel()
                await self._end(tasks)
            await over
        if self.problem:
            raise ConfigError(self.problem)

    async def _keep(self, role: str, file: int) -> None:
        child = self.children[role] = Child(role)
        while not self.stop.is_set():
            started = time.monotonic()
            child.process = await self._spawn(role, file)
            child.starts += 1
            if self.stop.is_set():
                child.process.terminate()  # it was not there yet when all were asked to end
            child.exit_code = await child.process.wait()
            if child.exit_code == OK or self.stop.is_set():
                return
            if child.exit_code == MISCONFIGURED:
                self.problem = f"{role} refused its configuration (see its message above)"
                self.stop.set()
                return
            child.pause = FIRST_PAUSE if time.monotonic() - started > STEADY else min(LONGEST_PAUSE, child.pause * 2)
            pause = child.pause * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
            log.warning("role ended, starting it again", role=role, exit_code=child.exit_code, pause_s=round(pause, 1))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), pause)

    async def _spawn(self, role: str, file: int) -> asyncio.subprocess.Process:
        command = [sys.executable, "-m", "streamer", *self.logging.arguments]
        return await asyncio.create_subprocess_exec(
            *command,
            *("role", role, "--config", f"/proc/self/fd/{file}"),
            pass_fds=(file,),
            start_new_session=True,
            preexec_fn=die_with(os.getpid()),
        )

    async def _end(self, tasks: dict[str, asyncio.Task[None]]) -> None:
        """Law 3. A role that does not end holds up the next one only for its share of `patience`."""
        self.stop.set()
        deadline = time.monotonic() + self.patience
        for role, task in tasks.items():
            child = self.children.get(role)
            if child and child.process and child.process.returncode is None:
                log.info("asking a role to end", role=role)
                child.process.send_signal(signal.SIGTERM)
            await asyncio.wait([task], timeout=self.patience / (len(tasks) + 1))
        _, late = await asyncio.wait(tasks.values(), timeout=max(0.0, deadline - time.monotonic()))
        for child in self.children.values():
            if late and child.process and child.process.returncode is None:
                log.warning("role did not end, killing it", role=child.role)
                child.process.kill()
        if late:
            await asyncio.wait(late)


@contextlib.contextmanager
def shared(config: Config) -> Iterator[int]:
    """The configuration as a file in memory that has no name: its descriptor, for children to inherit. Each opens it anew."""
    file = os.memfd_create("streamer.yaml")
    try:
        with open(file, "w", encoding="utf-8", closefd=False) as out:
            yaml.safe_dump(config.model_dump(mode="json"), out)
        yield file
    finally:
        os.close(file)


@contextlib.asynccontextmanager
async def broker(config: Config) -> AsyncIterator[Config]:
    """The configuration with a broker's address in it: the given one's, or that of an embedded broker started here.

    The embedded broker ends with the block; when it grows past its memory limit the block is cancelled with ConfigError.
    """
    if config.kafka.bootstrap != "embedded":
        yield config
        return
    async with EmbeddedBroker(memory_mb=config.kafka.embedded_memory_mb) as embedded, beside(embedded.guard()):
        update = {"bootstrap": embedded.bootstrap, "idempotent": False}
        yield config.model_copy(update={"kafka": config.kafka.model_copy(update=update)})


@contextlib.asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run `work` beside the block. Its error ends the block; at the block's end it is cancelled. Raises StreamerError as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            yield task
            task.cancel()
    except* StreamerError as errors:
        raise leaves(errors)[0] from None


async def run_all(config: Config, *, password: str | None, logging: Logging) -> None:
    """`streamer run`: broker if asked for, topics, all roles; until SIGINT or SIGTERM. Raises StreamerError."""
    supervisor = Supervisor(config, logging=logging)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, supervisor.stop.set)
    async with broker(config) as supervisor.config:
        await create_topics(Kafka(supervisor.config.kafka, password=password))
        ports = ", ".join(f"{role} :{config.health.port + i}" for i, role in enumerate(ROLES)) if config.health.port else "see the log"
        log.info("running", broker=supervisor.config.kafka.bootstrap, sessions=len(config.sessions), metrics=ports)
        await supervisor.run()
