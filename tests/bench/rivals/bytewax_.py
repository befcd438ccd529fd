"""bytewax: one source over three topics, sliding windows in event time per key, one worker.

What it does not do: the topics are not aligned with each other. Each partition is read on its own, as fast as it comes, while
the watermark of a key is the latest event time seen of it, so over a backlog the topic that is ahead makes the others late, and
late events are dropped. So it is given align's horizon (120 s) to wait: over this backlog nothing is late, and all windows close
when the input ends, which a running pipeline's does not; live, its windows would come 120 s late. With 300 ms to wait
(`{"wait": 0.3}` in the task's options; measured 2026-11-25) it drops 30,446 of the 41,600 places that events have in windows.
An event belongs to windows by its start alone (no intervals); no revisions, no idle or ended tracks; recovery (snapshots of all
state) is off, as is its default; its output goes where its client's partitioner says. It opens one consumer per partition and
topic, each of which fetches ahead.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from bytewax import operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, SlidingWindower, collect_window
from bytewax.testing import run_main

from tests.bench.rivals.task import HOP, LENGTH, Reference, Task, Watch, event_time, reference, task

HORIZON = timedelta(seconds=120)
ORIGIN = datetime(2024, 1, 1, tzinfo=UTC)


def run(asked: Task) -> None:
    """Read everything once; the end of the input closes what is open."""
    watch = Watch(asked.count, fetches=True)

    def refer(record: KafkaSourceMessage[bytes, bytes]) -> tuple[str, tuple[datetime, Reference]]:
        watch.saw()
        made = reference(record.headers, record.topic or "", record.partition or 0, record.offset or 0, len(record.value))
        return record.key.decode(), (event_time(record.headers), made)

    def written(item: tuple[str, tuple[int, list[tuple[datetime, Reference]]]]) -> KafkaSinkMessage[bytes, bytes]:
        watch.windows += 1
        session, (number, events) = item
        start = ORIGIN + number * HOP
        manifest = [made for _, made in events]
        value = {"session": session, "start": start.isoformat(), "end": (start + LENGTH).isoformat(), "manifest": manifest}
        return KafkaSinkMessage(key=session.encode(), value=json.dumps(value).encode())

    def late(_item: Any) -> None:
        watch.late += 1

    wait = timedelta(seconds=asked.options.get("wait", HORIZON.total_seconds()))
    flow = Dataflow("rival")
    records = op.input("in", flow, KafkaSource([asked.bootstrap], asked.topics, tail=False))
    keyed = op.map("refer", records, refer)
    clock = EventClock(lambda item: item[0], wait_for_system_duration=wait)
    windows = collect_window("windows", keyed, clock, SlidingWindower(length=LENGTH, offset=HOP, align_to=ORIGIN))
    op.output("out", op.map("write", windows.down, written), KafkaSink([asked.bootstrap], asked.output))
    op.inspect("late", windows.late, lambda _step, item: late(item))
    run_main(flow)
    watch.tell()


if __name__ == "__main__":
    run(task())
