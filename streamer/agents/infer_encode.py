"""infer's encoder: decode in threads, batch across sessions, forward in the one thread that owns the engine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import structlog

from streamer.agents.infer_slots import Slots
from streamer.config import InferSettings
from streamer.errors import BadRecord, Reason, StreamerError
from streamer.events import SECOND, Micros, Modality, Origin, Record, Words
from streamer.metrics import Metrics
from streamer.stages import headers as header
from streamer.stages.cache import SHED, Unusable
from streamer.stages.encode import Batcher
from streamer.stages.envelope import CONTENT_TYPES
from streamer.stages.fuse import Engine, Features, FuseInput, Judgement
from streamer.stages.lane import Lane
from streamer.stages.media import RATE, decode_image, decode_sound, image_size
from streamer.stages.shed import Spent
from streamer.topology import MIB

Result = TypeVar("Result")
Payload = Record | Words
"""What is to be encoded: a record of frames or audio, or words that a transcript or a window quotes."""
Bury = Callable[[Record, Exception], Awaitable[Reason]]
"""Write a dead letter for a record; returns the reason once it is acknowledged."""

DECODED = 2  # batches' worth of decoded media that may wait for the engine
DECODED_BYTES = 256 * MIB  # of decoded media that wait for the engine: two batches of full HD, ten pictures of 4K
_KNOWN_GOOD = {
    Modality.FRAMES: np.zeros((64, 64, 3), np.uint8),
    Modality.AUDIO: np.zeros(16_000, np.float32),
    Modality.TRANSCRIPTS: "hello",
}

log = structlog.get_logger()


def never() -> bool:
    """What is never left out."""
    return False


class Worked:
    """Seconds of work so far, of `threads` that share it."""

    def __init__(self, threads: int = 1) -> None:
        self._threads, self._frames, self._others = threads, 0.0, 0.0

    def add(self, took: float, *, frames: bool) -> None:
        """So many seconds more of one thread's time."""
        if frames:
            self._frames += took / self._threads
        else:
            self._others += took / self._threads

    @property
    def spent(self) -> Spent:
        """What it comes to."""
        return Spent(frames=self._frames, others=self._others)


class EngineThread:
    """The engine, which is thread-confined, and the thread it lives in."""

    def __init__(self, pool: ThreadPoolExecutor, engine: Engine) -> None:
        self._pool, self._engine = pool, engine
        self.version, self.calibrated, self.may_alert = engine.version, engine.calibrated, engine.may_alert
        self.worked = Worked()
        self._calls: dict[Modality, Callable[[Sequence[object]], list[Features]]] = {
            Modality.FRAMES: engine.encode_frames,  # type: ignore[dict-item]
            Modality.AUDIO: engine.encode_audio,  # type: ignore[dict-item]
            Modality.TRANSCRIPTS: engine.encode_words,  # type: ignore[dict-item]
        }

    @classmethod
    async def open(cls, build: Callable[[], Engine]) -> EngineThread:
        """Load the weights in a new thread and run each encoder once. Raises ConfigError."""
        pool = ThreadPoolExecutor(1, "engine")
        try:
            thread = cls(pool, await asyncio.get_running_loop().run_in_executor(pool, build))
            for modality in Modality:
                await thread.probe(modality)
        except BaseException:
            pool.shutdown(wait=False)
            raise
        return thread

    async def encode(self, modality: Modality, items: Sequence[object]) -> list[Features]:
        """One forward. Raises whatever the engine raises."""
        return await self._run(lambda: self._calls[modality](items), frames=modality is Modality.FRAMES)

    async def fuse(self, windows: Sequence[FuseInput]) -> list[Judgement]:
        """One forward of the head."""
        return await self._run(lambda: self._engine.fuse(windows))

    async def probe(self, modality: Modality) -> None:
        """Encode what cannot be bad: raises where the engine itself is broken, not a record."""
        await self.encode(modality, [_KNOWN_GOOD[modality]])

    def close(self) -> None:
        """Let the thread end; what it does now is not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], Result], *, frames: bool = False) -> Result:
        result, took = await asyncio.get_running_loop().run_in_executor(self._pool, _timed, work)
        self.worked.add(took, frames=frames)
        return result


class Encoder:
    """Takes events and puts what came of each into its lane's cache. `changed` is set whenever one is there."""

    def __init__(
        self,
        engine: EngineThread,
        settings: InferSettings,
        metrics: Metrics,
        bury: Bury,
        changed: asyncio.Event,
        *,
        decoded_bytes: int = DECODED_BYTES,
    ) -> None:
        self._engine, self._settings, self._metrics, self._bury, self._changed = engine, settings, metrics, bury, changed
        self._threads = ThreadPoolExecutor(settings.decode_threads, "decode")
        self._decoded = Worked(settings.decode_threads)
        self.slots = Slots(count=DECODED * settings.batch, size=decoded_bytes)
        self._batcher = Batcher[Modality, tuple[object, asyncio.Future[Features]]](size=settings.batch, wait=Micros(settings.batch_wait))
        self._added = asyncio.Event()
        self._jobs = set[asyncio.Task[None]]()
        self.failure: BaseException | None = None

    @property
    def spent(self) -> tuple[Spent, Spent]:
        """What the engine and the decoders have worked so far."""
        return self._engine.worked.spent, self._decoded.spent

    def submit(
        self,
        lane: Lane,
        origin: Origin,
        modality: Modality,
        payload: Payload,
        *,
        urgent: bool = False,
        sheds: Callable[[], bool] = never,
    ) -> None:
        """Encode an event that the lane has admitted. `urgent`: the lane's next window waits for it. `sheds`: asked when its turn
        comes, before anything is done for it, whether it is left out."""
        job = asyncio.get_running_loop().create_task(self._encode(lane, origin, modality, payload, urgent, sheds))
        self._jobs.add(job)
        job.add_done_callback(self._ended)

    def drop(self) -> None:
        """Give up everything in flight: its partitions are somebody else's."""
        for job in self._jobs:
            job.cancel()

    def close(self) -> None:
        """Give up everything and let the threads end."""
        self.drop()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self) -> None:
        """Forward batches, one at a time, until cancelled. Raises where the engine itself is broken."""
        while True:
            self._added.clear()
            if batch := self._batcher.take(_now()):
                await self._forward(batch.key, [item for item in batch.items if not item[1].done()])
            else:
                await self._wait()

    async def _wait(self) -> None:
        due = self._batcher.next_due()
        try:
            async with asyncio.timeout(None if due is None else max(0, due - _now()) / 1e6):
                await self._added.wait()
        except TimeoutError:
            return

    def _ended(self, job: asyncio.Task[None]) -> None:
        self._jobs.discard(job)
        if not job.cancelled() and (failure := job.exception()):
            self.failure = failure
            self._changed.set()

    async def _encode(
        self, lane: Lane, origin: Origin, modality: Modality, payload: Payload, urgent: bool, sheds: Callable[[], bool]
    ) -> None:
        async with self.slots.take(self._decoded_bytes(modality, payload), urgent=urgent):
            value = SHED if sheds() else await self._made_of(origin, modality, payload)
        lane.cache.put(origin, value)
        self._changed.set()

    async def _made_of(self, origin: Origin, modality: Modality, payload: Payload) -> object:
        """Features, or Unusable once the dead letter is written."""
        try:
            item = await self._decode(modality, payload)
            waiting = asyncio.get_running_loop().create_future()
            self._batcher.add(modality, (item, waiting), now=_now())
            self._added.set()
            value = await waiting
        except Exception as exc:
            if isinstance(exc, StreamerError):
                log.debug("unusable", origin=origin, error=str(exc))
            else:
                log.warning("unusable by our own fault", origin=origin, error=repr(exc))
            reason = await self._bury(payload, exc) if isinstance(payload, Record) else Reason.UNEXPECTED
            return Unusable(reason=reason)
        self._metrics.encoded.labels(modality.value).inc()
        return value

    def _decoded_bytes(self, modality: Modality, payload: Payload) -> int:
        """At most so much is in memory once it is decoded. Nothing of what will be refused."""
        if isinstance(payload, Words):
            return 0
        if modality is Modality.AUDIO:
            return self._settings.max_audio * RATE // SECOND * np.dtype(np.float32).itemsize
        try:
            width, height = image_size(payload.value or b"")
        except BadRecord:
            return 0
        return 3 * width * height if width * height <= self._settings.max_pixels else 0

    async def _decode(self, modality: Modality, payload: Payload) -> object:
        if isinstance(payload, Words):
            return payload.text
        work = self._image if modality is Modality.FRAMES else self._sound
        item, took = await asyncio.get_running_loop().run_in_executor(self._threads, _timed, lambda: work(payload))
        self._decoded.add(took, frames=modality is Modality.FRAMES)
        return item

    def _image(self, record: Record) -> object:
        return decode_image(record.value or b"", self._settings.max_pixels)

    def _sound(self, record: Record) -> object:
        content_type = header.media_type(header.fields(record.headers), CONTENT_TYPES[Modality.AUDIO])
        return decode_sound(record.value or b"", content_type, Micros(self._settings.max_audio))

    async def _forward(self, modality: Modality, items: Sequence[tuple[object, asyncio.Future[Features]]]) -> None:
        if not items:
            return
        started = time.monotonic()
        try:
            found = await self._engine.encode(modality, [item for item, _ in items])
        except Exception as exc:
            await self._one_by_one(modality, items, exc)
        else:
            for (_, waiting), features in zip(items, found, strict=True):
                if not waiting.done():
                    waiting.set_result(features)
        self._metrics.encode_seconds.labels(modality.value).observe(time.monotonic() - started)
        self._metrics.batch.labels("infer").observe(len(items))

    async def _one_by_one(self, modality: Modality, items: Sequence[tuple[object, asyncio.Future[Features]]], exc: Exception) -> None:
        """One of them is bad, or the engine is: the first is found by halves, the second by what cannot be bad."""
        if len(items) > 1:
            middle = len(items) // 2
            await self._forward(modality, items[:middle])
            await self._forward(modality, items[middle:])
            return
        await self._engine.probe(modality)
        if not items[0][1].done():
            items[0][1].set_exception(exc)


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """What it gives, and the seconds that it took."""
    started = time.monotonic()
    return work(), time.monotonic() - started


def _now() -> Micros:
    return Micros(time.monotonic_ns() // 1_000)
