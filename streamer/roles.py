"""One role in this process: builds its surroundings, runs its agent until a signal, and turns errors into exit codes.

Exit codes: 0 done or asked to stop; 2 our configuration is wrong (a supervisor must not try again); 1 anything else.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import structlog
import uvloop

from streamer.config import Config
from streamer.errors import ConfigError, StreamerError
from streamer.health import Health, HealthServer
from streamer.metrics import Metrics
from streamer.runtime import Runtime
from streamer.topology import ROLES

OK, FAILED, MISCONFIGURED = 0, 1, 2

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Logging:
    """How loud, and whether for people or for machines. `arguments` hands it on to a child's command line."""

    level: str = "info"
    json: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        """As options of the `streamer` command."""
        return ("--log-level", self.level, *(("--json-logs",) if self.json else ()))


def configure_logging(stage: str, logging_: Logging) -> None:
    """Send structlog and the standard library's records to stderr, one line each, with the stage's name."""
    render = structlog.processors.JSONRenderer() if logging_.json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[logging_.level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    structlog.contextvars.bind_contextvars(stage=stage)
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Seldom())
    logging.basicConfig(
        handlers=[handler], level=logging.WARNING, format=f"%(asctime)s [%(levelname)s] {stage} %(name)s: %(message)s", force=True
    )


class Seldom(logging.Filter):
    """Lets a library's message through once in `PAUSE` seconds: with the broker away, aiokafka repeats itself ten times a second."""

    PAUSE = 10.0

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, int], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """One line of code may speak again after the pause."""
        key = (record.pathname, record.lineno)
        if record.created - self._last.get(key, 0.0) < self.PAUSE:
            return False
        self._last[key] = record.created
        return True


def entry_point(role: str) -> Callable[[Runtime], Awaitable[None]]:
    """The agent's `run`. Raises ConfigError for a name that is not a role."""
    if role not in ROLES:
        raise ConfigError(f"no role is called {role!r}; there are: {', '.join(ROLES)}")
    run: Callable[[Runtime], Awaitable[None]] = importlib.import_module(f"streamer.agents.{role}").run
    return run


def run_role(role: str, config: Config, secrets: Mapping[str, str]) -> int:
    """Run one role until it ends or SIGINT/SIGTERM asks it to. Returns the exit code."""
    try:
        run = entry_point(role)
        uvloop.run(_serve(role, run, config, secrets))
    except Exception as exc:
        return told(exc)
    return OK


def told(exc: Exception) -> int:
    """Say why a role ends; its exit code. An agent's task group wraps its errors: one ConfigError among them decides."""
    errors = leaves(exc)
    if wrong := [one for one in errors if isinstance(one, ConfigError)]:
        log.error("configuration", problem=str(wrong[0]))
        return MISCONFIGURED
    if all(isinstance(one, StreamerError) for one in errors):
        log.error("stopped", problem="; ".join(map(str, errors)))
    else:
        log.error("stopped by an unexpected error", exc_info=exc)
    return FAILED


def leaves(exc: BaseException) -> list[BaseException]:
    """The errors inside a group, or the error itself."""
    return [leaf for one in exc.exceptions for leaf in leaves(one)] if isinstance(exc, BaseExceptionGroup) else [exc]


async def _serve(role: str, run: Callable[[Runtime], Awaitable[None]], config: Config, secrets: Mapping[str, str]) -> None:
    if role == "transcribe":
        os.nice(config.transcribe.nice)
    runtime = Runtime(config=config, metrics=Metrics(role), health=Health(), stop=asyncio.Event(), secrets=secrets)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, runtime.stop.set)
    async with HealthServer(config.health, health=runtime.health, metrics=runtime.metrics, index=ROLES.index(role)) as server:
        log.info("started", metrics=f"http://{config.health.host}:{server.port}/metrics")
        await run(runtime)
        log.info("stopped")
