"""What a scene of the benchmark is made of, as data: draw one, or a stream of hours. Composed from real recordings.

Laws:
1. The same split, seed and library give the same script. Media are not read.
2. Scenes go round the targets by their seed. What a split has no clip of is no target there.
3. A stream's segment depends on the split, the seed and its own number, never on the segments before it.

Sounds and pictures were never recorded together. Of the words there is no recording: a real voice that says something else may sound
while they are said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from models.evaluation.happenings import HARMLESS, Happening, Place, Words
from models.evaluation.library import HEARD, SPOKEN, Item, Library, Span
from models.recordings import Modality, Split

SCENE_S, SEGMENT_S = 12.0, 60.0
NEAR_S = 2.0
"""A person seen and glass heard this close to each other are an intrusion; glass without that is a breakage."""
TARGETS = ("person", *HEARD, *SPOKEN, "intrusion", "breakage", "quiet")
"""What a scene is about. `quiet`: only what must raise no alert."""
LEVEL_DB = (-48.0, -32.0)
"""Of the background: RMS against full scale."""
TIMES = {"gunshot": 3, "explosion": 2, "scream": 2}
"""How often what is short sounds in a scene: it would else be true in few windows."""
HOME = 0.7
"""How often a scene with somebody who walks has the empty place of that video as its background."""
BLOCK = 10
"""Segments of a stream with one background."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A scene. `target`: several are joined by "+". `lead`: the recording or template that it is about.

    `skip`: the second of the background's sound that it begins with. `start`: its second in a stream, 0 for a scene of its own.
    """

    split: Split
    seed: int
    target: str
    lead: str
    seconds: float
    sound: Item
    skip: float
    level_db: float
    picture: Item
    happenings: tuple[Happening, ...]
    words: tuple[Words, ...]
    start: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Background:
    sound: Item
    skip: float
    level_db: float
    picture: Item


def targets(library: Library) -> tuple[str, ...]:
    """Those that the library has clips for."""
    person = bool(library.clips("person", modality=Modality.FRAMES))
    glass = bool(library.clips("glass_break"))
    have = {"person": person, "intrusion": person and glass, "breakage": glass, "quiet": True} | dict.fromkeys(SPOKEN, True)
    return tuple(name for name in TARGETS if have.get(name, bool(library.clips(name))))


def draw(split: Split, seed: int, library: Library) -> Script:
    """A scene of 12 s. ValueError where the library is of another split."""
    rng = _rng(split, library, seed)
    choice = targets(library)
    place = Place(rng=rng, library=library, seconds=SCENE_S)
    target = choice[seed % len(choice)]
    _play(place, target)
    for _ in range(3 if target == "quiet" else int(rng.integers(1, 3))):
        place.distract()
    return _script(place, split, seed, target, _at_home(place, _background(rng, library)))


def stream(
    split: Split, seed: int, hours: float, library: Library, *, events_per_hour: float = 12.0, harmless_per_hour: float = 60.0
) -> Iterator[Script]:
    """Hours of one place as segments of a minute, drawn as they are asked for; their number is rounded up. Without events: negatives.

    Nothing crosses from one segment into the next; the background's sound goes on. ValueError on wrong settings.
    """
    if not 0 < hours < math.inf or not min(events_per_hour, harmless_per_hour) >= 0:
        raise ValueError(f"hours={hours} must be above 0, {events_per_hour} events and {harmless_per_hour} harmless an hour at least 0")
    for number in range(math.ceil(hours * 3600 / SEGMENT_S)):
        yield _segment(split, seed, number, library, events_per_hour, harmless_per_hour)


def _segment(split: Split, seed: int, number: int, library: Library, events_per_hour: float, harmless_per_hour: float) -> Script:
    rng = _rng(split, library, seed, 1, number)
    place = Place(rng=rng, library=library, seconds=SEGMENT_S)
    choice = [name for name in targets(library) if name != "quiet"]
    played = [choice[int(rng.integers(len(choice)))] for _ in range(rng.poisson(events_per_hour * SEGMENT_S / 3600))]
    for target in played:
        _play(place, target)
    for _ in range(rng.poisson(harmless_per_hour * SEGMENT_S / 3600)):
        place.distract()
    background = _background(_rng(split, library, seed, 2, number // BLOCK), library)
    return _script(place, split, seed, "+".join(played) or "quiet", background, start=number * SEGMENT_S)


def _play(place: Place, target: str) -> None:
    """The target. With most sounds and words nobody is seen, so that most events are in one modality."""
    if target == "quiet":
        return
    span = _main(place, target)
    company = place.rng.random()
    if span is None:
        return
    if target == "person" and company < 0.5:
        place.sound(*(name for name in HARMLESS if place.library.clips(name)), near=span)
    elif _seen(place.library) and target != "person":
        if target == "intrusion" or (target != "breakage" and company < 0.2):
            place.show("person", near=span)
        elif target == "breakage" and company < 0.3:
            _far(place, span)


def _main(place: Place, target: str) -> Span | None:
    if target in SPOKEN:
        return place.say(target)
    if target == "person":
        return place.show("person")
    if target == "intrusion":
        return place.sound("glass_break")
    return place.sound("glass_break" if target == "breakage" else target, times=TIMES.get(target, 1))


def _far(place: Place, glass: Span) -> None:
    """A person who has left, or has not yet come, when the glass breaks."""
    seen = place.show("person")
    if seen and seen[0] < glass[1] + NEAR_S and glass[0] < seen[1] + NEAR_S:
        place.happenings.pop()


def _seen(library: Library) -> bool:
    return bool(library.clips("person", modality=Modality.FRAMES))


def _script(place: Place, split: Split, seed: int, target: str, background: _Background, *, start: float = 0.0) -> Script:
    return Script(
        split=split,
        seed=seed,
        target=target,
        lead=place.lead or background.sound.recording,
        seconds=place.seconds,
        sound=background.sound,
        skip=background.skip,
        level_db=background.level_db,
        picture=background.picture,
        happenings=tuple(sorted(place.happenings, key=lambda one: one.start)),
        words=tuple(sorted(place.words, key=lambda one: one.start)),
        start=start,
    )


def _rng(split: Split, library: Library, *seed: int) -> np.random.Generator:
    if library.split is not split:
        raise ValueError(f"a {split} scene cannot be drawn from the {library.split} library")
    return np.random.default_rng([list(Split).index(split), *seed])


def _background(rng: np.random.Generator, library: Library) -> _Background:
    """A sound, its level, and a picture: most often a street."""
    streets = library.clips("street", modality=Modality.FRAMES)
    label = "street" if streets and rng.random() < 0.75 else "photo"
    picture = library.choose(rng, label, modality=Modality.FRAMES)
    sound = library.choose(rng, "ambient")
    skip = float(rng.uniform(0, sound.parts[0][1]))
    return _Background(sound=sound, skip=skip, level_db=float(rng.uniform(*LEVEL_DB)), picture=picture)


def _at_home(place: Place, background: _Background) -> _Background:
    """Most often a person walks where that video was taken, so that the place alone does not tell whether somebody is there."""
    shown = {one.item.recording for one in place.happenings if one.item.label == "person"}
    empty = [item for item in place.library.items if item.empty and item.recording in shown]
    return replace(background, picture=empty[0]) if empty and place.rng.random() < HOME else background
