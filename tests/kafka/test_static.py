"""Static membership, on Apache Kafka: a worker that is back within the session timeout has its partitions again, and no other's move."""

from __future__ import annotations

import asyncio

from streamer.config import KafkaSettings
from streamer.errors import Transient
from tests.kafka.recorder import Bench, copied, write
from tests.kafka.test_source import until, until_copied, worker, working


async def test_a_killed_worker_that_comes_back_in_time_moves_nobodys_partitions(apache_kafka: KafkaSettings) -> None:
    settings = [apache_kafka.model_copy(update={"instance": name, "session_timeout": 60_000_000}) for name in ("one", "two")]
    wanted: set[bytes] = set()
    async with working(settings[0]) as staying:

        async def alone() -> bool:
            return len(staying.recorder.restored) == 4

        await until(alone)
        async with worker(settings[1]) as killed:

            async def shared() -> bool:
                return len(staying.recorder.restored) == 6 and staying.why[-1] is None

            await until(shared, seconds=60)
            wanted |= await write(apache_kafka, 40)
            await until_copied(apache_kafka, wanted)
            killed.kill()
            await asyncio.to_thread(killed.wait)
            wanted |= await write(apache_kafka, 40, start=40)
            before = len(staying.why)
            async with worker(settings[1]):
                await until_copied(apache_kafka, wanted)
                wanted |= await write(apache_kafka, 40, start=80)
                await until_copied(apache_kafka, wanted)
        assert len(staying.recorder.restored) == 6
        assert staying.why[before:] == []  # it was never told to let go of anything
    assert sorted(await copied(apache_kafka)) == sorted(wanted)


async def test_two_workers_with_one_name_do_not_fight_for_ever(apache_kafka: KafkaSettings) -> None:
    """Each drives the other out, and neither reads a record: one ends and says why, or both do. Who is started again alone works."""
    settings = apache_kafka.model_copy(update={"instance": "one"})
    stop = asyncio.Event()
    async with Bench(settings) as first, Bench(settings) as second:
        tasks = [asyncio.create_task(bench.source.run_until(stop)) for bench in (first, second)]
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=60)
        stop.set()
        why = [exc for exc in await asyncio.gather(*tasks, return_exceptions=True) if exc is not None]
    assert ended, "both go on"
    for exc in why:
        assert isinstance(exc, Transient)
        assert "does another run as kafka.instance one?" in str(exc)
    wanted = await write(settings, 40)
    async with working(settings):
        await until_copied(settings, wanted)
