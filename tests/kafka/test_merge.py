"""Several partitions as one sequence, and in parts."""

from __future__ import annotations

from aiokafka.structs import ConsumerRecord, TopicPartition

from streamer.kafka.merge import in_arrival_order, slices

A, B = TopicPartition("a", 0), TopicPartition("b", 0)


def raw(tp: TopicPartition, *timestamps: int) -> list[ConsumerRecord]:
    return [ConsumerRecord(tp.topic, tp.partition, n, at, 1, b"k", b"v", None, 1, 1, ()) for n, at in enumerate(timestamps)]


def places(records: list[ConsumerRecord]) -> list[tuple[str, int]]:
    return [(record.topic, record.offset) for record in records]


def test_partitions_are_merged_by_arrival() -> None:
    merged = in_arrival_order({A: raw(A, 10, 30, 50), B: raw(B, 20, 40)}, first={})
    assert places(merged) == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2)]


def test_a_partitions_order_stays_where_its_timestamps_step_back() -> None:
    merged = in_arrival_order({A: raw(A, 30, 10, 40), B: raw(B, 35)}, first={})
    assert places(merged) == [("a", 0), ("a", 1), ("b", 0), ("a", 2)]


def test_what_was_read_before_is_left_out() -> None:
    assert places(in_arrival_order({A: raw(A, 1, 2, 3)}, first={A: 2})) == [("a", 2)]


def test_parts_hold_everything_in_order_and_name_the_partitions_of_which_more_follows() -> None:
    records = in_arrival_order({A: raw(A, 1, 3, 5), B: raw(B, 2)}, first={})
    parts = list(slices(records, 2))
    assert [places(part) for part, _ in parts] == [[("a", 0), ("b", 0)], [("a", 1), ("a", 2)]]
    assert [rest for _, rest in parts] == [{A}, set()]


def test_nothing_is_one_empty_part_because_time_passes_all_the_same() -> None:
    assert list(slices([])) == [([], frozenset())]
