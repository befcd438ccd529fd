#!/usr/bin/env python3
"""One node of a real Apache Kafka on this machine, for tests and for trying things out.

Everything listens on 127.0.0.1. The jars come from Maven (pom.xml pins them, jars.sha256 checks them) into
${STREAMER_HOME:-~/.cache/streamer}/kafka. Each command may be repeated: what is already done is not done again.

  fetch    download and check the jars
  format   prepare the data folder of a port
  start    run in the background (fetches and formats first) and return when it answers
  wait     return when it answers
  stop     end the broker of a data folder, by its process id
  run      run in the foreground (fetches and formats first)

Needs only Python's standard library, Java 17 or newer, and Maven for the first fetch.
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Absolute: for Maven a relative path counts from the folder of pom.xml.
HOME = Path(os.environ.get("STREAMER_HOME") or Path.home() / ".cache" / "streamer").resolve() / "kafka"
JARS = HOME / "jars"
PR_SET_PDEATHSIG = 1
JAVA = ("-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Djava.awt.headless=true")
MESSAGE_MAX_BYTES = 16 << 20  # above the largest topic in streamer/topology.py; topics set their own limit
SETTINGS = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
log.dirs={data}/log
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
message.max.bytes={largest}
replica.fetch.max.bytes={largest}
"""


class Failure(Exception):
    """Something a person must mend; the message says what."""


def say(text: str) -> None:
    """One line about what is happening."""
    print(f"kafka: {text}", flush=True)


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """Let one process at a time do this; the others wait."""
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def wrong_jars() -> list[str]:
    """Names of the jars that are missing or not what jars.sha256 says."""
    wrong = []
    for line in (HERE / "jars.sha256").read_text().splitlines():
        digest, name = line.split()
        path = JARS / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            wrong.append(name)
    return wrong


def fetch() -> None:
    """Download the jars unless they are there and right."""
    with only_one("fetch"):
        if not wrong_jars():
            return
        if not shutil.which("mvn"):
            raise Failure("Apache Kafka is fetched with Maven, and `mvn` is not here: install the package `maven`")
        say(f"fetching Apache Kafka 4.4.0 (43 MB) with Maven into {JARS}")
        shutil.rmtree(JARS, ignore_errors=True)
        command = ["mvn", "-q", "-B", "-ntp", "-Dstyle.color=never", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        done = subprocess.run([*command, f"-DoutputDirectory={JARS}"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failure(f"Maven failed:\n{(done.stdout + done.stderr)[-2000:]}")
        if wrong := wrong_jars():
            raise Failure(f"{len(wrong)} jars are not what jars.sha256 says: {', '.join(wrong)}")


def java(data: Path, main: str, *arguments: str) -> list[str]:
    """The command line of one of Kafka's programs."""
    program = shutil.which("java")
    if not program:
        raise Failure("Apache Kafka needs Java 17 or newer, and `java` is not here: install `openjdk-17-jre-headless`")
    logging = f"-Dlog4j2.configurationFile={HERE / 'log4j2.properties'}"
    return [program, *JAVA, logging, f"-Dkafka.logs.dir={data}", "-cp", f"{JARS}/*", main, *arguments]


def format_data(port: int, controller: int, data: Path) -> Path:
    """Write the settings, and prepare the data folder unless it is prepared. Returns the settings file."""
    data.mkdir(parents=True, exist_ok=True)
    settings, more = data / "server.properties", data / "more.properties"
    written = SETTINGS.format(port=port, controller=controller, data=data, largest=MESSAGE_MAX_BYTES)
    settings.write_text(written + (more.read_text() if more.exists() else ""))  # of a setting that stands there twice the last counts
    if not (data / "log" / "meta.properties").exists():
        cluster = "k" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[1:22]  # an id must not start with a dash
        command = java(data, "kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", str(settings))
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failure(f"formatting {data} failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return settings


def answers(port: int) -> bool:
    """Whether a broker answers ApiVersions on 127.0.0.1 (an open port alone does not say so)."""
    request = struct.pack(">hhih", 18, 0, 7, -1)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as link:
            link.sendall(struct.pack(">i", len(request)) + request)
            reply = link.recv(10, socket.MSG_WAITALL)
    except OSError:
        return False
    return len(reply) == 10 and struct.unpack(">iih", reply)[1:] == (7, 0)


def running(data: Path) -> int | None:
    """The process id of this data folder's broker, if it lives (a recycled id is not mistaken for it)."""
    try:
        pid = int((data / "broker.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return pid if str(data / "server.properties").encode() in command else None


def wait(port: int, data: Path, seconds: float, child: subprocess.Popen[bytes] | None = None) -> None:
    """Return when the broker answers. Fails at the deadline, or at once if the child that should answer is gone."""
    deadline = time.monotonic() + seconds
    while not answers(port):
        if child is not None and child.poll() is not None:
            raise Failure(f"the broker ended at once; its log is {data / 'broker.log'}")
        if time.monotonic() > deadline:
            raise Failure(f"no broker answers on 127.0.0.1:{port} after {seconds:.0f} s; its log is {data / 'broker.log'}")
        time.sleep(0.1)


def must_be_free(port: int) -> None:
    """Fails where another broker answers."""
    if answers(port):
        raise Failure(f"port {port} already belongs to another broker; choose one with --port")


def start(port: int, controller: int, data: Path, seconds: float) -> None:
    """Run in the background and wait until it answers."""
    child = None
    if running(data) is None:
        must_be_free(port)
        fetch()
        settings = format_data(port, controller, data)
        with (data / "broker.log").open("ab") as log:
            child = subprocess.Popen(java(data, "kafka.Kafka", str(settings)), stdout=log, stderr=log, start_new_session=True)
        (data / "broker.pid").write_text(str(child.pid))
    wait(port, data, seconds, child)
    say(f"ready on 127.0.0.1:{port}")


def run(port: int, controller: int, data: Path, *, end_with_parent: bool) -> None:
    """Become the broker: this process is replaced by it, so Ctrl-C and signals reach it."""
    parent = os.getppid()
    if end_with_parent and (ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) or os.getppid() != parent):
        raise Failure("cannot tie the broker to its parent process")
    if (pid := running(data)) is not None:  # its id is all that `stop` knows of it
        raise Failure(f"the broker of {data} runs already, as process {pid}; end it with `stop`, or choose another port with --port")
    must_be_free(port)
    fetch()
    settings = format_data(port, controller, data)
    (data / "broker.pid").write_text(str(os.getpid()))
    say(f"starting on 127.0.0.1:{port}, data in {data}; Ctrl-C ends it")
    command = java(data, "kafka.Kafka", str(settings))
    os.execv(command[0], command)


def stop(data: Path, seconds: float) -> None:
    """End the broker of this data folder, and wait until it is gone."""
    pid = running(data)
    if pid is None:
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + seconds
    while running(data) is not None:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("fetch", "format", "start", "wait", "stop", "run"))
    parser.add_argument("--port", type=int, default=9092, help="the broker's port (default 9092)")
    parser.add_argument("--controller-port", type=int, help="the controller's port (default: the next one)")
    parser.add_argument(
        "--data", type=Path, help="data folder (default: one per port under STREAMER_HOME); settings of yours in its more.properties"
    )
    parser.add_argument("--timeout", type=float, default=60, help="seconds to wait for an answer or an end (default 60)")
    parser.add_argument("--end-with-parent", action="store_true", help="with run: end when the calling process ends")
    options = parser.parse_args()
    data = (options.data or HOME / f"data-{options.port}").resolve()
    controller = options.controller_port or options.port + 1
    try:
        if options.command == "fetch":
            fetch()
        elif options.command == "format":
            fetch()
            format_data(options.port, controller, data)
        elif options.command == "start":
            start(options.port, controller, data, options.timeout)
        elif options.command == "wait":
            wait(options.port, data, options.timeout)
        elif options.command == "stop":
            stop(data, options.timeout)
        else:
            run(options.port, controller, data, end_with_parent=options.end_with_parent)
    except Failure as exc:
        print(f"kafka: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
