"""align was down for the better part of an hour, on Apache Kafka. It catches up, and neither calls anybody silent nor waits for the dead.

The broker stamps what it is given now; here it is told to believe the producer while the backlog is written, so that each
record arrived when its event ended.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streamer.config import AlignSettings, KafkaSettings
from streamer.events import MILLISECOND, SECOND, ClosedBy, Message, Micros, Modality, SessionMark, Silence, TrackState
from streamer.ids import partition_of
from streamer.kafka.client import Kafka
from streamer.kafka.topics import topic_settings
from streamer.stages.wire import read_window
from streamer.topology import TOPICS
from tests.agents.test_align import SESSIONS, Manifests, Tail, a_second, aligning, note, now

SECONDS = 3_000
DEAD = 600  # after so many seconds the yard's camera says nothing more
DOWN = 1_200  # after so many the hall says nothing at all
SETTINGS = AlignSettings()
INPUTS = tuple(topic for topic in TOPICS if topic.name in tuple(Modality))

Row = tuple[Message, Modality, Micros, Micros]


def rows(start: Micros) -> dict[str, list[Row]]:
    """By session, a frame and a chunk a second; words once a minute."""
    found: dict[str, list[Row]] = {session: [] for session in SESSIONS}
    for session in SESSIONS:
        for n in range(DOWN if session == "hall" else SECONDS):
            frame, _, chunk, words = a_second(session, Micros(start + n * SECOND))
            found[session] += [chunk] if session == "yard" and n >= DEAD else [frame, chunk]
            found[session] += [words] if n % 60 == 0 else []
    return found


async def believe(kafka: Kafka, timestamps: str) -> None:
    """Whose timestamps the inputs keep."""
    admin = AIOKafkaAdminClient(**kafka.common)
    await admin.start()
    try:
        for topic in INPUTS:
            wanted = topic_settings(topic) | {"message.timestamp.type": timestamps}
            await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, kafka.physical(topic.name), wanted)])
    finally:
        await admin.close()


async def write_backlog(kafka: Kafka, found: dict[str, list[Row]]) -> None:
    """Each record as if it had arrived when its event ended."""
    await believe(kafka, "CreateTime")
    async with AIOKafkaProducer(**kafka.common) as producer:
        sent = [
            await producer.send(
                kafka.physical(message.topic),
                message.value,
                message.key,
                partition=partition_of(message.key, kafka.settings.partitions),
                timestamp_ms=end // MILLISECOND,
                headers=list(message.headers),
            )
            for message, _, _, end in sorted((row for each in found.values() for row in each), key=lambda row: row[3])
        ]
        await asyncio.gather(*sent)
    await believe(kafka, "LogAppendTime")


@pytest.mark.kafka
async def test_a_backlog_with_a_dead_camera_gives_what_live_would_have_given(apache_kafka: KafkaSettings) -> None:
    kafka = Kafka(apache_kafka)
    wanted: Manifests = defaultdict(set)
    start = Micros((now() // SECOND - SECONDS - 2) * SECOND)
    found = rows(start)
    for session in SESSIONS:
        for row in found[session]:
            note(wanted, session, *row)
    await write_backlog(kafka, found)
    last = {session: max(end for *_, end in each) for session, each in found.items()}
    async with aligning(apache_kafka, SETTINGS) as (_, tail, _):
        told = Silences(tail)
        await tail.until(lambda: len(told.marks()) == len(SESSIONS), seconds=120)
    assert tail.manifests() == wanted
    assert not any(record.topic in ("late", "deadletter") for record in tail.seen)
    assert sorted((mark.session, mark.at, mark.why) for mark in told.marks()) == [
        (session, last[session], Silence.IDLE) for session in sorted(SESSIONS)
    ]
    blind = [window for window in tail.windows() if window.session == "yard" and window.start > start + (DEAD + 15) * SECOND]
    assert blind and not any(window.completeness[Modality.FRAMES].state is TrackState.ACTIVE for window in blind)
    closed = Counter((window.session, window.closed_by) for window in tail.windows() if window.revision == 0)
    assert all(closed[session, ClosedBy.IDLE] <= 3 for session in SESSIONS), closed  # the last ones


class Silences:
    """What was said of silence, as the tail grows; each record is looked at once, for align shares our event loop."""

    def __init__(self, tail: Tail) -> None:
        self.tail, self.looked = tail, 0
        self.found: list[SessionMark] = []

    def marks(self) -> list[SessionMark]:
        fresh, self.looked = self.tail.seen[self.looked :], len(self.tail.seen)
        told = [read_window(record) for record in fresh if record.topic == "windows"]
        self.found += [one for one in told if isinstance(one, SessionMark)]
        return self.found
