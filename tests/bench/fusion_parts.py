"""The parts of infer's compute, each on inputs that lie ready: bare forwards of the encoders' networks, and what lies around them.

This looks into private places of `models`: what is measured must be the very network that runs live, not one like it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch

from models import persons, quality, words, yamnet
from models.pictures import smaller
from models.profiles import Encoders
from models.tokens import windows_of
from models.verdict import judge
from streamer import engine as live
from streamer.stages.fuse import FuseInput

Work = Callable[[], object]
Batches = Sequence[tuple[str, Sequence[Any]]]
"""A modality, and the media that go through its encoder together."""


def forwards(encoders: Encoders, batches: Batches) -> list[tuple[str, Work]]:
    """The networks alone, batch by batch in the order in which infer runs them: each finds the caches as it would live."""
    make = {"frames": _detector, "audio": _yamnet, "transcripts": _minilm}
    return [one for modality, items in batches for one in make[modality](encoders, items)]


def parts(engine: live.FusionEngine, encoders: Encoders, batches: Batches, fused: Sequence[Sequence[FuseInput]]) -> dict[str, Work]:
    """What lies around the forwards, by name. `(of ...)`: counted there already."""
    of = {name: [items for modality, items in batches if modality == name] for name in ("frames", "audio", "transcripts")}
    pictures = [picture for batch in of["frames"] for picture in batch]
    small = [smaller(picture) for picture in pictures]
    texts = [group for batch in of["transcripts"] for group in _groups(batch)]
    return {
        "pictures made small": lambda: [smaller(picture) for picture in pictures],
        "quality of pictures": lambda: [quality.of_picture(*pair) for pair in zip(pictures, small, strict=True)],
        "tokens of words": lambda: [_tokens(encoders, group) for group in texts],
        **_sounds(encoders, of["audio"]),
        **_fusing(engine, fused),
    }


def _detector(encoders: Encoders, pictures: Sequence[Any]) -> Iterator[tuple[str, Work]]:
    session = encoders.images._session
    for picture in pictures:
        yield "bare: person detector", partial(session.run, persons.OUTPUTS, {persons.INPUT: smaller(picture)[None]})


def _yamnet(encoders: Encoders, sounds: Sequence[Any]) -> Iterator[tuple[str, Work]]:
    for sound_PS in _patches(encoders, sounds):
        yield "bare: YAMNet", partial(torch.inference_mode()(encoders.sounds._network), sound_PS)


def _minilm(encoders: Encoders, texts: Sequence[str]) -> Iterator[tuple[str, Work]]:
    for group in _groups(texts):
        yield "bare: MiniLM", partial(torch.inference_mode()(encoders.words._encoder._model), **_tokens(encoders, group))


def _patches(encoders: Encoders, sounds: Sequence[Any]) -> list[torch.Tensor]:
    """One for each forward."""
    most, flat = encoders.sounds._batch, [patch for sound in sounds for _, patch in yamnet.cut_of(sound)]
    return [torch.from_numpy(yamnet.padded(flat[at : at + most])) for at in range(0, len(flat), most)]


def _groups(texts: Sequence[str]) -> list[list[str]]:
    """One for each forward."""
    pieces = sorted((words.unpunctuated(piece) for text in texts for piece in words.pieces_of(text)), key=len)
    return [pieces[at : at + words.AT_ONCE] for at in range(0, len(pieces), words.AT_ONCE)]


def _tokens(encoders: Encoders, group: list[str]) -> Any:
    tokenizer = encoders.words._encoder._tokenizer
    return tokenizer(group, padding=True, truncation=True, max_length=words.MOST_TOKENS, return_tensors="pt")


def _sounds(encoders: Encoders, batches: Sequence[Sequence[Any]]) -> dict[str, Work]:
    log_mel, classes = torch.inference_mode()(encoders.sounds._network.log_mel), encoders.sounds._classes
    patches = [patch for batch in batches for sound in batch for _, patch in yamnet.cut_of(sound)]
    ready = [sound_PS for batch in batches for sound_PS in _patches(encoders, batch)]
    posteriors = [one_L for batch in batches for heard in encoders.sounds(batch) for one_L in heard.posteriors_PL]
    return {
        "log-mel (of YAMNet's forward)": lambda: [log_mel(sound_PS) for sound_PS in ready],
        "quality of sounds": lambda: [quality.of_sound(patch) for patch in patches],
        "labels of sounds": lambda: [(classes.chances(one_L), classes.top(one_L)) for one_L in posteriors],
    }


def _fusing(engine: live.FusionEngine, fused: Sequence[Sequence[FuseInput]]) -> dict[str, Work]:
    cases = [[live._case(one) for one in group] for group in fused]
    ready = [windows_of([case.gathered for case in group]) for group in cases]
    judged = [judge(engine._head, batch) for batch in ready]
    return {
        "tokens of windows": lambda: [live._case(one) for group in fused for one in group],
        "windows as one batch": lambda: [windows_of([case.gathered for case in group]) for group in cases],
        "head with Shapley": lambda: [judge(engine._head, batch) for batch in ready],
        "explanations": lambda: [engine._explained(*each) for each in zip(cases, ready, judged, strict=True)],
        "evidence": lambda: [live._evidence(one) for group in fused for one in group],
    }
