"""Retention overtakes align while it cannot write, on Apache Kafka: what is lost is told, in `late` and in the windows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest

from streamer.config import AlignSettings, KafkaSettings
from streamer.errors import Transient
from streamer.events import SECOND, AudioChunk, Frame, Message, Micros, Modality, Window
from streamer.ids import partition_of
from streamer.kafka.client import FETCH_BYTES, Kafka, Producer, Written
from streamer.stages.envelope import write_audio, write_frame
from streamer.stages.wire import read_late
from tests.agents.test_align import SESSIONS, Tail, now
from tests.agents.test_align_guarantee import aligning
from tests.kafka.apache import delete_before
from tests.kafka.recorder import saved
from tests.kafka.test_source import until

GATE = SESSIONS[0]
LARGE, COUNT = 400_000, 30
AHEAD = 4 * FETCH_BYTES // LARGE
"""Pictures that a held align can have of them, with room to spare: those in its hand, those held beside them, and one fetch ahead."""

PATIENT = AlignSettings(patience="100s", idle="100s")  # no window goes out without its pictures, however long this takes


class Held(Producer):
    """A real producer whose broker takes nothing while it is `held`; `tries`: how often it was asked to, in vain."""

    held, tries = False, 0

    async def send(self, messages: Sequence[Message]) -> list[Written]:
        if self.held and messages:
            self.tries += 1
            raise Transient("the broker takes nothing")
        return await super().send(messages)


def picture(at: Micros) -> Message:
    return write_frame(Frame(session=GATE, source="cam", at=at, image=bytes(LARGE)))


def sound(at: Micros) -> Message:
    return write_audio(AudioChunk(session=GATE, source="mic", start=at, end=Micros(at + SECOND), sound=b"fLaC not looked at"))


def last_revisions(tail: Tail) -> list[Window]:
    by_start = {window.start: window for window in sorted(tail.windows(), key=lambda window: window.revision)}
    return list(by_start.values())


@pytest.mark.kafka
async def test_what_retention_takes_from_a_running_align_is_told_and_its_windows_say_so(apache_kafka: KafkaSettings) -> None:
    kafka, held = Kafka(apache_kafka), Held(Kafka(apache_kafka))
    base, home = Micros(now() // SECOND * SECOND - 60 * SECOND), partition_of(GATE.encode(), apache_kafka.partitions)
    times = dict[int, Micros]()

    async with Producer(kafka) as producer, aligning(apache_kafka, held, PATIENT) as (_, tail):

        async def seconds(count: int) -> int:
            """So many seconds with a picture and a sound each, written one by one; the last picture's offset."""
            for _ in range(count):
                at = Micros(base + len(times) * SECOND)
                times[(await producer.send([picture(at)]))[0].offset] = at
                await producer.send([sound(at)])
            return max(times)

        await seconds(5)
        await tail.until(lambda: bool(tail.windows()), seconds=30)
        await until(partial(saved, apache_kafka, "align", home))
        held.held = True
        last = await seconds(COUNT)
        await tail.until(lambda: held.tries > 0, seconds=30)
        await delete_before(kafka, kafka.partition("frames", home), last - 1)
        held.held = False
        await seconds(4)
        await tail.until(lambda: any(ref.start == times[last] for window in tail.windows() for ref in window.manifest), seconds=60)

        found = last_revisions(tail)
        there = {ref.origin.offset for window in found for ref in window.manifest if ref.modality is Modality.FRAMES}
        lost = sorted(offset for offset in times if offset <= last and offset not in there)
        assert len(lost) > COUNT - AHEAD
        [gap] = [late for record in tail.seen if record.topic == "late" and (late := read_late(record)).reason == "gap"]
        assert (gap.origin.topic, gap.origin.partition) == ("frames", home)
        assert gap.origin.offset <= lost[0]
        lacking = [window for window in found if any(window.start <= times[offset] < window.end for offset in lost)]
        assert len(lacking) >= len(lost)
        assert all(window.completeness[Modality.FRAMES].gap for window in lacking)
