"""What is done to workers: killed, frozen, joined by another; each act waits until the stage writes again in all partitions."""

from __future__ import annotations

import asyncio
import random
import signal
import time

from tests.faults.place import Place, Recovery

ANY_INSTANT = 1.5  # seconds: more than a hop, so that a fault meets any state of a window


def say(what: Recovery | str) -> None:
    """Progress, for whoever watches a run of many minutes."""
    line = what if isinstance(what, str) else f"{what.fault}: {what.topic} again after {what.first:.1f} s, all partitions {what.all:.1f} s"
    print(f"  {line}", flush=True)


async def kill(place: Place, called: str, topic: str, *, again: bool = False) -> None:
    """kill -9 at any instant, started again at once; `again`: and once more before it is ready."""
    await asyncio.sleep(random.uniform(0, ANY_INSTANT))
    since, worker = time.time(), place.workers[called]
    worker.kill()
    worker.start()
    if again:
        await asyncio.sleep(random.uniform(0.5, 8))
        worker.kill()
        worker.start()
    say(await place.recover("killed twice" if again else "killed", topic, since))


async def freeze(place: Place, called: str, topic: str, seconds: float, fault: str) -> None:
    """SIGSTOP, and SIGCONT after so many seconds."""
    await asyncio.sleep(random.uniform(0, ANY_INSTANT))
    since, worker = time.time(), place.workers[called]
    worker.send(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    worker.send(signal.SIGCONT)
    say(await place.recover(fault, topic, since, lasted=seconds))


async def join(place: Place, role: str, topic: str) -> str:
    """A second worker, until it has partitions and all partitions have gone on; its name."""
    called = f"{role}-second"
    await asyncio.sleep(random.uniform(0, ANY_INSTANT))
    since = time.time()
    place.join(role, called)
    await restored(place, called)
    say(await place.paused("joined", topic, since))
    return called


async def leave(place: Place, called: str, topic: str) -> None:
    """It ends as a supervisor ends it, and all partitions have gone on."""
    await asyncio.sleep(random.uniform(0, ANY_INSTANT))
    since = time.time()
    await asyncio.to_thread(place.leave, called)
    say(await place.paused("left", topic, since))


async def restored(place: Place, called: str) -> None:
    """Until this worker works on partitions of its own."""
    worker = place.workers[called]
    begin = len(worker.log.read_bytes()) if worker.log.exists() else 0
    deadline = time.time() + 60
    while b"partitions restored" not in worker.log.read_bytes()[begin:]:
        assert time.time() < deadline, f"{called} was given no partitions for 60 s:\n{worker.tail()}"
        place.look()
        await asyncio.sleep(0.05)
