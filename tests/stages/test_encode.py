"""Batches across sessions: nothing lost, nothing reordered within a key, full or due."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streamer.events import Micros
from streamer.stages.encode import Batcher

WAIT = Micros(20)
steps = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30)), max_size=60)


@given(steps, st.integers(1, 7))
def test_every_item_comes_out_once_in_the_order_of_its_key(adds: list[tuple[str, int]], size: int) -> None:
    batcher = Batcher[str, int](size=size, wait=WAIT)
    out: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    now = 0
    for number, (key, later) in enumerate(adds):
        now += later
        batcher.add(key, number, now=Micros(now))
        while batch := batcher.take(Micros(now)):
            assert 1 <= len(batch.items) <= size
            out[batch.key] += batch.items
    while (due := batcher.next_due()) is not None:
        batch = batcher.take(Micros(max(due, now)))
        assert batch is not None
        out[batch.key] += batch.items
    assert not len(batcher)
    assert out == {key: [number for number, (other, _) in enumerate(adds) if other == key] for key in "abc"}


@given(steps, st.integers(2, 7))
def test_a_batch_is_full_or_its_oldest_item_has_waited(adds: list[tuple[str, int]], size: int) -> None:
    batcher = Batcher[str, int](size=size, wait=WAIT)
    since: dict[int, int] = {}
    now = 0
    for number, (key, later) in enumerate(adds):
        now += later
        batcher.add(key, number, now=Micros(now))
        since[number] = now
        while batch := batcher.take(Micros(now)):
            assert len(batch.items) == size or now - since[batch.items[0]] >= WAIT


def test_the_batch_that_has_waited_longest_comes_first() -> None:
    batcher = Batcher[str, int](size=2, wait=WAIT)
    batcher.add("old", 1, now=Micros(0))
    batcher.add("full", 2, now=Micros(5))
    batcher.add("full", 3, now=Micros(5))
    assert [batcher.take(Micros(30)).key for _ in range(2)] == ["old", "full"]  # type: ignore[union-attr]
    assert batcher.take(Micros(30)) is None


def test_the_order_in_which_keys_were_first_seen_does_not_matter() -> None:
    batcher = Batcher[str, int](size=2, wait=WAIT)
    for key, now in (("first", 0), ("first", 0), ("second", 5), ("first", 6), ("first", 6)):
        batcher.add(key, now, now=Micros(now))
    assert [batcher.take(Micros(30)).key for _ in range(3)] == ["first", "second", "first"]  # type: ignore[union-attr]


def test_nothing_is_due_before_its_time() -> None:
    batcher = Batcher[str, int](size=2, wait=WAIT)
    assert batcher.next_due() is None
    batcher.add("a", 1, now=Micros(5))
    assert batcher.next_due() == 25
    assert batcher.take(Micros(24)) is None
    assert batcher.take(Micros(25)) is not None
