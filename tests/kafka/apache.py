"""A real Apache Kafka for tests and measurements, through the script that people use too."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition

from streamer.kafka.client import Kafka
from streamer.kafka.embedded import free_port

BROKER = Path(__file__).parents[2] / "deploy" / "kafka" / "broker.py"


@contextmanager
def apache_kafka(folder: Path) -> Iterator[str]:
    """A broker of its own on 127.0.0.1, its data in `folder`; its address. The kernel ends it with this process."""
    port = free_port()
    where = ["--port", str(port), "--controller-port", str(free_port()), "--data", str(folder)]
    subprocess.run([sys.executable, BROKER, "fetch"], check=True)
    with (folder / "broker.log").open("wb") as log:
        child = subprocess.Popen([sys.executable, BROKER, "run", "--end-with-parent", *where], stdout=log, stderr=log)
    try:
        ready = subprocess.run([sys.executable, BROKER, "wait", *where], capture_output=True, text=True, check=False)
        assert ready.returncode == 0, ready.stderr + (folder / "broker.log").read_text()[-2000:]
        yield f"127.0.0.1:{port}"
    finally:
        child.kill()
        child.wait()


async def delete_before(kafka: Kafka, tp: TopicPartition, offset: int) -> None:
    """As retention does."""
    admin = AIOKafkaAdminClient(**kafka.common)
    await admin.start()
    try:
        await admin.delete_records({tp: RecordsToDelete(before_offset=offset)})
    finally:
        await admin.close()
