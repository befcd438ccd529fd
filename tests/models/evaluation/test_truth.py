"""What counts where: by table for single events, by property over drawn scenes for joint ones."""

from __future__ import annotations

import pytest

from models.classes import LABELS
from models.evaluation.metrics import Bools
from models.evaluation.scripts import Script, draw
from models.evaluation.truth import NEAR_S, Event, Truth, events, label
from models.recordings import Split
from tests.models.evaluation.builders import heard, on_paper, said, script, seen

PERSON, GLASS, INTRUSION, BREAKAGE = (LABELS.index(name) for name in ("person", "glass_break", "intrusion", "breakage"))


def windows_of(truth: Truth, name: str) -> list[float]:
    return truth.start_B[truth.truth_BC[:, LABELS.index(name)]].tolist()


def starts(truth: Truth, flag_B: Bools) -> list[float]:
    return truth.start_B[flag_B].tolist()


@pytest.mark.parametrize(
    "span, windows",
    [
        ((3.5, 4.5), [2, 3, 4]),
        ((3.8, 4.8), [3, 4]),  # 0.2 s are left for the window that ends at 4
        ((3.7, 6.0), [2, 3, 4, 5]),
        ((3.8, 6.0), [3, 4, 5]),
        ((3.9, 4.1), [2, 3, 4]),  # half of it is enough
        ((3.8, 4.3), [3, 4]),
        ((4.0, 4.1), [3, 4]),
        ((0.0, 12.0), list(range(11))),
    ],
)
def test_an_event_counts_where_enough_of_it_is(span: tuple[float, float], windows: list[float]) -> None:
    assert windows_of(label([script(heard("siren", *span))]), "siren") == windows


def test_steps_that_follow_each_other_are_one_walk() -> None:
    steps = [heard("footsteps", at, at + 0.1) for at in (2.0, 2.5, 3.0, 5.0)]
    walk, single = events(script(*steps))
    assert (walk.start, walk.end) == (2.0, 3.1)
    assert (single.start, single.end) == (5.0, 5.1)


@pytest.mark.parametrize(
    "person, joint",
    [((4.0, 6.0), "intrusion"), ((1.0, 2.0), "intrusion"), ((0.5, 1.5), "breakage"), ((6.5, 8.0), "intrusion"), ((7.0, 8.0), "breakage")],
)
def test_glass_with_a_person_within_two_seconds_is_an_intrusion_and_else_a_breakage(person: tuple[float, float], joint: str) -> None:
    truth = label([script(heard("glass_break", 4.0, 4.5), seen("person", *person))])
    assert windows_of(truth, joint) == windows_of(truth, "glass_break") == [3, 4]
    assert windows_of(truth, "breakage" if joint == "intrusion" else "intrusion") == []


def obvious(scene: Script, start: float) -> set[str]:
    """Joint truth of one window, written out."""
    glass = [one for one in events(scene) if one.label == "glass_break" and one.counts((start, start + 2))]
    people = [one for one in events(scene) if one.label == "person"]
    close = [max(one.start - other.end, other.start - one.end) <= NEAR_S for one in glass for other in people]
    return ({"intrusion"} if any(close) else {"breakage"}) if glass else set()


@pytest.mark.parametrize("split", list(Split))
def test_joint_truth_follows_from_its_parts(split: Split) -> None:
    library = on_paper(split)
    scenes = [draw(split, seed, library) for seed in range(120)]
    truth = label(scenes)
    assert (truth.truth_BC[:, GLASS] == (truth.truth_BC[:, INTRUSION] ^ truth.truth_BC[:, BREAKAGE])).all()
    for row, at, start in zip(truth.truth_BC, truth.script_B, truth.start_B, strict=True):
        assert {LABELS[column] for column in (INTRUSION, BREAKAGE) if row[column]} == obvious(scenes[at], start)


def test_a_harmless_sound_conflicts_unless_what_it_resembles_is_true() -> None:
    alone = label([script(heard("door", 4.0, 5.0))])
    assert starts(alone, alone.conflict_B) == [3, 4]
    both = label([script(heard("door", 4.0, 5.0), heard("gunshot", 4.2, 4.7))])
    assert starts(both, both.conflict_B) == []
    other = label([script(heard("door", 4.0, 5.0), heard("siren", 4.0, 5.0))])
    assert starts(other, other.conflict_B) == [3, 4]


def test_a_person_seen_conflicts_with_any_harmless_sound_but_not_with_silence_or_an_event() -> None:
    alone, voice, shot = (
        label([script(seen("person", 4, 6), *more)]) for more in ((), (heard("speech", 4.0, 5.0),), (heard("gunshot", 4.0, 5.0),))
    )
    assert not alone.conflict_B.any() and not shot.conflict_B.any()
    assert starts(voice, voice.conflict_B) == [3, 4]
    assert not label([script(heard("speech", 4.0, 5.0))]).conflict_B.any()


def test_alarming_words_in_a_harmless_sense_conflict_and_count_as_no_class() -> None:
    truth = label([script(words=(said("neutral", (4.0, 6.0), alarming=True), said("neutral", (8.0, 9.0))))])
    assert starts(truth, truth.conflict_B) == [3, 4, 5]
    assert not truth.truth_BC.any()
    threat = label([script(words=(said("neutral", (4.0, 5.0), alarming=True), said("spoken_threat", (5.0, 6.0))))])
    assert windows_of(threat, "spoken_threat") == [4, 5]
    assert starts(threat, threat.conflict_B) == [3]


def test_single_says_that_all_events_of_a_window_are_in_one_modality() -> None:
    truth = label([script(seen("person", 2, 4), heard("scream", 4.0, 5.0), heard("door", 8.0, 9.0))])
    assert starts(truth, truth.single_B) == [1, 2, 4]
    assert windows_of(truth, "person") == [1, 2, 3] and windows_of(truth, "scream") == [3, 4]


def test_windows_know_their_scene_place_group_and_recordings() -> None:
    one = script(heard("siren", 1.0, 3.0), lead="b")
    other = script(seconds=4.0, lead="a", start=60.0)
    truth = label([one, other, one])
    assert truth.script_B.tolist() == [0] * 11 + [1] * 3 + [2] * 11
    assert truth.start_B[11:14].tolist() == [60, 61, 62]
    assert [truth.groups[at] for at in truth.group_B] == ["b"] * 11 + ["a"] * 3 + ["b"] * 11
    background = {"recording of ambient", "recording of street"}
    assert truth.recordings[0] == background | {"recording of siren"}
    assert truth.recordings[11] == background


def test_nothing_gives_an_empty_truth() -> None:
    assert label([]).truth_BC.shape == (0, len(LABELS))


def test_near_is_symmetric_and_bounded() -> None:
    one = Event(label="person", modality="frames", start=0, end=1, recordings=frozenset())
    for start, near in ((0.5, True), (3.0, True), (3.1, False)):
        other = Event(label="glass_break", modality="audio", start=start, end=start + 0.5, recordings=frozenset())
        assert one.near(other) is other.near(one) is near
