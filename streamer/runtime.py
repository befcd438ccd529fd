"""What every role is handed when it starts: things are built in one place (the command line) and passed on."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from dataclasses import dataclass, field

from streamer.config import Config
from streamer.health import Health
from streamer.metrics import Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """One role's surroundings. A role's `run(runtime)` works until `stop` is set, then finishes what it holds.

    `secrets` maps the names in the configuration (`password_env`, `secret_env`) to values; only the command line
    reads the environment. A ConfigError out of `run` ends the process with exit code 2, anything else with 1.
    """

    config: Config
    metrics: Metrics
    health: Health
    stop: asyncio.Event
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)


def settle() -> None:
    """Take what is loaded by now for lasting: the garbage collector looks through it no more.

    With torch and Faust loaded a full collection stops a process for a quarter of a second, again and again as it works.
    """
    gc.collect()
    gc.freeze()
