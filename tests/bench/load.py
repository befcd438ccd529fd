"""The records that benchmarks read: what each watched place gives in a second, written to a broker in event-time order."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from aiokafka.admin import AIOKafkaAdminClient

from streamer.config import KafkaSettings
from streamer.events import SECOND, AudioChunk, Frame, Message, Micros, SessionId, Transcript, Words
from streamer.ids import partition_of
from streamer.kafka.client import Kafka, Producer
from streamer.kafka.topics import create_topics
from streamer.stages.envelope import write_audio, write_frame, write_transcript

WORDS = Words(text="a dozen words that somebody said in front of a microphone", confidence=0.9, language="en")


@dataclass(frozen=True)
class Load:
    """Each second each place gives two frames, a chunk, and every fourth second some words. Align never looks into a payload.

    `names`: which places; by default as many as `sessions` says.
    """

    sessions: int
    seconds: int
    frame: bytes = field(default_factory=lambda: os.urandom(60_000), repr=False)
    chunk: bytes = field(default_factory=lambda: os.urandom(20_000), repr=False)
    names: Sequence[str] = ()
    words: bool = True

    @property
    def places(self) -> Sequence[str]:
        """The sessions' names."""
        return self.names or [f"place-{n}" for n in range(self.sessions)]

    def messages(self, at: Micros, number: int) -> list[Message]:
        """One second, over all places."""
        return [one for name in self.places for one in self._of(SessionId(name), at, number)]

    def _of(self, session: SessionId, at: Micros, number: int) -> Iterator[Message]:
        half, end = Micros(at + SECOND // 2), Micros(at + SECOND)
        yield write_frame(Frame(session=session, source="cam", at=at, image=self.frame))
        yield write_frame(Frame(session=session, source="cam", at=half, image=self.frame))
        yield write_audio(AudioChunk(session=session, source="mic", start=at, end=end, sound=self.chunk))
        if self.words and number % 4 == 0:
            yield write_transcript(Transcript(session=session, source="mic", start=at, end=end, words=WORDS))


def spread(sessions: int, partitions: int) -> list[str]:
    """Names of which every partition gets the same number (`sessions` is a multiple of `partitions`)."""
    each, found = sessions // partitions, dict[int, list[str]]()
    for name in (f"place-{n}" for n in itertools.count()):
        mine = found.setdefault(partition_of(name.encode(), partitions), [])
        if len(mine) < each:
            mine.append(name)
            if sum(map(len, found.values())) == each * partitions:
                return [name for names in zip(*found.values(), strict=True) for name in names]
    raise AssertionError("there are names without end")


@dataclass(frozen=True)
class Written:
    """How much went into the topics, and when the first event was."""

    records: int
    payload: int
    base: Micros

    @property
    def mb_per_record(self) -> float:
        """Payload megabytes (10^6 bytes) of a record, on average."""
        return self.payload / self.records / 1e6


async def produce(settings: KafkaSettings, load: Load) -> Written:
    """Write everything, in event-time order over all sessions, the last second being the last whole one."""
    base, count, size = Micros(time.time_ns() // 1_000 // SECOND * SECOND - load.seconds * SECOND), 0, 0
    async with Producer(Kafka(settings)) as producer:
        for number in range(load.seconds):
            messages = load.messages(Micros(base + number * SECOND), number)
            await producer.send(messages)
            count += len(messages)
            size += sum(len(one.value or b"") for one in messages)
    return Written(count, size, base)


async def renew_outputs(settings: KafkaSettings, names: tuple[str, ...]) -> None:
    """Empty topics for what a role writes, so that each run begins at the log's start."""
    kafka = Kafka(settings)
    physical = {kafka.physical(name) for name in names}
    admin = AIOKafkaAdminClient(**kafka.common)
    await admin.start()
    try:
        await admin.delete_topics(sorted(physical))
        while set(await admin.list_topics()) & physical:
            await asyncio.sleep(0.05)
    finally:
        await admin.close()
    await create_topics(kafka)
