"""Several partitions' records as one sequence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from aiokafka.structs import TopicPartition

from streamer.kafka.readable import Raw

AT_ONCE = 1_000
"""Records that are handed over together: a whole fetch of small ones would keep the event loop for longer than a heartbeat may wait."""


def in_arrival_order(raw: Mapping[TopicPartition, Sequence[Raw]], *, first: Mapping[TopicPartition, int]) -> list[Raw]:
    """All records from each partition's `first` offset on, by arrival.

    A record counts as arrived no earlier than those before it, so its partition's order stays where timestamps step back.
    """
    stamped: list[tuple[int, Raw]] = []
    for tp, records in raw.items():
        lowest, top = first.get(tp, 0), 0
        for record in records:
            if record.offset >= lowest:
                top = max(top, record.timestamp)
                stamped.append((top, record))
    if len(raw) > 1:
        stamped.sort(key=_stamp)
    return [record for _, record in stamped]


def slices(raw: list[Raw], size: int = AT_ONCE) -> Iterator[tuple[list[Raw], frozenset[TopicPartition]]]:
    """`raw` in parts of at most `size`, each with the partitions of which more follows. An empty list is one empty part."""
    last = {TopicPartition(record.topic, record.partition): at for at, record in enumerate(raw)}
    for start in range(0, max(1, len(raw)), size):
        end = start + size
        yield raw[start:end], frozenset(tp for tp, at in last.items() if at >= end)


def _stamp(item: tuple[int, Raw]) -> int:
    return item[0]
