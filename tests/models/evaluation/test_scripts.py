"""The laws of scripts, over many seeds, on the manifest's own clips: no media are read."""

from __future__ import annotations

import re
import tomllib
from collections import Counter, defaultdict
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest

from models.classes import CLASSES, LABELS
from models.evaluation.happenings import FRAME_S, SNR_DB, VOICE_DB
from models.evaluation.library import SPOKEN, Library, Span, sentences
from models.evaluation.scripts import SCENE_S, SEGMENT_S, TARGETS, Script, draw, stream, targets
from models.evaluation.truth import label
from models.recordings import Modality, Split, manifest
from tests.models.evaluation.builders import on_paper

SCENES = 300
PROTOTYPES = Path(__file__).parents[3] / "models" / "prototypes.toml"


@pytest.fixture(scope="module", params=list(Split))
def library(request: pytest.FixtureRequest) -> Library:
    return on_paper(request.param)


@pytest.fixture(scope="module")
def scenes(library: Library) -> list[Script]:
    return [draw(library.split, seed, library) for seed in range(SCENES)]


def test_the_same_seed_gives_the_same_script_and_another_seed_another(library: Library, scenes: list[Script]) -> None:
    assert scenes[:20] == [draw(library.split, seed, on_paper(library.split)) for seed in range(20)]
    assert len(set(scenes)) == SCENES


def test_no_clip_and_no_sentence_is_of_another_split(library: Library, scenes: list[Script]) -> None:
    splits = {f"{package.name}/{clip.path}": clip.split for package in manifest() for clip in package.clips}
    used = [item for scene in scenes for item in (scene.sound, scene.picture, *(one.item for one in scene.happenings))]
    assert {splits[item.name] for item in used} == {library.split}
    assert {one.sentence.split for scene in scenes for one in scene.words} == {library.split}


def test_a_library_refuses_what_is_of_another_split() -> None:
    train, other = on_paper(Split.TRAIN), on_paper(Split.TEST)
    with pytest.raises(ValueError, match="not of train"):
        Library(split=Split.TRAIN, items=(*train.items, other.items[0]), sentences=train.sentences)
    with pytest.raises(ValueError, match="test scene cannot be drawn from the train"):
        draw(Split.TEST, 0, train)


def test_no_recording_is_in_two_splits() -> None:
    where = defaultdict(set)
    for split in Split:
        for one in on_paper(split).items:
            where[one.recording].add(split)
    assert {name for name, splits in where.items() if len(splits) > 1} == set()


def overlaps(spans: list[Span]) -> list[tuple[Span, Span]]:
    return [(one, other) for one, other in pairwise(sorted(spans)) if other[0] < one[1] - 1e-6]


def test_nothing_overlaps_another_of_its_kind_and_all_ends_within_the_scene(scenes: list[Script]) -> None:
    for scene in scenes:
        for modality in Modality:
            spans = [(one.start, one.end) for one in scene.happenings if one.item.modality is modality]
            assert overlaps(spans) == []
            assert all(0 <= start < end <= SCENE_S + 1e-6 for start, end in spans)
        assert overlaps([(one.start, one.end) for one in scene.words]) == []
        assert all(0 <= one.start < one.end <= SCENE_S + 1e-6 and 0 <= one.confidence <= 1 for one in scene.words)


def test_what_counts_is_within_what_sounds_and_loudness_tells_nothing(scenes: list[Script]) -> None:
    for one in (one for scene in scenes for one in scene.happenings):
        assert one.start - 1e-6 <= one.counts[0] < one.counts[1] <= one.end + 1e-6
        assert one.item.parts[0][0] <= one.skip
        if one.item.modality is Modality.AUDIO:
            assert one.skip + one.seconds <= one.item.parts[0][1] + 1e-6
            assert SNR_DB[0] <= one.snr_db <= SNR_DB[1]
            assert one.item.label != "speech" or one.snr_db <= VOICE_DB[1]


def test_pictures_change_on_the_grid_of_the_frames(scenes: list[Script]) -> None:
    shown = [one for scene in scenes for one in scene.happenings if one.item.modality is Modality.FRAMES]
    assert shown
    assert all(value % FRAME_S == 0 for one in shown for value in (one.start, one.seconds))


def test_scenes_go_round_the_targets(library: Library, scenes: list[Script]) -> None:
    counts = Counter(scene.target for scene in scenes)
    assert set(counts) == set(targets(library))
    assert max(counts.values()) - min(counts.values()) <= 1


def test_only_calibration_lacks_a_person_and_with_it_intrusion() -> None:
    lacks = {split: set(TARGETS) - set(targets(on_paper(split))) for split in Split}
    assert lacks == {split: {"person", "intrusion"} if split is Split.CALIBRATION else set() for split in Split}


def test_every_class_that_the_split_has_is_true_somewhere(library: Library, scenes: list[Script]) -> None:
    truth_C = label(scenes).truth_BC.any(0)
    expected = set(LABELS) - (set() if "person" in targets(library) else {"person", "intrusion"})
    assert {name for name, found in zip(LABELS, truth_C, strict=True) if found} == expected


def test_a_fifth_of_the_windows_conflict_and_half_of_the_events_are_in_one_modality(scenes: list[Script]) -> None:
    truth = label(scenes)
    positive_B = truth.truth_BC.any(1)
    assert 0.20 <= truth.conflict_B.mean() <= 0.55
    assert truth.single_B[positive_B].mean() >= 0.50
    assert 0.25 <= positive_B.mean() <= 0.60
    assert truth.single_B[~positive_B].sum() == 0


def test_hard_negatives_and_alarming_words_occur(scenes: list[Script]) -> None:
    heard = {one.item.label for scene in scenes for one in scene.happenings}
    assert {"door", "fire", "laugh", "thunder", "speech", "photo"} <= heard
    assert any(one.sentence.alarming for scene in scenes for one in scene.words)
    assert any(scene.target == "quiet" for scene in scenes)
    quiet = label([scene for scene in scenes if scene.target == "quiet"])
    assert not quiet.truth_BC.any()


def test_a_stream_is_drawn_as_it_is_asked_for_and_each_segment_stands_alone() -> None:
    library = on_paper(Split.TEST)
    first = list(islice(stream(Split.TEST, 3, 1e6, library), 30))
    assert first[:12] == list(stream(Split.TEST, 3, 0.2, library))
    assert [one.start for one in first] == [SEGMENT_S * number for number in range(30)]
    assert len({(one.sound, one.skip, one.level_db, one.picture) for one in first}) <= 3
    assert first != list(islice(stream(Split.TEST, 4, 1e6, library), 30))


def test_events_in_a_stream_are_rare_and_without_them_it_is_all_negative() -> None:
    library = on_paper(Split.TEST)
    hour = list(stream(Split.TEST, 1, 2, library, events_per_hour=12))
    assert 10 <= sum(one.target != "quiet" for one in hour) <= 40
    assert 0 < label(hour).truth_BC.any(1).mean() < 0.05
    negatives = label(stream(Split.TEST, 1, 2, library, events_per_hour=0))
    assert not negatives.truth_BC.any()
    assert negatives.conflict_B.any()


@pytest.mark.parametrize("hours, events", [(0, 1), (-1, 1), (np.inf, 1), (np.nan, 1), (1, -1)])
def test_a_stream_refuses_what_makes_no_sense(hours: float, events: float) -> None:
    with pytest.raises(ValueError, match="hours="):
        next(stream(Split.TEST, 1, hours, on_paper(Split.TEST), events_per_hour=events))


def plain(text: str) -> str:
    return " ".join(re.findall(r"[a-z']+", text.casefold()))


def test_there_are_sixty_sentences_of_each_class_none_twice_and_none_a_prototype() -> None:
    every = sentences()
    prototypes = {plain(text) for texts in tomllib.loads(PROTOTYPES.read_text("utf-8")).values() for text in texts}
    assert min(Counter(one.label for one in every).values()) >= 60
    assert {one.label for one in every} == {*SPOKEN, "neutral"}
    assert set(SPOKEN) <= set(CLASSES)
    assert len({plain(one.text) for one in every}) == len(every)
    assert {plain(one.text) for one in every} & prototypes == set()


def test_no_template_is_in_two_splits() -> None:
    where = defaultdict(set)
    for one in sentences():
        where[one.template].add(one.split)
    assert max(len(splits) for splits in where.values()) == 1
    assert {split for splits in where.values() for split in splits} == set(Split)
