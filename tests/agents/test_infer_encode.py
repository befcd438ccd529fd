"""infer's encoder by itself: decoded media in memory, and what goes first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np

from streamer.agents.infer_encode import Encoder, EngineThread
from streamer.config import InferSettings
from streamer.errors import Reason
from streamer.events import Modality, Record
from streamer.metrics import Metrics
from streamer.stages.envelope import write_frame
from streamer.stages.lane import Admission, Lane
from streamer.stages.media import encode_jpeg
from tests.agents.infer_room import CountingEngine
from tests.builders import a_frame, a_record, an_event, an_origin
from tests.integration.pipeline import until

SIDE = 400
BYTES = 3 * SIDE * SIDE
PICTURE = encode_jpeg(np.zeros((SIDE, SIDE, 3), np.uint8), 90)


async def bury(record: Record, error: Exception) -> Reason:
    raise AssertionError(f"{record.offset}: {error!r}")


@asynccontextmanager
async def encoding(engine: CountingEngine, *, decoded_bytes: int) -> AsyncIterator[tuple[Encoder, Lane]]:
    """An encoder of batches of 16, and an empty lane."""
    thread = await EngineThread.open(lambda: engine)
    encoder = Encoder(thread, InferSettings(profile="tiny", batch=16), Metrics("infer"), bury, asyncio.Event(), decoded_bytes=decoded_bytes)
    running = asyncio.create_task(encoder.run())
    try:
        yield encoder, Lane(an_origin().partition, bound=1 << 26, next_offset=0)
    finally:
        engine.gate.set()
        running.cancel()
        encoder.close()
        thread.close()


def submit(encoder: Encoder, lane: Lane, number: int) -> None:
    event = an_event(Modality.FRAMES, number, offset=number, size=len(PICTURE))
    assert lane.event(event) is Admission.ENCODE
    encoder.submit(lane, event.origin, Modality.FRAMES, a_record(write_frame(a_frame(number, image=PICTURE)), offset=number))


async def test_decoded_pictures_wait_for_the_engine_within_a_bound_of_bytes() -> None:
    engine = CountingEngine()
    async with encoding(engine, decoded_bytes=5 * BYTES) as (encoder, lane):
        engine.gate.clear()
        for number in range(20):
            submit(encoder, lane, number)

        async def full() -> bool:
            return encoder.slots.taken == 5

        async def done() -> bool:
            return all(lane.cache.get(an_origin("frames", number)) is not None for number in range(20))

        await until(full, "five pictures decoded", seconds=30)
        assert encoder.slots.held == 5 * BYTES
        engine.gate.set()
        await until(done, "all encoded", seconds=30)
        assert (encoder.slots.taken, encoder.slots.held) == (0, 0)
