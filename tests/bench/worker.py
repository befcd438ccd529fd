"""A role as a process of its own, watched from outside: its metrics, processor time and memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import httpx
import psutil
import yaml
from prometheus_client.parser import text_string_to_metric_families

from streamer.config import Config, HealthSettings
from streamer.demo import free_block
from streamer.kafka.embedded import die_with
from streamer.topology import ROLES

PATIENCE = 180.0  # seconds


def until(met: Callable[[], bool], what: str, *, seconds: float = PATIENCE, pause: float = 0.02) -> None:
    """Ask again and again until it is so; fail with `what` after the deadline."""
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)


class Worker:
    """One process of one role, with ports of its own, so that several of a role run side by side. Use as `with`."""

    def __init__(self, role: str, config: Config, folder: Path, *, name: str = "") -> None:
        base = free_block(len(ROLES))
        self.role, self.name = role, name or role
        self._url = f"http://127.0.0.1:{base + ROLES.index(role)}"
        self._path = folder / f"{self.name}.yaml"
        self._path.write_text(yaml.safe_dump(config.model_copy(update={"health": HealthSettings(port=base)}).model_dump(mode="json")))
        self._log = folder / f"{self.name}.log"
        self._client = httpx.Client(timeout=60)
        self.start()

    def start(self) -> None:
        """Start it, or start it again."""
        command = [sys.executable, "-m", "streamer", "role", self.role, "--config", str(self._path)]
        log: IO[bytes]
        with self._log.open("ab") as log:
            self.child = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=die_with(os.getpid()))
        self.process = psutil.Process(self.child.pid)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGTERM)
        self._client.close()

    def end(self, number: int) -> None:
        """Send the signal and wait; kill what does not end."""
        if self.child.poll() is None:
            self.child.send_signal(number)
            try:
                self.child.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    @property
    def is_ready(self) -> bool:
        """/readyz says yes."""
        self._alive()
        try:
            return self._client.get(f"{self._url}/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def ready(self) -> None:
        """Wait for it."""
        until(lambda: self.is_ready, f"{self.name} is ready")

    def _alive(self) -> None:
        if self.child.poll() is not None:
            raise SystemExit(f"{self.name} ended:\n{self._log.read_text()[-3000:]}")

    def total(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        self._alive()
        text = self._client.get(f"{self._url}/metrics").text
        samples = (one for family in text_string_to_metric_families(text) for one in family.samples if one.name == name)
        return sum(one.value for one in samples if labels.items() <= one.labels.items())

    @property
    def cpu(self) -> float:
        """Seconds of processor time so far, kernel's included."""
        return cpu_of(self.process)

    @property
    def memory(self) -> int:
        """Resident bytes."""
        return int(self.process.memory_info().rss)


def cpu_of(process: psutil.Process) -> float:
    """Seconds of processor time so far, kernel's included."""
    times = process.cpu_times()
    return float(times.user + times.system)


def the_broker() -> psutil.Process:
    """The Java process among our children."""
    return next(one for one in psutil.Process().children(recursive=True) if "java" in one.name())


def machine_busy() -> float:
    """Seconds of processor time that the whole machine has spent so far."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - getattr(times, "guest", 0) - getattr(times, "guest_nice", 0))
