"""ingest: cameras, microphones and files to `frames` and `audio`. Nothing is remembered: event time and ids come from capture.

Each source has a thread that reads, cuts and encodes, a bounded feed, and a task that writes. A source that fails stops no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import stamina
import structlog

from streamer.config import Config, SourceSettings
from streamer.errors import BadRecord, ConfigError, Reason, StreamerError, Transient
from streamer.events import AudioChunk, Frame, Message, Micros, Modality, Pace, SessionId, Track
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.topics import check_topics
from streamer.metrics import Metrics
from streamer.runtime import Runtime
from streamer.sources.feed import Down, Fault, Feed, Item, Odd, Source, State, Up, wall
from streamer.sources.open import is_live, open_source
from streamer.stages.envelope import write_audio, write_frame, write_mark
from streamer.stages.ingest import Pcm, Picture, Progress, Rgb, Take, check_live, due, start_of
from streamer.stages.media import encode_flac, encode_jpeg
from streamer.topology import TOPIC

log = structlog.get_logger()

WAITING = 16 << 20  # bytes that may wait in one source's feed
BATCH = 4 << 20  # bytes written at once, and so in flight, per source
LARGEST = TOPIC["frames"].limit  # bytes of one picture
POORER, POOREST = 15, 10  # how much JPEG quality is given up at once, and how little is left, where a picture is too large
LONGEST_PAUSE = 5.0  # seconds between two tries to write
PATIENCE = 5.0  # seconds that a stopping role gives its sources to write what they hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One source of one session, checked, not yet reading. `start` is the event time of a file's first sample."""

    session: SessionId
    settings: SourceSettings
    start: Micros
    source: Source

    def track(self, modality: Modality) -> Track:
        """The source's track of one modality."""
        return Track(session=self.session, modality=modality, source=self.settings.name)

    @property
    def pace(self) -> Pace:
        """A camera is always live."""
        return Pace.LIVE if is_live(self.settings) else self.settings.pace


async def run(runtime: Runtime) -> None:
    """Works until every file has ended or `stop` is set. Raises ConfigError before anything is written."""
    jobs = await asyncio.to_thread(plan, runtime.config, runtime.secrets, wall())
    feeds = [Feed(partial(items, job), limit=WAITING, lossy=is_live(job.settings), name=f"source {job.settings.name}") for job in jobs]
    working = asyncio.create_task(serve(runtime, jobs, feeds))
    stopping = asyncio.create_task(runtime.stop.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    for feed in feeds:
        feed.close()
    await asyncio.wait([working], timeout=PATIENCE)
    if not working.done():
        working.cancel()
        log.warning("a source could not be written to its end", seconds=PATIENCE)
    with contextlib.suppress(asyncio.CancelledError):
        await working


async def serve(runtime: Runtime, jobs: Sequence[Job], feeds: Sequence[Feed]) -> None:
    """Write every feed until all have ended. A broker that is away is waited for."""
    kafka, metrics = runtime.config.kafka, runtime.metrics
    metrics.sources_configured.set(len(jobs))
    async with AsyncExitStack() as stack:
        async for attempt in stamina.retry_context(on=Transient, attempts=None, timeout=None, wait_max=LONGEST_PAUSE):
            with attempt:
                runtime.health.not_ready("no broker yet")
                door = Kafka(kafka, password=runtime.secrets.get(kafka.password_env or ""))
                await check_topics(door)
                producer = await stack.enter_async_context(Producer(door))
        runtime.health.ready()
        await asyncio.gather(*(work(job, feed, producer, metrics) for job, feed in zip(jobs, feeds, strict=True)))


def plan(config: Config, secrets: Mapping[str, str], now: Micros) -> list[Job]:
    """Every source of the configuration, checked. All that start `now` start at the same moment. Raises ConfigError."""
    jobs = [_job(config, SessionId(session.id), one, secrets, now) for session in config.sessions for one in session.sources]
    if not jobs:
        raise ConfigError("sessions: no session has a source, so there is nothing to ingest")
    return jobs


def _job(config: Config, session: SessionId, settings: SourceSettings, secrets: Mapping[str, str], now: Micros) -> Job:
    align = config.align
    start = start_of(settings.start, now=now, hop=Micros(align.hop))
    if settings.pace is Pace.LIVE and not is_live(settings):
        check_live(start, now=now, horizon=Micros(align.horizon), skew=Micros(align.skew), hop=Micros(align.hop))
    source = open_source(settings, start=start, password=secrets.get(settings.password_env or ""))
    source.check()
    return Job(session=session, settings=settings, start=start, source=source)


def items(job: Job, stop: threading.Event) -> Iterator[Item]:
    """What the source gives, encoded: runs in the source's thread. A file's end is one mark for each of its tracks."""
    until = job.start
    for take in job.source.read(stop):
        if isinstance(take, State):
            yield Item(state=take)
        else:
            yield from encoded(job, take)
            until = max(until, due(take))
    if not stop.is_set() and not is_live(job.settings):
        yield from (Item(message=mark) for mark in end_marks(job, until))


def encoded(job: Job, take: Take) -> Iterator[Item]:
    """One picture as JPEG, one chunk as FLAC, or a progress mark; what cannot be encoded leaves a mark in its place."""
    try:
        yield Item(message=message(job, take))
    except Exception as exc:
        fault = Fault.TOO_LARGE if isinstance(exc, BadRecord) else Fault.UNENCODABLE
        yield Item(state=Odd(fault=fault, why=f"one {type(take).__name__} less: {_harmless(exc)}"))
        modality = Modality.AUDIO if isinstance(take, Pcm) else Modality.FRAMES
        yield Item(message=write_mark(job.track(modality), due(take), pace=job.pace))


def message(job: Job, take: Take) -> Message:
    """A take as a record. Raises BadRecord: too_large; and what a codec raises."""
    session, name, pace = job.session, job.settings.name, job.pace
    match take:
        case Picture():
            image = jpeg(take.rgb, job.settings.quality)
            return write_frame(Frame(session=session, source=name, at=take.at, image=image, pace=pace))
        case Pcm():
            sound = encode_flac(take.samples)
            return write_audio(AudioChunk(session=session, source=name, start=take.start, end=take.end, sound=sound, pace=pace))
        case Progress():
            return write_mark(job.track(take.modality), take.until, pace=pace)


def jpeg(rgb: Rgb, quality: int, *, most: int = LARGEST) -> bytes:
    """At `quality`, or at the best lower one that fits into `most` bytes. Raises BadRecord: too_large."""
    image = encode_jpeg(rgb, quality)
    while len(image) > most and quality > POOREST:
        quality = max(POOREST, quality - POORER)
        image = encode_jpeg(rgb, quality)
    if len(image) > most:
        raise BadRecord(Reason.TOO_LARGE, f"{rgb.shape[1]} x {rgb.shape[0]} pixels are {len(image)} bytes at quality {quality}, not {most}")
    return image


def end_marks(job: Job, until: Micros) -> list[Message]:
    """The end of every track that the configuration promises, also of one that the file turned out not to have."""
    promised = {Modality.FRAMES: job.settings.video, Modality.AUDIO: job.settings.audio}
    return [write_mark(job.track(modality), until, final=True, pace=job.pace) for modality, wanted in promised.items() if wanted]


async def work(job: Job, feed: Feed, producer: Producer, metrics: Metrics) -> None:
    """Write one source's feed in order until it ends. What goes wrong with the source is logged and stops no other."""
    state = _State(job, metrics)
    feed.start()
    try:
        while batch := await feed.batch(BATCH):
            for item in batch:
                if item.state:
                    state.change(item.state)
            state.dropped(feed.dropped)
            await write([item.message for item in batch if item.message], producer, metrics)
    except Exception as exc:
        log.error("the source failed", source=job.settings.name, session=job.session, error=_harmless(exc))
        if not is_live(job.settings):  # a camera never ends
            await write(end_marks(job, job.start), producer, metrics)
    else:
        metrics.sources_configured.dec()  # a recording that is over is not missed
    finally:
        state.change(Down(why="it ended"), quiet=True)


async def write(messages: Sequence[Message], producer: Producer, metrics: Metrics) -> None:
    """Until the broker has acknowledged all: the same batch again, in the same order. A repeated record keeps its id.

    What the broker takes at no time (it is too large for it) is dropped, counted and logged.
    """
    try:
        await _send(messages, producer, metrics)
    except ConfigError as exc:
        if len(messages) > 1:
            for one in messages:
                await write([one], producer, metrics)
        else:
            metrics.source_faults.labels(Fault.TOO_LARGE).inc()
            log.error("the broker refused a record", topic=messages[0].topic, bytes=len(messages[0].value or b""), why=str(exc))


async def _send(messages: Sequence[Message], producer: Producer, metrics: Metrics) -> None:
    if not messages:
        return
    async for attempt in stamina.retry_context(on=Transient, attempts=None, timeout=None, wait_max=LONGEST_PAUSE):
        with attempt:
            if attempt.num > 1:
                metrics.retries.labels("ingest").inc()
            await producer.send(messages)
    for one in messages:
        metrics.written.labels("ingest", one.topic).inc()
        metrics.written_bytes.labels("ingest", one.topic).inc(len(one.value or b""))


def _harmless(exc: Exception) -> str:
    """An error without its text where that may hold a url with its login."""
    return str(exc) if isinstance(exc, StreamerError) else f"{type(exc).__name__}: {getattr(exc, 'strerror', None) or 'see its type'}"


class _State:
    """Whether a source delivers, as metrics and log lines: each change once."""

    def __init__(self, job: Job, metrics: Metrics) -> None:
        self._metrics, self._up, self._dropped = metrics, False, 0
        self._log = log.bind(source=job.settings.name, session=job.session)

    def change(self, state: State, *, quiet: bool = False) -> None:
        """Count an opening, a re-opening, a loss, or something odd that changes neither."""
        if isinstance(state, Odd):
            self._metrics.source_faults.labels(state.fault).inc()
            self._log.warning("the source goes on after a fault", fault=state.fault, why=state.why)
            return
        up = isinstance(state, Up)
        self._metrics.sources_up.inc(up - self._up)
        self._up = up
        if isinstance(state, Up):
            self._metrics.reconnects.inc(state.again)
            self._log.info("the source delivers", again=state.again)
        elif not quiet:
            self._log.warning("the source does not deliver", why=state.why)

    def dropped(self, total: int) -> None:
        """Count what a live source lost because the broker was slower."""
        if lost := total - self._dropped:
            self._metrics.source_dropped.inc(lost)
            self._log.warning("the broker is slower than the source", dropped=lost)
            self._dropped = total
