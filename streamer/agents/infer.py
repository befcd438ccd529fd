"""infer: encodes media as they arrive, fuses what a window names, writes its score. See DESIGN, Inference.

Four loops share the lanes: the intake reads, the encoder encodes, the fetcher gets what is missing, and `_fuse` scores.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack

import structlog

from streamer.agents.infer_encode import Encoder, EngineThread
from streamer.agents.infer_fetch import Fetcher
from streamer.agents.infer_read import Intake, payload_of
from streamer.agents.infer_write import Writer
from streamer.engine import open_engine
from streamer.errors import BadRecord, Reason, Transient
from streamer.events import SECOND, Event, EventRef, Message, Micros, Modality, Record, Scores, SessionMark
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.log import LogReader
from streamer.kafka.topics import check_topics
from streamer.runtime import Runtime, settle
from streamer.stages.cache import Unusable
from streamer.stages.envelope import read_head
from streamer.stages.fuse import Engine, Judgement
from streamer.stages.judge import fuse_input, scores
from streamer.stages.lane import Lane, Step
from streamer.stages.shed import Shedding
from streamer.stages.stall import Stalls
from streamer.stages.wire.records import write_scores, write_silence, write_window
from streamer.topology import TOPIC

MOST = 64  # windows of one lane that are fused together
COMMIT_EVERY = 0.5  # seconds
STALLED = 120.0  # seconds for which anything that waits may stand still; unready after half of it
FETCH_AGAIN = 1.0  # seconds

Wanted = tuple[Lane, EventRef]
Output = tuple[Message, Scores | None]
log = structlog.get_logger()


async def run(runtime: Runtime) -> None:
    """Work until `runtime.stop` is set."""
    config = runtime.config
    await serve(runtime, lambda: open_engine(config.infer, config.home, length=Micros(config.align.length)))


async def serve(runtime: Runtime, build: Callable[[], Engine]) -> None:
    """`run` with any engine; `build` is called in the thread that will own it."""
    config = runtime.config
    kafka = Kafka(config.kafka, password=runtime.secrets.get(config.kafka.password_env or ""))
    await check_topics(kafka)
    async with AsyncExitStack() as stack:
        producer = await stack.enter_async_context(Producer(kafka))
        reader = await stack.enter_async_context(LogReader(kafka))
        fetcher = await stack.enter_async_context(Fetcher(kafka))
        engine = await EngineThread.open(build)
        stack.callback(engine.close)
        settle()
        worker = Worker(runtime, kafka, engine=engine, producer=producer, reader=reader, fetcher=fetcher)
        await worker.run()


class Worker:
    """One process's infer."""

    def __init__(
        self, runtime: Runtime, kafka: Kafka, *, engine: EngineThread, producer: Producer, reader: LogReader, fetcher: Fetcher
    ) -> None:
        self._runtime, self._metrics, self._engine, self._fetcher = runtime, runtime.metrics, engine, fetcher
        self._partitions = runtime.config.kafka.partitions
        self._writer = Writer(producer, runtime.metrics, runtime.health)
        settings = runtime.config.infer
        length = Micros(runtime.config.align.length)
        self._shedding = Shedding(length=length, after=Micros(settings.shed_after), floor=settings.shed_floor, on=settings.shed)
        changed = asyncio.Event()
        self._encoder = Encoder(engine, settings, runtime.metrics, self._writer.bury, changed)
        self._intake = Intake(
            kafka,
            runtime.config,
            runtime.metrics,
            runtime.health,
            reader=reader,
            encoder=self._encoder,
            writer=self._writer,
            shedding=self._shedding,
            changed=changed,
        )
        self._changed = changed
        self._wanted = asyncio.Queue[Wanted]()
        self._stalls = Stalls()
        self._stalled: str | None = None
        self._counted = 0

    async def run(self) -> None:
        """Until `runtime.stop` is set. Raises what ended a loop."""
        await self._intake.start()
        try:
            async with asyncio.TaskGroup() as group:
                intake = self._intake
                works = (intake.run(), intake.watch(), self._encoder.run(), self._fetch(), self._fuse(), self._tick())
                loops = [group.create_task(work) for work in works]
                await self._runtime.stop.wait()
                async with intake.lock:  # what is being written is finished
                    for loop in loops:
                        loop.cancel()
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        finally:
            self._encoder.close()
            await self._intake.stop()

    # fetching

    async def _fetch(self) -> None:
        while True:
            wanted = [await self._wanted.get()]
            while not self._wanted.empty():
                wanted.append(self._wanted.get_nowait())
            left = {ref.origin: (lane, ref) for lane, ref in wanted if self._intake.lanes.get(lane.partition) is lane}
            try:
                async for origin, record in self._fetcher.fetch(list(left)):
                    self._fetched(*left.pop(origin), record)
            except Transient as exc:
                log.warning("fetching again", error=str(exc))
                self._metrics.retries.labels("infer").inc()
                await asyncio.sleep(FETCH_AGAIN)
                for each in left.values():
                    self._wanted.put_nowait(each)

    def _fetched(self, lane: Lane, ref: EventRef, record: Record | None) -> None:
        self._metrics.refetched.labels(ref.modality.value).inc()
        try:
            head = read_head(record, self._partitions) if record else None
        except BadRecord as exc:  # align has buried it
            self._without(lane, ref, exc.reason)
            return
        if record is None or not isinstance(head, Event):
            self._without(lane, ref, Reason.EXPIRED)
        else:
            self._encoder.submit(lane, ref.origin, ref.modality, payload_of(head, record), urgent=True)

    def _without(self, lane: Lane, ref: EventRef, reason: Reason) -> None:
        lane.cache.put(ref.origin, Unusable(reason=reason))
        self._changed.set()

    # scoring

    async def _fuse(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._encoder.failure:
                raise self._encoder.failure
            async with self._intake.lock:
                while not self._runtime.stop.is_set() and self._intake.open and await self._cycle():
                    pass

    async def _cycle(self) -> bool:
        """Score what is ready, in one forward and one write. False: nothing was."""
        started, generation = time.monotonic(), self._intake.generation
        lanes = list(self._intake.lanes.values())
        for lane in lanes:
            self._hand_over(lane)
        ready = {lane.partition: entries for lane in lanes if (entries := lane.ready(MOST))}
        if not ready:
            return False
        steps = [step for lane in lanes for step in lane.held(ready.get(lane.partition, ()))]
        judged = iter(await self._judge([step for step in steps if step.scored]))
        found = [await self._output(step, next(judged) if step.scored else None) for step in steps]
        outputs = [output for output in found if output]
        if not self._intake.ours(generation):
            return False
        written = await self._writer.send([message for message, _ in outputs], ours=lambda: self._intake.ours(generation))
        if len(written) < len(outputs):
            return False
        for lane in lanes:
            lane.done(ready.get(lane.partition, ()))
        for (_, score), place in zip(outputs, written, strict=True):
            if score:
                self._writer.scored(score, place)
        self._metrics.latency.labels("infer").observe(time.monotonic() - started)
        return True

    def _hand_over(self, lane: Lane) -> None:
        """What the next window lacks is encoded from its own quotation, or fetched."""
        for ref in lane.missing(self._shedding):
            if ref.words:
                self._encoder.submit(lane, ref.origin, ref.modality, ref.words, urgent=True)
            else:
                self._wanted.put_nowait((lane, ref))

    async def _judge(self, steps: Sequence[Step]) -> list[Judgement | None]:
        """One forward for all; None for a window that the head cannot bear, which is buried."""
        if not steps:
            return []
        try:
            return list(await self._engine.fuse([fuse_input(step.window, step.features) for step in steps]))
        except Exception as exc:
            if len(steps) > 1:
                middle = len(steps) // 2
                return [*await self._judge(steps[:middle]), *await self._judge(steps[middle:])]
            await self._engine.probe(Modality.FRAMES)
            await self._bury(steps[0], exc)
            return [None]

    async def _output(self, step: Step, judgement: Judgement | None) -> Output | None:
        """What is to be written of one step. None: nothing; where it cannot be written, its window is buried."""
        try:
            return self._message(step, judgement)
        except Exception as exc:
            await self._bury(step, exc)
            return None

    def _message(self, step: Step, judgement: Judgement | None) -> Output | None:
        if isinstance(step.entry.what, SessionMark):
            return write_silence("scores", step.entry.what), None
        if judgement is None:
            return None
        engine = self._engine
        score = scores(
            step.window,
            step.features,
            judgement,
            model=engine.version,
            calibrated=engine.calibrated,
            may_alert=engine.may_alert,
        )
        message = write_scores(score)
        if (size := len(message.value or b"")) > TOPIC["scores"].limit:
            raise BadRecord(Reason.TOO_LARGE, f"value: its score has {size} bytes and exceeds {TOPIC['scores'].limit}")
        return message, score

    async def _bury(self, step: Step, exc: Exception) -> None:
        log.warning("a window cannot be scored", partition=step.partition, offset=step.entry.offset, error=repr(exc), exc_info=exc)
        await self._writer.bury(_record(step), exc)

    # watching

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY)
            await self._intake.commit()
            self._intake.measure()
            self._shed()
            self._watch(await self._intake.waiting())

    def _shed(self) -> None:
        """Leave out more or fewer frames, by how long live windows wait."""
        now, before = self._writer.now(), self._shedding.level
        oldest = [one for lane in self._intake.lanes.values() if (one := lane.oldest())]
        waits = max((now - arrival for arrival, _ in oldest), default=0) / SECOND
        late = max((now - trigger for _, trigger in oldest), default=0) / SECOND
        self._shedding.look(time.monotonic(), waits=waits, late=late, spent=self._encoder.spent)
        if self._shedding.level != before:
            log.warning("frames are left out by another measure", now=self._shedding.level, before=before, waits=round(waits, 1))
        self._metrics.shed_level.set(self._shedding.level)
        self._metrics.shed.inc(self._shedding.shed - self._counted)
        self._counted = self._shedding.shed

    def _watch(self, waiting: Mapping[str, int]) -> None:
        """What does not move makes us unready first, then ends the process. Raises Transient."""
        stall = self._stalls.look(waiting, time.monotonic())
        if stall and stall.seconds > STALLED / 2:
            self._stalled = f"{stall.what}: stands at {stall.place} for {stall.seconds:.0f} s"
            self._runtime.health.not_ready(self._stalled)
            if stall.seconds > STALLED:
                raise Transient(self._stalled)
        elif self._stalled:
            if self._runtime.health.why == self._stalled:
                self._runtime.health.ready()
            self._stalled = None


def _record(step: Step) -> Record:
    """The record of `windows` that a step came in, as we would write it."""
    what = step.entry.what
    message = write_silence("windows", what) if isinstance(what, SessionMark) else write_window(step.window)
    return Record(
        topic=message.topic,
        partition=step.partition,
        offset=step.entry.offset,
        arrival=what.at if isinstance(what, SessionMark) else step.window.trigger,
        key=message.key,
        value=message.value,
        headers=message.headers,
    )
