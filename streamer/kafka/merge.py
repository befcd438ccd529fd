"""Several partitions' records as one sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka.structs import ConsumerRecord, TopicPartition

Raw = ConsumerRecord[bytes, bytes]


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


def _stamp(item: tuple[int, Raw]) -> int:
    return item[0]
