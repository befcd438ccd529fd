"""The laws of the source, on both brokers, with real processes that are killed, frozen, joined and left."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from streamer.config import KafkaSettings
from streamer.errors import ConfigError, Transient
from streamer.kafka import source
from streamer.kafka.checkpoints import Checkpoint, Place, decode, encode, message
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.embedded import EmbeddedBroker
from streamer.kafka.merge import AT_ONCE
from streamer.kafka.source import Batch, Position, ReadLog
from streamer.kafka.topics import create_topics
from tests.kafka.apache import delete_before
from tests.kafka.recorder import Bench, copied, origin, write


async def until(condition: Callable[[], Awaitable[bool]], *, seconds: float = 90) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


async def until_copied(settings: KafkaSettings, wanted: set[bytes]) -> None:
    """All are copied, and each once."""

    async def all_there() -> bool:
        return wanted <= set(await copied(settings))

    await until(all_there)
    assert sorted(await copied(settings)) == sorted(wanted)


@asynccontextmanager
async def working(settings: KafkaSettings) -> AsyncIterator[Bench]:
    """A bench whose source runs; what ends it is raised at the end."""
    stop = asyncio.Event()
    async with Bench(settings) as bench:
        task = asyncio.create_task(bench.source.run_until(stop))
        try:
            yield bench
        finally:
            stop.set()
            await task


@asynccontextmanager
async def worker(settings: KafkaSettings) -> AsyncIterator[subprocess.Popen[bytes]]:
    """The same in a process of its own."""
    child = subprocess.Popen([sys.executable, "-m", "tests.kafka.recorder", settings.model_dump_json()])
    try:
        yield child
    finally:
        child.send_signal(signal.SIGCONT)
        child.terminate()
        try:
            await asyncio.wait_for(asyncio.to_thread(child.wait), 10)
        except TimeoutError:
            child.kill()


async def test_each_record_comes_once_in_its_partitions_order(broker: KafkaSettings) -> None:
    wanted = await write(broker, 200)
    async with working(broker) as bench:
        await until_copied(broker, wanted)
        seen = [(r.topic, r.partition, r.offset) for batch in bench.recorder.batches for r in batch.records]
        assert sorted(seen) == sorted(set(seen))
        for where in {s[:2] for s in seen}:
            assert [s[2] for s in seen if s[:2] == where] == sorted(s[2] for s in seen if s[:2] == where)
        assert bench.why[-1] is None


async def test_one_batch_is_merged_in_arrival_order(broker: KafkaSettings) -> None:
    wanted = await write(broker, 40)
    async with working(broker) as bench:
        await until_copied(broker, wanted)
        for batch in bench.recorder.batches:
            assert [r.arrival for r in batch.records] == sorted(r.arrival for r in batch.records)


async def test_a_partition_read_to_its_end_says_so(broker: KafkaSettings) -> None:
    await write(broker, 8)
    async with working(broker) as bench:

        async def caught_up() -> bool:
            last = bench.recorder.batches[-1] if bench.recorder.batches else None
            return last is not None and len(last.clocks) == 8 and all(c.caught_up and c.arrival for c in last.clocks.values())

        await until(caught_up)


async def test_a_clean_restart_repeats_nothing_and_keeps_the_clocks(broker: KafkaSettings) -> None:
    wanted = await write(broker, 40)
    async with working(broker) as first:
        await until_copied(broker, wanted)
        clocks = dict(first.recorder.clocks) or first.recorder.batches[-1].clocks
    async with working(broker) as second:
        more = await write(broker, 2, start=40)
        await until_copied(broker, wanted | more)
        seen = {origin(r) for batch in second.recorder.batches for r in batch.records}
        assert seen == more
        quiet = second.recorder.batches[0].clocks["audio", 3].arrival
        assert quiet == clocks["audio", 3] > 0


async def test_a_worker_killed_in_the_middle_loses_and_repeats_nothing(broker: KafkaSettings) -> None:
    wanted = await write(broker, 300)
    for n in range(2):
        async with worker(broker) as child:

            async def some(target: int = 100 + 100 * n) -> bool:
                return len(await copied(broker)) >= target

            await until(some)
            child.kill()
        wanted |= await write(broker, 300, start=300 * (n + 1))
    async with worker(broker):
        await until_copied(broker, wanted)


async def test_joining_and_leaving_workers_lose_and_repeat_nothing(broker: KafkaSettings) -> None:
    wanted = await write(broker, 100)
    async with worker(broker):
        await until_copied(broker, wanted)
        async with working(broker) as second:
            at = 100

            async def both_work() -> bool:
                nonlocal at, wanted
                wanted |= await write(broker, 16, start=at)
                at += 16
                return any(batch.records and len(batch.clocks) == 4 for batch in second.recorder.batches)

            await until(both_work)
            await until_copied(broker, wanted)
        wanted |= await write(broker, 100, start=at)
        await until_copied(broker, wanted)


async def test_a_frozen_worker_that_wakes_repeats_nothing(apache_kafka: KafkaSettings) -> None:
    """On Apache Kafka alone: the embedded broker, which has one worker per role, does not take an expelled member back within a minute."""
    wanted = await write(apache_kafka, 50)
    async with worker(apache_kafka) as frozen:
        await until_copied(apache_kafka, wanted)
        frozen.send_signal(signal.SIGSTOP)
        wanted |= await write(apache_kafka, 50, start=50)
        async with worker(apache_kafka):
            await until_copied(apache_kafka, wanted)
            frozen.send_signal(signal.SIGCONT)
            wanted |= await write(apache_kafka, 50, start=100)
            await until_copied(apache_kafka, wanted)
        wanted |= await write(apache_kafka, 50, start=150)
        await until_copied(apache_kafka, wanted)


async def test_a_batch_that_fails_for_a_while_comes_again(tansu: KafkaSettings) -> None:
    failures = 3

    def fail(batch: Batch) -> None:
        nonlocal failures
        if batch.records and failures:
            failures -= 1
            raise Transient("the disk is full")

    wanted = await write(tansu, 20)
    async with working(tansu) as bench:
        bench.recorder.before = fail
        await until_copied(tansu, wanted)
        assert failures == 0
        assert "trying again: the disk is full" in bench.why
        assert bench.why[-1] is None
        assert bench.metrics.retries.labels("recorder")._value.get() == 3


async def test_a_batch_that_cannot_be_done_ends_the_source_and_is_not_passed_over(tansu: KafkaSettings) -> None:
    def fail(batch: Batch) -> None:
        if batch.records:
            raise ValueError("a bug")

    wanted = await write(tansu, 20)
    async with Bench(tansu) as bench:
        bench.recorder.before = fail
        with pytest.raises(ValueError, match="a bug"):
            await bench.source.run_until(asyncio.Event())
        assert bench.why[-1] == "ValueError: a bug"
    async with working(tansu):
        await until_copied(tansu, wanted)


async def test_what_retention_took_is_reported_as_a_gap(apache_kafka: KafkaSettings) -> None:
    kafka, wanted = Kafka(apache_kafka), await write(apache_kafka, 40)
    async with working(apache_kafka):
        await until_copied(apache_kafka, wanted)
    await write(apache_kafka, 40, start=40)
    await delete_before(kafka, kafka.partition("frames", 1), 8)
    async with working(apache_kafka) as bench:

        async def restarted() -> bool:
            return bool(bench.recorder.gaps) and len(await copied(apache_kafka)) == 80 - 3

        await until(restarted)
        assert bench.recorder.gaps == [("frames", 1, 5, 8)]


async def test_a_checkpoint_past_the_logs_end_is_refused_with_the_numbers(tansu: KafkaSettings) -> None:
    place = {"frames": Place(offset=7, clock=0), "audio": Place(offset=0, clock=0)}
    async with Bench(tansu) as bench, Producer(Kafka(tansu)) as producer:
        await producer.send([message("recorder", 2, encode(Checkpoint(inputs=place)))])
        with pytest.raises(ConfigError, match=r"frames/2@7, but that log ends at 0"):
            await bench.source.run_until(asyncio.Event())


async def test_topics_with_other_partition_counts_are_refused_with_both_numbers(tansu: KafkaSettings) -> None:
    async with Bench(tansu.model_copy(update={"partitions": 5})) as bench:
        with pytest.raises(ConfigError, match="partitions 5 wanted, 4 found"):
            await bench.source.run_until(asyncio.Event())


async def test_a_broker_that_gives_nothing_more_is_noticed_and_ends_the_source(monkeypatch: pytest.MonkeyPatch) -> None:
    async with EmbeddedBroker(memory_mb=512) as frozen:
        settings = KafkaSettings(bootstrap=frozen.bootstrap, partitions=4, idempotent=False, session_timeout="6s")
        await create_topics(Kafka(settings))
        wanted = await write(settings, 20)
        async with Bench(settings) as bench:
            working = asyncio.create_task(bench.source.run_until(asyncio.Event()))

            async def all_read() -> bool:
                return sum(len(batch.records) for batch in bench.recorder.batches) == len(wanted)

            await until(all_read, seconds=60)
            monkeypatch.setattr(source, "STALLED", 12.0)
            os.kill(frozen.pid, signal.SIGSTOP)
            try:
                with pytest.raises(Transient, match="nothing moves"):
                    await asyncio.wait_for(working, 90)
            finally:
                os.kill(frozen.pid, signal.SIGCONT)
        told = [why for why in bench.why if why and "nothing moves" in why]
        assert told[0].startswith("nothing moves")  # not ready first
        assert told[-1].startswith("Transient")  # then it ends


async def test_partitions_that_never_come_end_the_source(monkeypatch: pytest.MonkeyPatch, tansu: KafkaSettings) -> None:
    monkeypatch.setattr(source, "STALLED", 2.0)
    async with Bench(tansu) as bench:
        bench.source.assigned = lambda _: None  # type: ignore[method-assign]
        with pytest.raises(Transient, match="no partitions came"):
            await asyncio.wait_for(bench.source.run_until(asyncio.Event()), 30)


async def test_partitions_that_do_not_belong_together_end_the_source(tansu: KafkaSettings) -> None:
    """A session's topics would meet nowhere: no assignor of ours gives them out so."""
    async with Bench(tansu) as bench:
        whole = bench.source.assigned
        bench.source.assigned = lambda given: whole(set(sorted(given)[1:]))  # type: ignore[method-assign]
        with pytest.raises(ConfigError, match="do not belong together"):
            await asyncio.wait_for(bench.source.run_until(asyncio.Event()), 60)


async def test_while_partitions_are_restored_the_age_of_their_checkpoints_grows(tansu: KafkaSettings) -> None:
    """A restore that hangs must be seen by whoever watches the age."""
    restored = asyncio.Event()
    async with working(tansu) as bench:
        age, restore = bench.metrics.checkpoint_age.labels("recorder")._value, bench.recorder.restore

        async def slow(partition: int, saved: Mapping[str, bytes], read: ReadLog) -> Mapping[str, Position]:
            await restored.wait()
            return await restore(partition, saved, read)

        bench.recorder.restore = slow  # type: ignore[method-assign]

        async def old() -> bool:
            return age.get() > 1.5

        async def fresh() -> bool:
            return bench.why[-1] is None and 0 < age.get() < 1

        await until(old)
        restored.set()
        await write(tansu, 4)
        await until(fresh)


async def test_a_large_batch_is_handed_over_in_parts_and_caught_up_only_with_the_last(tansu: KafkaSettings) -> None:
    wanted = await write(tansu, 3 * AT_ONCE)
    async with working(tansu) as bench:
        await until_copied(tansu, wanted)
    sizes = [len(batch.records) for batch in bench.recorder.batches]
    assert max(sizes) <= AT_ONCE
    read = dict.fromkeys(bench.recorder.batches[0].clocks, 0)
    for batch in bench.recorder.batches:
        for record in batch.records:
            read[record.topic, record.partition] += 1
        behind = [where for where, count in read.items() if count < len(wanted) / len(read)]
        assert not [where for where in behind if batch.clocks[where].caught_up]


async def test_a_fence_inside_a_batch_writes_no_checkpoint(tansu: KafkaSettings) -> None:
    """Somebody else may have the partitions already: what this worker holds is dropped, not saved."""
    settings = tansu.model_copy(update={"session_timeout": 2_000_000})
    blocked = False

    def block(batch: Batch) -> None:
        nonlocal blocked
        if batch.records and not blocked:
            blocked = True
            deadline = time.monotonic() + 1.5
            while time.monotonic() < deadline:
                pass

    wanted = await write(settings, 20)
    async with working(settings) as bench:
        bench.recorder.before = block

        async def restored_again() -> bool:
            return len(bench.recorder.restored) >= 8

        await until(restored_again)
        assert "stood still" in bench.why
        found = [decode(saved[""]) for _, saved in bench.recorder.restored[:8] if "" in saved]
        assert all(place.offset == 0 for checkpoint in found for place in checkpoint.inputs.values())
        await until_copied(settings, wanted)


async def test_half_a_batch_is_never_saved(tansu: KafkaSettings) -> None:
    """A worker that is told to end while its output cannot be written leaves the checkpoint from before."""
    wanted, saves = await write(tansu, 8), list[int]()
    async with working(tansu) as bench:
        await until_copied(tansu, wanted)
        checkpoint = bench.recorder.checkpoint

        async def noted(partition: int, positions: Mapping[str, int]) -> bytes:
            saves.append(partition)
            return await checkpoint(partition, positions)

        def away(batch: Batch) -> None:
            if batch.records:
                saves.clear()
                raise Transient("the broker is away")

        async def tried_again() -> bool:
            return bench.metrics.retries.labels("recorder")._value.get() >= 2

        bench.recorder.checkpoint, bench.recorder.before = noted, away  # type: ignore[method-assign]
        await write(tansu, 8, start=8)
        await until(tried_again)
    assert saves == []


async def test_what_was_fetched_before_the_partitions_were_taken_is_not_handed_over_after_it(tansu: KafkaSettings) -> None:
    """The gate closes in the middle of a fetch that is handed over in parts."""
    await write(tansu, 4 * AT_ONCE)
    async with working(tansu) as bench:
        revoked = list[asyncio.Task[None]]()

        def taken(batch: Batch) -> None:
            if batch.records and not revoked:
                revoked.append(asyncio.create_task(bench.source.revoked()))

        async def dropped() -> bool:
            return bool(revoked) and revoked[0].done()

        bench.recorder.before = taken
        await until(dropped)
        handed = [batch for batch in bench.recorder.batches if batch.records]
        assert len(handed) == 1
        assert len(handed[0].records) == AT_ONCE  # more of it was at hand
