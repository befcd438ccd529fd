"""quixstreams: three topics joined with `concat`, hopping windows closed by event time per key, state in RocksDB.

The nearest it has to align, with its own defaults (a changelog topic per state store, a commit every 5 s). It aligns the
topics by their broker timestamps, keeps offsets and state, and recovers. What it does not do: an event belongs to windows by its
start alone (no intervals); one watermark per key, so the track that is ahead closes the windows of the others (no idle, ended
or expected tracks); what comes after a window's close is dropped, with a log line (no revision, no `late` topic); recovery is at
least once, and a window written before a crash may be written again with other contents; nothing bounds what a session holds.
The last windows of each session stay open when the input ends, as they do with align.
"""

from __future__ import annotations

from typing import Any

from quixstreams import Application
from quixstreams.context import message_context
from quixstreams.dataframe.windows.aggregations import Collect

from tests.bench.rivals.task import BOUND, HOP, LENGTH, Headers, Reference, Task, Watch, event_time, reference, task


def timestamp(_value: Any, headers: Headers, _timestamp: float, _type: Any) -> int:
    """Event time, milliseconds."""
    return round(event_time(headers).timestamp() * 1_000)


def run(asked: Task) -> None:
    """Read everything once, then stop and flush."""
    watch = Watch(asked.count)
    app = Application(
        broker_address=asked.bootstrap,
        consumer_group=f"{asked.output}-group",
        auto_offset_reset="earliest",
        state_dir=asked.state,
        loglevel="ERROR",
        on_message_processed=lambda *_: app.stop() if watch.seen == asked.count else None,
        consumer_extra_config={"fetch.message.max.bytes": 10 << 20},
        **asked.options,
    )

    def refer(value: bytes, _key: Any, _timestamp: int, headers: Headers) -> Reference:
        watch.saw()
        here = message_context()
        return reference(headers, here.topic, here.partition, here.offset, len(value))

    def late(*_: Any) -> bool:
        watch.late += 1
        return False  # no log line for each

    def written(window: dict[str, Any], key: str, *_: Any) -> dict[str, Any]:
        watch.windows += 1
        return {"session": key, "start": window["start"], "end": window["end"], "manifest": window["manifest"]}

    inputs = [
        app.dataframe(app.topic(name, key_deserializer="str", value_deserializer="bytes", timestamp_extractor=timestamp))
        for name in asked.topics
    ]
    joined = inputs[0].concat(inputs[1]).concat(inputs[2]).apply(refer, metadata=True)
    windows = joined.hopping_window(LENGTH, HOP, grace_ms=BOUND, on_late=late).agg(manifest=Collect()).final()
    windows.apply(written, metadata=True).to_topic(app.topic(asked.output, key_serializer="str"))
    app.run()
    watch.tell()


if __name__ == "__main__":
    run(task())
