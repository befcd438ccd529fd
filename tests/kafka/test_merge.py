"""The laws of the merge: several topics as one sequence, over as many fetches as it takes, and in parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from aiokafka.structs import ConsumerRecord, TopicPartition
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.kafka.merge import LONGEST_LOOK, PATIENCE, Merge, slices

A, B, C = (TopicPartition(topic, 0) for topic in "abc")
OTHER = TopicPartition("a", 1)


def raw(tp: TopicPartition, *timestamps: int, start: int = 0) -> list[ConsumerRecord]:
    return [ConsumerRecord(tp.topic, tp.partition, start + n, at, 1, b"k", b"v", None, 1, 1, ()) for n, at in enumerate(timestamps)]


def places(records: Sequence[ConsumerRecord]) -> list[tuple[str, int]]:
    return [(record.topic, record.offset) for record in records]


def merged(fetched: Mapping[TopicPartition, list[ConsumerRecord]]) -> list[tuple[str, int]]:
    """Read to their end at once."""
    merge = Merge(dict.fromkeys(fetched, 0))
    merge.put(fetched)
    return places(merge.take(set(fetched)))


def test_partitions_are_merged_by_arrival() -> None:
    assert merged({A: raw(A, 10, 30, 50), B: raw(B, 20, 40)}) == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2)]


def test_a_partitions_order_stays_where_its_timestamps_step_back() -> None:
    assert merged({A: raw(A, 30, 10, 40), B: raw(B, 35)}) == [("a", 0), ("a", 1), ("b", 0), ("a", 2)]


def test_a_partitions_order_stays_where_a_later_fetch_steps_back() -> None:
    merge = Merge({A: 0, B: 0})
    merge.put({A: raw(A, 30)})
    assert places(merge.take({A, B})) == [("a", 0)]
    merge.put({A: raw(A, 10, start=1), B: raw(B, 20)})
    assert places(merge.take({A, B})) == [("b", 0), ("a", 1)]


def test_what_is_ahead_waits_until_the_other_topic_is_as_far() -> None:
    merge = Merge({A: 0, B: 0})
    merge.put({A: raw(A, 10, 50, 90), B: raw(B, 20)})
    assert places(merge.take({A})) == [("a", 0), ("b", 0)]  # of B there is more, arrived at 20 or later
    assert merge.full() == {A}
    merge.put({B: raw(B, 60, start=1)})
    assert places(merge.take({A})) == [("a", 1), ("b", 1)]
    assert places(merge.take({A, B})) == [("a", 2)]
    assert merge.full() == set()


def test_a_topic_that_was_never_fetched_holds_all_back_at_the_clock_it_was_left_at() -> None:
    merge = Merge({A: 0, B: 30, C: 90})
    merge.put({A: raw(A, 10, 30, 31)})
    assert places(merge.take({A, C})) == [("a", 0), ("a", 1)]


def test_another_partition_number_is_not_waited_for() -> None:
    merge = Merge({A: 0, B: 0, OTHER: 0, TopicPartition("b", 1): 0})
    merge.put({OTHER: raw(OTHER, 70)})
    assert merge.undecided() == [OTHER, TopicPartition("b", 1)]
    assert places(merge.take({OTHER, TopicPartition("b", 1)})) == [("a", 0)]


def test_one_topic_alone_is_never_held_and_nothing_is_asked_about_it() -> None:
    merge = Merge({A: 0, OTHER: 0})
    merge.put({A: raw(A, 50), OTHER: raw(OTHER, 40)})
    assert merge.undecided() == []
    assert places(merge.take()) == [("a", 0), ("a", 0)]


def test_a_record_at_a_group_that_was_read_to_its_end_is_handed_over_with_the_fetch_that_brings_it() -> None:
    merge = Merge({A: 0, B: 0, C: 0})
    for at in range(1, 50):
        merge.put({A: raw(A, at, start=at)})
        assert places(merge.take({A, B, C})) == [("a", at)]
        assert merge.full() == set()


def test_a_topic_that_brings_nothing_holds_the_others_back_for_a_while_and_no_longer() -> None:
    merge = Merge({A: 0, B: 0})
    merge.put({A: raw(A, 10)})
    looks = 0
    while not (taken := merge.take({A}, elapsed=0.5)):
        looks += 1
    assert looks * 0.5 == PATIENCE
    assert places(taken) == [("a", 0)]
    merge.put({A: raw(A, 11, start=1)})
    assert places(merge.take({A}, elapsed=0.5)) == [("a", 1)]  # it is still silent
    merge.put({A: raw(A, 90, start=2), B: raw(B, 12)})
    assert places(merge.take({A}, elapsed=0.5)) == [("b", 0)]  # it is back, and waited for again


def test_time_in_which_a_batch_was_worked_on_hardly_counts_as_waiting() -> None:
    merge = Merge({A: 0, B: 0})
    merge.put({A: raw(A, 10)})
    looks = 0
    while not merge.take({A}, elapsed=3_600):
        looks += 1
    assert looks == PATIENCE / LONGEST_LOOK


def test_parts_hold_everything_in_order_and_name_the_partitions_of_which_more_follows() -> None:
    merge = Merge({A: 0, B: 0})
    merge.put({A: raw(A, 1, 3, 5), B: raw(B, 2)})
    parts = list(slices(merge.take({A, B}), 2))
    assert [places(part) for part, _ in parts] == [[("a", 0), ("b", 0)], [("a", 1), ("a", 2)]]
    assert [rest for _, rest in parts] == [{A}, set()]


def test_nothing_is_one_empty_part_because_time_passes_all_the_same() -> None:
    assert list(slices([])) == [([], frozenset())]


# any logs, any broker

PARTITIONS = [TopicPartition(topic, number) for topic in "abc" for number in range(2)]
MOST = 5  # records that a fetch brings of a partition
Logs = dict[TopicPartition, list[ConsumerRecord]]
Round = tuple[int, frozenset[TopicPartition]]


@st.composite
def logs(draw: st.DrawFn) -> Logs:
    """Timestamps that mostly rise."""
    found = {}
    for tp in PARTITIONS:
        arrivals = draw(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 4)), max_size=20))
        found[tp] = raw(tp, *(max(0, at - back) for at, back in sorted(arrivals)))
    return found


def rounds() -> st.SearchStrategy[list[Round]]:
    """How far the clock is, and whose leader is away."""
    return st.lists(st.tuples(st.integers(0, 60), st.frozensets(st.sampled_from(PARTITIONS), max_size=2)), max_size=12)


class Reading:
    """A reader of logs that grow: fetches what is not full, takes, and checks laws 1, 2 and 4 at each step."""

    def __init__(self, logs: Logs) -> None:
        self.stamps = {tp: list(accumulate((record.timestamp for record in log), max)) for tp, log in logs.items()}
        self.logs, self.merge = logs, Merge(dict.fromkeys(logs, 0))
        self.position, self.taken = dict.fromkeys(logs, 0), dict.fromkeys(logs, 0)

    def step(self, now: int, away: frozenset[TopicPartition], elapsed: float = 0.0, *, ordered: bool = True) -> int:
        asked = set(self.logs) - away - self.merge.full()
        visible = {tp: sum(stamp <= now for stamp in self.stamps[tp]) for tp in asked}
        fetched = {tp: self.logs[tp][self.position[tp] : min(visible[tp], self.position[tp] + MOST)] for tp in asked}
        self.position |= {tp: self.position[tp] + len(records) for tp, records in fetched.items()}
        self.merge.put({tp: records for tp, records in fetched.items() if records})
        part = self.merge.take({tp for tp in asked if self.position[tp] == visible[tp]}, elapsed)
        for record in part:
            self._see(record, ordered=ordered)
        held = {tp: self.position[tp] - self.taken[tp] for tp in self.logs}
        assert max(held.values()) <= MOST
        assert self.merge.full() == {tp for tp, count in held.items() if count}
        return len(part)

    def _see(self, record: ConsumerRecord, *, ordered: bool) -> None:
        tp = TopicPartition(record.topic, record.partition)
        assert record.offset == self.taken[tp]
        self.taken[tp] += 1
        for other in self.logs if ordered else ():
            if other.partition == tp.partition:
                earlier = sum(stamp < self.stamps[tp][record.offset] for stamp in self.stamps[other])
                assert self.taken[other] >= earlier, f"{other} has {earlier} records that arrived before {tp}@{record.offset}"


@settings(deadline=None)
@given(logs(), rounds())
def test_any_logs_come_whole_in_order_and_no_more_is_held_than_a_fetch(logs: Logs, rounds: list[Round]) -> None:
    reading, now = Reading(logs), 0
    for clock, away in rounds:
        now = max(now, clock)
        reading.step(now, away)
    for _ in range(sum(map(len, logs.values())) + len(PARTITIONS)):  # everybody is there again: no dead-lock
        reading.step(60, frozenset())
    assert reading.taken == {tp: len(log) for tp, log in logs.items()}


@settings(deadline=None)
@given(logs(), st.sampled_from(PARTITIONS))
def test_a_topic_that_never_comes_costs_the_others_their_patience_and_nothing_else(logs: Logs, dead: TopicPartition) -> None:
    reading, waits = Reading(logs), 0
    wanted = sum(len(log) for tp, log in logs.items() if tp != dead)
    while sum(reading.taken.values()) < wanted:
        waits += not reading.step(60, frozenset({dead}), LONGEST_LOOK, ordered=False)
        assert waits <= PATIENCE / LONGEST_LOOK + len(PARTITIONS)
