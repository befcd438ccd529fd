"""Libraries and scripts for tests of the benchmark, without media."""

from __future__ import annotations

from collections.abc import Iterator

from models.evaluation.happenings import Happening, Words
from models.evaluation.library import Item, Library, Sentence, Span, sentences
from models.evaluation.media import HEARD_LABELS, SEEN_LABELS
from models.evaluation.scripts import Script
from models.recordings import Modality, Split, manifest


def on_paper(split: Split) -> Library:
    """The manifest's clips of a split, as if each sounded throughout and was loudest at its beginning."""
    own = tuple(one for one in sentences() if one.split is split)
    return Library(split=split, items=tuple(_items(split)), sentences=own)


def _items(split: Split) -> Iterator[Item]:
    for package in manifest():
        for clip in package.clips:
            if clip.split is split and clip.label in (*HEARD_LABELS, *SEEN_LABELS):
                yield item(
                    clip.label,
                    name=f"{package.name}/{clip.path}",
                    recording=f"{package.name}/{clip.recording}",
                    modality=clip.modality,
                    split=split,
                    seconds=clip.seconds,
                )


def item(
    label: str,
    *,
    name: str = "",
    recording: str = "",
    modality: Modality = Modality.AUDIO,
    split: Split = Split.TRAIN,
    seconds: float = 1.0,
) -> Item:
    return Item(
        name=name or label,
        recording=recording or f"recording of {label}",
        label=label,
        modality=modality,
        split=split,
        parts=((0.0, seconds),),
        loud=(0.0, min(seconds, 0.5)),
    )


def heard(label: str, start: float, end: float, *, snr_db: float = 10.0) -> Happening:
    """A sound that counts from its start to its end."""
    return Happening(item=item(label), start=start, skip=0.0, seconds=end - start, counts=(start, end), snr_db=snr_db)


def seen(label: str, start: float, end: float) -> Happening:
    """A picture."""
    still = item(label, modality=Modality.FRAMES, seconds=0.0)
    return Happening(item=still, start=start, skip=0.0, seconds=end - start, counts=(start, end))


def said(label: str, span: Span, *, alarming: bool = False) -> Words:
    """A transcript."""
    sentence = Sentence(text="words", label=label, template=f"template of {label}", split=Split.TRAIN, alarming=alarming)
    return Words(sentence=sentence, start=span[0], end=span[1], confidence=0.9)


def script(*happenings: Happening, words: tuple[Words, ...] = (), seconds: float = 12.0, lead: str = "lead", start: float = 0.0) -> Script:
    """A scene in which that happens."""
    return Script(
        split=Split.TRAIN,
        seed=0,
        target="person",
        lead=lead,
        seconds=seconds,
        sound=item("ambient", seconds=3.0),
        skip=0.0,
        level_db=-40.0,
        picture=item("street", modality=Modality.FRAMES, seconds=0.0),
        happenings=happenings,
        words=words,
        start=start,
    )
