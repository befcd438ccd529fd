"""The segmenter's laws, with a detector that has a memory, so that a missing reset shows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.config import TranscribeSettings
from streamer.events import SECOND, Micros
from streamer.stages.transcribe import RATE, START, STEP, Heard, Segment, Segmenter, Sound, verdict

SETTINGS = TranscribeSettings(longest=3.0)
T0 = Micros(1_700_000_000 * SECOND)


class LeakyVad:
    """Smoothed loudness since the last reset: its answer depends on everything it was given."""

    def reset(self) -> None:
        self.level = 0.0

    def probability(self, step: Sound) -> float:
        self.level = 0.7 * self.level + 0.3 * float(np.abs(step).mean())
        return min(1.0, 4 * self.level)


Chunk = tuple[int, Micros, Micros, Sound]


def chunks(sound: Sound, *, lost: frozenset[int] = frozenset(), twice: frozenset[int] = frozenset(), jitter: int = 0) -> list[Chunk]:
    """One chunk a second; a live source's clock jitters by up to `jitter` microseconds."""
    found: list[Chunk] = []
    for i in range(len(sound) // RATE):
        start = Micros(T0 + i * SECOND + (i * 7_919) % 13 * jitter // 13)
        for _ in range((i not in lost) + (i in twice)):
            found.append((10 + 3 * len(found), start, Micros(start + SECOND), sound[i * RATE : (i + 1) * RATE]))
    return found


def talk(plan: list[tuple[bool, int]]) -> Sound:
    """Alternating voice and silence, each so many detector steps long."""
    noise = np.random.default_rng(1)
    parts = [noise.uniform(-1, 1, n * STEP) * (0.9 if voice else 0.01) for voice, n in plan]
    sound = np.concatenate(parts).astype(np.float32)
    return np.pad(sound, (0, -len(sound) % RATE))


def listen(given: list[Chunk], *, restarts: frozenset[int] = frozenset()) -> list[Segment]:
    """All segments; before each chunk whose index is in `restarts` a new worker takes over from the checkpoint."""
    worker, segments = Segmenter(SETTINGS, LeakyVad()), []
    i = 0
    while i < len(given):
        if i in restarts:
            restarts -= {i}
            position = worker.position
            worker = Segmenter(SETTINGS, LeakyVad(), position)
            i = next((k for k, c in enumerate(given) if position and c[0] >= position.offset), i) if position else i
        offset, start, end, sound = given[i]
        segments += worker.push(sound, start=start, end=end, offset=offset, before=START)
        i += 1
    return segments + list(worker.flush(offset=10_000))


def keys(segments: list[Segment]) -> list[tuple[int, int, bytes]]:
    return list(dict.fromkeys((s.start, s.end, s.sound.tobytes()) for s in segments))


PLANS = st.lists(st.tuples(st.booleans(), st.integers(1, 90)), min_size=1, max_size=8)
INDEXES = st.frozensets(st.integers(0, 12), max_size=4)


@settings(deadline=None, max_examples=150)
@given(plan=PLANS, restarts=INDEXES, lost=INDEXES, twice=INDEXES, jitter=st.sampled_from([0, 10_000, 40_000]))
def test_restarted_anywhere_it_gives_the_same_segments(
    plan: list[tuple[bool, int]], restarts: frozenset[int], lost: frozenset[int], twice: frozenset[int], jitter: int
) -> None:
    given_chunks = chunks(talk(plan), lost=lost, twice=twice, jitter=jitter)
    assert keys(listen(given_chunks, restarts=restarts)) == keys(listen(given_chunks))


@settings(deadline=None, max_examples=40)
@given(plan=PLANS)
def test_progress_never_passes_a_segment_that_is_still_to_come(plan: list[tuple[bool, int]]) -> None:
    worker, promised = Segmenter(SETTINGS, LeakyVad()), Micros(0)
    for offset, start, end, sound in chunks(talk(plan)):
        for segment in worker.push(sound, start=start, end=end, offset=offset, before=START):
            assert segment.start >= promised
        assert worker.progress is not None
        promised = max(promised, worker.progress)


def test_two_phrases_with_a_pause_are_two_segments() -> None:
    segments = listen(chunks(talk([(False, 40), (True, 40), (False, 60), (True, 30), (False, 90)])))
    assert len(segments) == 2
    assert abs(segments[0].start - T0 - 40 * 32_000) < 300_000


def test_endless_speech_is_cut_at_the_longest_segment() -> None:
    segments = listen(chunks(talk([(True, 400)])))
    assert len(segments) >= 4
    assert max(s.end - s.start for s in segments) <= SETTINGS.longest + 64_000


def test_silence_gives_nothing_and_the_checkpoint_moves() -> None:
    worker = Segmenter(SETTINGS, LeakyVad())
    given_chunks = chunks(talk([(False, 900)]))
    for offset, start, end, sound in given_chunks:
        assert not list(worker.push(sound, start=start, end=end, offset=offset, before=START))
    assert worker.position is not None
    assert worker.position.offset >= given_chunks[-4][0]


def test_a_gap_closes_the_open_segment() -> None:
    segments = listen(chunks(talk([(True, 90)]), lost=frozenset({1})))
    assert len(segments) == 2
    assert segments[0].end <= T0 + SECOND
    assert segments[1].start >= T0 + 2 * SECOND


def heard(**changes: object) -> Heard:
    base = {"text": "Help me", "confidence": 0.8, "language": "en", "no_speech": 0.05, "log_probability": -0.3, "compression_ratio": 1.0}
    return Heard(**(base | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given_words", "expected"),
    [
        (heard(), "spoken"),
        (heard(text=" ... "), "empty"),
        (heard(no_speech=0.9, log_probability=-0.8), "no_speech"),
        (heard(log_probability=-1.4), "low_confidence"),
        (heard(text="ha " * 40, compression_ratio=9.0), "repetitive"),
    ],
)
def test_words_that_whisper_made_up_are_not_believed(given_words: Heard, expected: str) -> None:
    assert verdict(given_words, TranscribeSettings()) == expected


class FragileVad(LeakyVad):
    """Cannot bear a step of equal samples, unless they are zero."""

    def probability(self, step: Sound) -> float:
        if step[0] and (step == step[0]).all():
            raise ZeroDivisionError
        return super().probability(step)


def test_a_detector_that_fails_costs_what_is_held_and_the_next_sound_is_heard() -> None:
    worker, segments = Segmenter(SETTINGS, FragileVad()), []
    for index, (offset, start, end, sound) in enumerate(chunks(talk([(True, 50), (False, 15), (True, 20), (False, 40)]))):
        if index == 1:
            with pytest.raises(ZeroDivisionError):
                segments += worker.push(np.full_like(sound, 0.25), start=start, end=end, offset=offset, before=START)
            assert (worker.holding, worker.next) == (False, offset + 1)
        else:
            segments += worker.push(sound, start=start, end=end, offset=offset, before=START)
    assert [abs(s.start - T0 - 65 * 32_000) < 300_000 for s in segments] == [True]
