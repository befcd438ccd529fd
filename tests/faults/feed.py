"""`python -m tests.faults.feed SETTINGS`: live sessions on a broker, and a ledger of every record that the broker acknowledged.

The ledger (one JSON line per acknowledgement, written by this process alone) says where the record stands, when it arrived and
what it is. Nothing of the pipeline is asked: what it must make of these records follows from the ledger (`ledger.py`).

Each second each session gives four frames, two chunks of sound, every fourth second some words, and marks. Most records come a
little out of order; some 0.5 to 2 s late (within the patience), some 4 to 10 s (their windows are out: a revision), some beyond
the horizon, some twice or three times, some from the future, some broken. SIGTERM: what is on its way is sent, each track
ends, and so does this process.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from streamer.events import SECOND, AudioChunk, Frame, Message, Micros, Modality, SessionId, Track, Transcript, Words
from streamer.stages.envelope import write_audio, write_frame, write_mark, write_transcript

FRAMES, AUDIO, TRANSCRIPTS = Modality
SOURCE = {FRAMES: "cam", AUDIO: "mic", TRANSCRIPTS: "mic"}
TRACKS = tuple(SOURCE.items())
HALF, QUARTER = SECOND // 2, SECOND // 4
LONGEST_REQUEST = 150_000  # ms that the producer goes on trying to deliver a batch: longer than any fault of the broker
AGAIN = 0.5  # seconds


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What to write, and where. `horizon` in seconds; `frame` and `chunk` are files with a payload; without: random bytes."""

    address: str
    prefix: str
    ledger: str
    sessions: tuple[str, ...]
    horizon: float
    seed: int = 1
    frame: str = ""
    chunk: str = ""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the ledger: an acknowledged record. `doubts`: attempts before it whose outcome nobody knows."""

    kind: str  # event, mark, future or broken
    session: str
    modality: str
    source: str
    id: str
    start: int
    end: int
    final: bool = False
    topic: str = ""
    partition: int = 0
    offset: int = 0
    arrival: int = 0
    doubts: int = 0


@dataclass(order=True)
class Due:
    """What is to be written, and when (seconds since the epoch)."""

    at: float
    number: int
    message: Message = field(compare=False)
    line: Line = field(compare=False)


class Plan:
    """Which records a second brings. Deterministic for a seed and a start."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._random = settings, random.Random(settings.seed)
        self._numbers = itertools.count()
        self._frame = Path(settings.frame).read_bytes() if settings.frame else self._random.randbytes(400)
        self._chunk = Path(settings.chunk).read_bytes() if settings.chunk else self._random.randbytes(200)
        self.last: dict[tuple[str, Modality], int] = {}

    def second(self, base: Micros) -> Iterator[Due]:
        """All records about [base, base + 1 s), and what goes wrong meanwhile."""
        for name in self._settings.sessions:
            for start in range(base, base + SECOND, QUARTER):
                yield from self._sent(self._event(name, FRAMES, start, start))
            for start in range(base, base + SECOND, HALF):
                yield from self._sent(self._event(name, AUDIO, start, start + HALF))
            if base // SECOND % 4 == 0:
                yield from self._sent(self._event(name, TRANSCRIPTS, base - 2 * SECOND, base + SECOND), slow=self._random.uniform(0.3, 2))
            if self._random.random() < 0.3:
                yield self._due(*self._mark(name, AUDIO, base + HALF), (base + SECOND) / SECOND + 0.2)
            yield from self._wrong(name, base)

    def ends(self) -> Iterator[tuple[Message, Line]]:
        """Each track's end."""
        for (name, modality), end in self.last.items():
            yield self._mark(name, modality, end, final=True)

    def _sent(self, event: tuple[Message, Line], *, slow: float = 0.0) -> Iterator[Due]:
        """Once, a little or much later than it happened; or several times."""
        end, chance = event[1].end / SECOND, self._random.random()
        delay = slow + self._random.uniform(0.02, 0.25)
        if chance < 0.04:
            delay += self._random.uniform(0.5, 2)
        elif chance < 0.06:
            delay += self._random.uniform(4, 10)
        yield self._due(*event, end + delay)
        if self._random.random() < 0.04:
            for _ in range(self._random.choice((1, 1, 2))):
                yield self._due(*event, end + delay + self._random.choice((0.0, 1.0, 6.0)) * self._random.random())

    def _wrong(self, name: str, base: Micros) -> Iterator[Due]:
        """What must come out as late or as a dead letter."""
        now, chance = base / SECOND + 1, self._random.random()
        odd = base + self._random.randrange(1, 200_000) * 2 + 1  # no other event starts there
        if chance < 0.06:
            start = odd - round((self._settings.horizon + self._random.uniform(3, 9)) * SECOND)
            yield self._due(*self._event(name, FRAMES, start, start), now)
        elif chance < 0.08:
            yield self._due(*self._event(name, FRAMES, odd + 60 * SECOND, odd + 60 * SECOND, kind="future"), now)
        elif chance < 0.10:
            message, line = self._event(name, AUDIO, odd, odd + 1_000, kind="broken")
            bare = tuple(header for header in message.headers if header[0] != "ce_time")
            yield self._due(Message(topic=message.topic, key=message.key, value=message.value, headers=bare), line, now)

    def _event(self, name: str, modality: Modality, start: int, end: int, *, kind: str = "event") -> tuple[Message, Line]:
        session, source = SessionId(name), SOURCE[modality]
        at, until = Micros(start), Micros(end)
        if modality is FRAMES:
            message = write_frame(Frame(session=session, source=source, at=at, image=self._frame))
        elif modality is AUDIO:
            message = write_audio(AudioChunk(session=session, source=source, start=at, end=until, sound=self._chunk))
        else:
            words = Words(text="somebody said this near the door", confidence=0.9, language="en")
            message = write_transcript(Transcript(session=session, source=source, start=at, end=until, words=words))
        if kind == "event":
            self.last[name, modality] = max(end, self.last.get((name, modality), 0))
        return message, Line(kind=kind, session=name, modality=modality.value, source=source, id=f"t{start}", start=start, end=end)

    def _mark(self, name: str, modality: Modality, until: int, *, final: bool = False) -> tuple[Message, Line]:
        message = write_mark(Track(session=SessionId(name), modality=modality, source=SOURCE[modality]), Micros(until), final=final)
        line = Line(kind="mark", session=name, modality=modality.value, source=SOURCE[modality], id="", start=until, end=until, final=final)
        return message, line

    def _due(self, message: Message, line: Line, at: float) -> Due:
        return Due(at, next(self._numbers), message, line)


class Feed:
    """Sends what is due and writes down what was acknowledged."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer) -> None:
        self._settings, self._producer = settings, producer
        self._plan = Plan(settings)
        self._heap: list[Due] = []
        self._sending: set[asyncio.Task[None]] = set()
        self._ledger = Path(settings.ledger).open("a", buffering=1)  # noqa: SIM115 - closed with the process

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then everything is sent, acknowledged and ended."""
        second = int(time.time())
        while not stop.is_set():
            while second <= time.time():
                for due in self._plan.second(Micros(second * SECOND)):
                    heapq.heappush(self._heap, due)
                second += 1
            self._send(time.time())
            await asyncio.sleep(0.02)
        self._send(float("inf"))
        await self._sent()
        for message, line in self._plan.ends():
            await self._deliver(message, line)

    def _send(self, until: float) -> None:
        while self._heap and self._heap[0].at <= until:
            due = heapq.heappop(self._heap)
            task = asyncio.create_task(self._deliver(due.message, due.line))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _sent(self) -> None:
        while self._sending:
            await asyncio.wait(self._sending)

    async def _deliver(self, message: Message, line: Line) -> None:
        """Until it is acknowledged; only then it counts."""
        topic, doubts = self._settings.prefix + message.topic, 0
        while True:
            try:
                done = await self._producer.send_and_wait(topic, message.value, message.key, headers=list(message.headers))
            except KafkaError as exc:
                print(f"{line.kind} {line.id} again: {exc!r}", flush=True)
                doubts += 1
                await asyncio.sleep(AGAIN)
                continue
            place = {"topic": message.topic, "partition": done.partition, "offset": done.offset, "arrival": done.timestamp * 1_000}
            self._ledger.write(json.dumps(asdict(line) | place | {"doubts": doubts}) + "\n")
            return


async def main(raw: dict[str, Any]) -> None:
    """Feed until SIGTERM."""
    settings, stop = Settings(**raw | {"sessions": tuple(raw["sessions"])}), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.address, acks="all", enable_idempotence=True, linger_ms=5, request_timeout_ms=LONGEST_REQUEST
    )
    async with producer:
        await Feed(settings, producer).run(stop)


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
