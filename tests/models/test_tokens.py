"""models/tokens.py: who is in a window, what stands in a token, what is left out; the engine and the aligner decide what is right."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.classes import CLASSES
from models.features import Heard, Patch, Said, Seen
from models.fusion.methods import METHODS
from models.fusion.windows import MODALITIES, Stream
from models.quality import PICTURE, SOUND, of_words
from models.tokens import (
    AUDIO_WIDTH,
    BOXES,
    CHANCES,
    FRAME_WIDTH,
    MOST,
    SENTENCE,
    SURE,
    WORDS_WIDTH,
    Event,
    Gathered,
    Token,
    chosen,
    gather,
    log_odds,
    widths,
    windows_of,
)
from models.yamnet import LABELS, PATCH_SAMPLES, SAMPLE_RATE, WIDTH, patch_starts
from streamer.engine import _within
from streamer.events import SECOND, Micros, Modality
from streamer.stages.align.windows import Grid
from tests.builders import a_ref, a_window

GRID = Grid(length=2 * SECOND, hop=SECOND)
LAST = 10 * SECOND
times = st.integers(0, LAST) | st.sampled_from(range(0, LAST + 1, SECOND)) | st.sampled_from(range(0, LAST + 1, 80_000))


def seen(chance: float = 0.5, boxes: int = 0, quality: float = 0.5) -> Seen:
    boxes_N5 = np.array([[0.1, 0.2, 0.3, 0.6, 0.9 - at / 50] for at in range(boxes)], np.float32).reshape(-1, 5)
    return Seen(chances={"person": chance}, boxes_N5=boxes_N5, quality_Q=np.full(len(PICTURE), quality, np.float32))


def heard(seconds: float = 1.0, *, chances: tuple[float, ...] = (), width: int = WIDTH, labels: int = LABELS) -> Heard:
    """Patch number p has the embedding p, the posterior (p + 1) / 10 of every label, and the quality p / 10."""
    samples = round(seconds * SAMPLE_RATE)
    starts = patch_starts(samples)
    patches = tuple(
        Patch(
            start_s=start / SAMPLE_RATE,
            end_s=min(start + PATCH_SAMPLES, samples) / SAMPLE_RATE,
            chances={"siren": chances[at] if chances else 0.1, "gunshot": 0.01},
            labels=(),
        )
        for at, start in enumerate(starts)
    )
    rows = np.arange(len(starts), dtype=np.float32)[:, None]
    return Heard(
        patches=patches,
        posteriors_PL=np.tile((rows + 1) / 10, (1, labels)),
        embeddings_PD=np.tile(rows, (1, width)),
        quality_PQ=np.tile(rows / 10, (1, len(SOUND))),
    )


def said(threat: float = 0.5, cry: float = 0.25, *, width: int = SENTENCE) -> Said:
    embedding_D = np.full(width, 0.05, np.float32)
    return Said(chances={"call_for_help": cry, "spoken_threat": threat}, similarity=0.75, embedding_D=embedding_D)


def event(start: int, features: Seen | Heard | Said, end: int = 0) -> Event:
    return Event(start=start, end=max(start, end), features=features)


@given(times)
def test_a_picture_is_in_the_windows_that_the_aligner_puts_it_in(at: int) -> None:
    found = [start for start in range(-2 * SECOND, LAST + SECOND, SECOND) if gather(start, start + 2 * SECOND, [event(at, seen())]).frames]
    assert found == list(GRID.starts(at, at))


@given(times, st.integers(0, 3 * SECOND))
def test_a_transcript_is_in_the_windows_that_the_aligner_puts_it_in(start: int, length: int) -> None:
    one = event(start, said(), start + length)
    found = [at for at in range(-2 * SECOND, LAST + 4 * SECOND, SECOND) if gather(at, at + 2 * SECOND, [one]).transcripts]
    assert found == list(GRID.starts(start, start + length))


@given(times, st.floats(0.01, 5.0))
def test_a_patch_is_in_the_windows_that_the_engine_puts_it_in(start: int, seconds: float) -> None:
    chunk = heard(seconds)
    ref = replace(a_ref(Modality.AUDIO, 0), start=Micros(start), end=Micros(start + round(seconds * SECOND)))
    for at in GRID.starts(start, ref.end):
        window = replace(a_window(manifest=(ref,)), start=Micros(at), end=Micros(at + 2 * SECOND))
        live = [number for number, patch in enumerate(chunk.patches) if patch in list(_within(window, ref, chunk))]
        tokens = gather(at, at + 2 * SECOND, [event(start, chunk, ref.end)]).audio
        assert [token.values_D[CHANCES] for token in tokens] == live[: MOST["audio"]]


def token(at: int, chance: float, value: float = 0.0) -> Token:
    return Token(at=at, chance=chance, values_D=np.array([value], np.float32), quality_Q=np.zeros(1, np.float32))


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.1, 0.5, 0.9]), st.integers(0, 3)), max_size=12), st.randoms())
def test_the_most_probable_stay_the_earliest_of_equals_in_the_order_of_time(
    drawn: list[tuple[int, float, int]], rng: random.Random
) -> None:
    tokens = [token(*one) for one in drawn]
    kept = [(one.at, one.chance, float(one.values_D[0])) for one in chosen(tokens, 4)]
    assert [at for at, _, _ in kept] == sorted(at for at, _, _ in kept)
    best = sorted((-chance, at) for at, chance, _ in drawn)[:4]
    assert sorted((-chance, at) for at, chance, _ in kept) == best
    rng.shuffle(tokens)
    assert [(one.at, one.chance, float(one.values_D[0])) for one in chosen(tokens, 4)] == kept


@pytest.mark.parametrize("name", MODALITIES)
def test_a_window_holds_no_more_tokens_than_most_and_an_alarm_among_many_stays(name: str) -> None:
    many: dict[str, list[Event]] = {
        "frames": [event(at, seen(0.99 if at == 30 else 0.1)) for at in range(50)],
        "audio": [event(at, heard(chances=(0.99 if at == 30 else 0.1,))) for at in range(50)],
        "transcripts": [event(at, said(0.99 if at == 30 else 0.1), SECOND) for at in range(50)],
    }
    tokens = getattr(gather(0, 2 * SECOND, many[name]), name)
    assert len(tokens) == MOST[name] and max(one.chance for one in tokens) == 0.99


@pytest.mark.parametrize("boxes", [0, 3, 20])
def test_a_picture_is_how_many_boxes_their_area_and_the_best_eight(boxes: int) -> None:
    picture = seen(0.9, boxes)
    (one,) = gather(0, 1, [event(0, picture)]).frames
    kept = min(boxes, BOXES)
    assert one.values_D.shape == (FRAME_WIDTH,) and one.values_D.dtype == np.float32
    rest_D = one.values_D[CHANCES:]
    np.testing.assert_allclose(rest_D[:2], [np.log(1 + boxes), min(boxes * 0.08, 1.0)], rtol=1e-4)
    np.testing.assert_array_equal(rest_D[2 : 2 + 5 * kept], picture.boxes_N5[:kept].ravel())
    assert not rest_D[2 + 5 * kept :].any()


def test_a_patch_is_its_embedding_and_the_log_odds_of_its_posteriors() -> None:
    first, second = gather(0, 2 * SECOND, [event(0, heard(1.5))]).audio
    assert first.values_D.shape == second.values_D.shape == (AUDIO_WIDTH,)
    assert set(second.values_D[CHANCES : CHANCES + WIDTH]) == {1.0}
    np.testing.assert_allclose(second.values_D[CHANCES + WIDTH :], np.log(0.2 / 0.8), rtol=1e-5)
    np.testing.assert_allclose(second.quality_Q, 0.1)


def test_a_transcript_is_its_embedding_and_how_near_it_is_its_confidence_is_quality() -> None:
    one = Event(start=0, end=1, features=said(), text="help me", confidence=0.25)
    (found,) = gather(0, 1, [one]).transcripts
    assert found.values_D.shape == (WORDS_WIDTH,) and set(found.values_D[CHANCES:-1]) == {np.float32(0.05)}
    assert found.values_D[-1] == 0.75
    np.testing.assert_array_equal(found.quality_Q, of_words("help me", 0.25))


@pytest.mark.parametrize(
    ("features", "chances"),
    [
        (seen(0.9), {"person": 0.9}),
        (heard(chances=(0.8,)), {"siren": 0.8, "gunshot": 0.01}),
        (said(0.6, 0.3), {"spoken_threat": 0.6, "call_for_help": 0.3}),
        (said(1.0, 0.0), {"spoken_threat": 1 - SURE, "call_for_help": SURE}),
    ],
)
def test_a_token_begins_with_its_chances_and_zeros_where_it_cannot_speak(features: Seen | Heard | Said, chances: dict[str, float]) -> None:
    gathered = gather(0, 2 * SECOND, [event(0, features)])
    ((one,),) = [tokens for tokens in (gathered.frames, gathered.audio, gathered.transcripts) if tokens]
    wanted = [np.log(chances[name] / (1 - chances[name])) if name in chances else 0.0 for name in CLASSES]
    np.testing.assert_allclose(one.values_D[:CHANCES], wanted, rtol=1e-4)


@given(st.lists(st.floats(0, 1), min_size=2))
def test_log_odds_are_bounded_and_keep_the_order(chances: list[float]) -> None:
    found = log_odds(np.array(sorted(chances), np.float32))
    assert np.abs(found).max() <= np.float32(np.log((1 - SURE) / SURE)) + 1e-3
    assert (np.diff(found) >= 0).all()


def test_log_odds_are_those_of_clipped_chances() -> None:
    chances = np.array([0.0, 1e-9, 1e-4, 0.3, 0.5, 0.9999, 1.0, 2.0, -1.0, np.inf, np.nan])
    clipped = np.clip(chances, 1e-4, 1 - 1e-4)
    np.testing.assert_array_equal(log_odds(chances), np.log(clipped / (1 - clipped)).astype(np.float32))


def test_a_narrow_encoder_leaves_zeros_and_a_wide_one_is_refused() -> None:
    (one,) = gather(0, SECOND, [event(0, heard(width=4, labels=3))]).audio
    assert np.flatnonzero(one.values_D[CHANCES:]).tolist() == [WIDTH, WIDTH + 1, WIDTH + 2]
    for wide in (heard(width=WIDTH + 1), heard(labels=LABELS + 1)):
        with pytest.raises(ValueError, match="have no place"):
            gather(0, SECOND, [event(0, wide)])
    with pytest.raises(ValueError, match="have no place"):
        gather(0, SECOND, [event(0, said(width=SENTENCE + 1))])


def scene() -> list[Event]:
    pictures = [event(at * SECOND // 2, seen(at / 20, at % 4, at / 20)) for at in range(8)]
    return [*pictures, *(event(at * SECOND, heard()) for at in range(4)), event(SECOND, said(), 2 * SECOND)]


def of_scene() -> list[Gathered]:
    return [gather(at * SECOND, (at + 2) * SECOND, scene()) for at in (-5, -1, 0, 1, 2, 3)]


def test_quality_is_the_mean_over_the_tokens_and_what_is_absent_is_zeros() -> None:
    found = windows_of(of_scene())
    assert found.present_BM.tolist() == [[False] * 3, [True, True, False], [True] * 3, [True] * 3, [True, True, False], [True, True, False]]
    np.testing.assert_allclose(found.frames.quality_BQ[2], np.mean([0, 1, 2, 3]) / 20, rtol=1e-6)
    for _, stream in found.streams():
        assert not stream.quality_BQ[~stream.present_B].any() and not stream.tokens_BTD[~stream.mask_BT].any()


def test_a_window_is_the_same_alone_and_in_a_batch() -> None:
    gathered = of_scene()
    together = windows_of(gathered)
    for row, window in enumerate(gathered):
        for (_, alone), (_, batch) in zip(windows_of([window]).streams(), together.streams(), strict=True):
            length = alone.mask_BT.shape[1]
            assert torch.equal(alone.tokens_BTD[0], batch.tokens_BTD[row, :length]) and not batch.mask_BT[row, length:].any()
            assert torch.equal(alone.mask_BT[0], batch.mask_BT[row, :length]) and torch.equal(alone.quality_BQ[0], batch.quality_BQ[row])


def test_the_order_in_which_events_come_changes_nothing() -> None:
    events = [*scene(), event(0, seen(0.3, 2)), event(0, seen(0.3, 1))]
    before = windows_of([gather(0, 2 * SECOND, events)])
    random.Random(0).shuffle(events)
    after = windows_of([gather(0, 2 * SECOND, events)])
    for (_, one), (_, other) in zip(before.streams(), after.streams(), strict=True):
        assert torch.equal(one.tokens_BTD, other.tokens_BTD) and torch.equal(one.quality_BQ, other.quality_BQ)


def test_a_token_knows_which_event_and_patch_it_is_of() -> None:
    late, words, chunk, early = event(SECOND, seen(0.7)), event(0, said(), SECOND), event(0, heard(2.0)), event(0, seen(0.3))
    found = gather(0, 2 * SECOND, [late, words, chunk, early])
    assert [(one.event, one.patch) for one in found.frames] == [(3, 0), (0, 0)]
    assert [(one.event, one.patch) for one in found.audio] == [(2, number) for number in range(len(patch_starts(2 * SAMPLE_RATE)))]
    assert [(one.event, one.patch) for one in found.transcripts] == [(1, 0)]


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0.1, 0.9]), st.integers(0, 9), st.integers(0, 9)), max_size=9))
def test_where_a_token_is_of_decides_nothing(drawn: list[tuple[int, float, int, int]]) -> None:
    known = [replace(token(at, chance, float(at)), event=event, patch=patch) for at, chance, event, patch in drawn]
    unknown = [token(at, chance, float(at)) for at, chance, _, _ in drawn]
    assert [(one.at, one.chance) for one in chosen(known, 4)] == [(one.at, one.chance) for one in chosen(unknown, 4)]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_that_is_built_for_these_widths_reads_these_windows(name: str) -> None:
    built = widths(len(CLASSES), model=16)
    found = windows_of(of_scene())
    logits_BC = METHODS[name](built)(found)
    assert logits_BC.shape == (6, len(CLASSES)) and logits_BC.isfinite().all()
    stream: Stream
    for key, stream in found.streams():
        assert (stream.tokens_BTD.shape[2], stream.quality_BQ.shape[1]) == (built.tokens[key], built.quality[key])


def test_no_windows_are_a_batch_of_none() -> None:
    assert windows_of([]).present_BM.shape == (0, 3)
    assert windows_of([Gathered()]).frames.tokens_BTD.shape == (1, 1, FRAME_WIDTH)
