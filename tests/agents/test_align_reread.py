"""How much a restart of align would read again is shown, so that a low-water which stands still is seen while checkpoints are written."""

from __future__ import annotations

from dataclasses import replace

from streamer.events import SECOND, Clock, Message, Micros, Modality, Pace
from streamer.kafka.stateful import Batch
from streamer.stages.envelope import write_audio, write_frame, write_mark, write_transcript
from tests.agents.test_align_clocks import CONFIG, a_worker
from tests.builders import SESSION, a_chunk, a_frame, a_record, a_track, a_transcript, at


async def shown_after(minutes: int, message: Message) -> float:
    """A frame from before; `message`, and a frame of another place each second. With a checkpoint each second, as the source has it."""
    state, _ = await a_worker(CONFIG.model_copy(update={"align": CONFIG.align.model_copy(update={"idle": 5 * SECOND})}))
    messages = [write_frame(a_frame(0)), message, *(write_frame(a_frame(n, source="cam-2")) for n in range(1, minutes * 60))]
    for offset, one in enumerate(messages):
        record = a_record(one, offset=offset, arrival=Micros(at(offset) + SECOND // 10), partitions=1)
        clocks = {(modality.value, 0): Clock(arrival=record.arrival, caught_up=True) for modality in Modality}
        await state.handle(Batch(records=(record,), clocks=clocks, now=record.arrival))
        await state.checkpoint(0, {"frames": offset + 1, "audio": 0, "transcripts": 0, "windows": state.lanes[0].end})
    return state.metrics.registry.get_sample_value("streamer_reread_seconds") or 0.0


async def test_where_windows_close_a_restart_reads_seconds_again() -> None:
    mark = write_mark(a_track(Modality.FRAMES, source="cam-2"), at(1))
    assert 0 < await shown_after(3, mark) < 10


async def test_where_nothing_comes_any_more_there_is_nothing_to_read_again() -> None:
    state, _ = await a_worker(CONFIG.model_copy(update={"align": CONFIG.align.model_copy(update={"idle": 5 * SECOND})}))
    messages = [write_frame(a_frame(0)), write_audio(a_chunk(0)), write_transcript(a_transcript(0))]
    records = tuple(a_record(message, offset=0, arrival=at(1.1), partitions=1) for message in messages)
    clocks = {(modality.value, 0): Clock(arrival=at(1.1), caught_up=True) for modality in Modality}
    for second in range(2, 600, 10):
        await state.handle(Batch(records=records, clocks=clocks, now=at(second)))  # each is read once: the rest is silence
        await state.checkpoint(0, {"frames": 1, "audio": 1, "transcripts": 1, "windows": state.lanes[0].end})
    assert state.metrics.registry.get_sample_value("streamer_reread_seconds") == 0


async def test_a_recording_that_is_waited_for_shows() -> None:
    tape = replace(write_frame(a_frame(1, pace=Pace.RECORDED)), key=f"{SESSION}-tape".encode())
    assert 100 < await shown_after(3, tape) < 180
