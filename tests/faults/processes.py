"""What a fault is done to: a role as a process, and an Apache Kafka that can stop, freeze and come back with its data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from streamer.kafka.embedded import die_with, free_port
from tests.kafka.apache import BROKER

LONGEST_END = 30.0  # seconds


class Child:
    """A process of ours, in our working directory, that the kernel ends with us. Its output goes to NAME.log."""

    def __init__(self, name: str, command: list[str], folder: Path, *, env: Mapping[str, str] | None = None) -> None:
        self.name, self.log = name, folder / f"{name}.log"
        self._command, self._env = command, dict(os.environ) | dict(env or {})
        self.start()

    def start(self) -> None:
        """Start it, or start it again."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                env=self._env,
                start_new_session=True,  # Ctrl-C is for us; and a shell that ends continues what is stopped in its group
                preexec_fn=die_with(os.getpid()),
            )

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.poll()

    def send(self, number: int) -> None:
        """A signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9, and gone when this returns."""
        self._process.kill()
        self._process.wait()

    def wait(self, seconds: float = LONGEST_END) -> int:
        """Its exit code, once it ended. Raises subprocess.TimeoutExpired."""
        return self._process.wait(timeout=seconds)

    def end(self) -> int:
        """Ask it to end, as a supervisor would; the exit code. Kills what does not."""
        if self.code is None:
            self.send(signal.SIGCONT)
            self.send(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                return self.wait()
            self.kill()
        return self._process.returncode

    def tail(self, size: int = 3_000) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-size:]


def role(name: str, config: Path, *, called: str = "", env: Mapping[str, str] | None = None) -> Child:
    """One role of the real program."""
    return Child(called or name, [sys.executable, "-m", "streamer", "role", name, "--config", str(config)], config.parent, env=env)


class Broker:
    """An Apache Kafka on one port of 127.0.0.1 with one data folder, through the script that people use. Use as `with`."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self._where = ["--port", str(port), "--controller-port", str(free_port()), "--data", str(folder)]
        subprocess.run([sys.executable, BROKER, "fetch"], check=True)
        self._child = Child("broker", [sys.executable, str(BROKER), "run", "--end-with-parent", *self._where], folder)
        try:
            self.wait()
        except BaseException:
            self._child.kill()
            raise

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()

    def wait(self) -> None:
        """Until it answers."""
        ready = subprocess.run([sys.executable, BROKER, "wait", *self._where], capture_output=True, text=True, check=False)
        assert ready.returncode == 0, ready.stderr + self._child.tail()

    def stop(self) -> None:
        """SIGTERM, and gone when this returns."""
        self._child.end()

    def again(self) -> None:
        """Start on the same data and port."""
        self._child.start()
        self.wait()

    def freeze(self) -> None:
        """SIGSTOP: connections stay, nothing answers."""
        self._child.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._child.send(signal.SIGCONT)
