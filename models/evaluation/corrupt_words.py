"""What a recognizer makes of words: errors at a rate, and texts where nobody speaks.

Laws:
1. Of many words, the share that is wrong is the word error rate asked for: substituted (3 of 5), left out (1 of 4) or inserted after.
2. With the same random numbers, a higher rate errs wherever a lower one does, and in the same way.
3. A word is taken for one of its group in corruptions.toml, or, where it has none, for itself with a letter or two confused.
4. Confidence falls half with the rate and half with the errors of the text itself: no recognizer knows quite where it is wrong.
5. Nothing is invented while somebody speaks, by the script. An invented text is as confident as they are: neither sure nor unsure.
6. The test's invented sentences, and its pairs of words, are none of the training's.

That recognizers invent, and that of what Whisper invents 38 % is harmful in some way: Koenecke et al., "Careless Whisper",
arXiv:2402.08021. How many of a scene's invented texts alarm, and all confidences: by judgement.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models.evaluation.happenings import Words
from models.evaluation.library import SPOKEN, Sentence, Span
from models.evaluation.scripts import Script
from models.recordings import Modality

SUBSTITUTED, LEFT_OUT = 0.6, 0.25
"""Shares of the errors; the others are insertions."""
LEAST_CONFIDENCE = 0.05
INVENTED_EVERY_S = 6.0
ALARMING_SHARE = 0.3
CONFIDENCE = (0.35, 0.7)
CONFUSED = ("bp", "dt", "gk", "fv", "mn", "sz", "lr", "ae", "ei", "ou", "uo", "ck", "wv")
"""Letters that are taken for each other."""
_TABLE = Path(__file__).with_name("corruptions.toml")
_EDGES = ' .,;:!?"()'
_TRIES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognizer:
    """How one errs. `alike`: a word, in small letters, and what it is taken for. `plain` and `alarming`: what it invents, by family."""

    alike: Mapping[str, tuple[str, ...]]
    inserted: tuple[str, ...]
    plain: Mapping[str, tuple[str, ...]]
    alarming: Mapping[str, tuple[str, ...]]

    @classmethod
    def load(cls, name: str, path: Path = _TABLE) -> Recognizer:
        """`test` or `train`."""
        raw = tomllib.loads(path.read_text("utf-8"))
        invented = {tone: {family: tuple(texts) for family, texts in raw["invented"][name][tone].items()} for tone in ("plain", "alarming")}
        return cls(alike=_neighbours(raw["alike"][name]), inserted=tuple(raw["inserted"][name]), **invented)


def _neighbours(groups: Iterable[Sequence[str]]) -> dict[str, tuple[str, ...]]:
    found: dict[str, dict[str, None]] = {}
    for group in groups:
        for word in group:
            found.setdefault(word, {}).update((one, None) for one in group if one != word)
    return {word: tuple(others) for word, others in found.items()}


def misheard(rng: np.random.Generator, words: Sequence[Words], rate: float, recognizer: Recognizer) -> tuple[Words, ...]:
    """Each text with its errors, less sure. What loses its last word is gone."""
    heard: list[Words] = []
    for one in words:
        text = erred(rng, one.sentence.text, rate, recognizer)
        wrong = min(1.0, edits(one.sentence.text, text) / max(1, len(plain_words(one.sentence.text))))
        confidence = max(LEAST_CONFIDENCE, one.confidence * (1 - rate / 2) * (1 - wrong / 2))
        if text:
            heard.append(replace(one, sentence=replace(one.sentence, text=text), confidence=confidence))
    return tuple(heard)


def erred(rng: np.random.Generator, text: str, rate: float, recognizer: Recognizer) -> str:
    """The text with errors at this rate of its words."""
    said = text.split()
    heard: list[str] = []
    for word, (chance, kind, choice) in zip(said, rng.random((len(said), 3)), strict=True):
        if chance >= rate:
            heard.append(word)
        elif kind < SUBSTITUTED:
            heard.append(_substitute(word, choice, recognizer))
        elif kind >= SUBSTITUTED + LEFT_OUT:
            heard += [word, recognizer.inserted[int(choice * len(recognizer.inserted))]]
    return " ".join(heard)


def _substitute(word: str, choice: float, recognizer: Recognizer) -> str:
    core = word.strip(_EDGES)
    others = recognizer.alike.get(core.lower(), ()) or tuple(letters_confused(core.lower()))
    return word.replace(core, others[int(choice * len(others))], 1) if core else word


def letters_confused(word: str) -> Iterator[str]:
    """The word with one letter taken for another, at each place where that may be; with an s where there is none, or without its own."""
    for at, letter in enumerate(word):
        for pair in CONFUSED:
            if letter in pair:
                yield word[:at] + pair[1 - pair.index(letter)] + word[at + 1 :]
    yield word[:-1] if word.endswith("s") and len(word) > 1 else f"{word}s"


def plain_words(text: str) -> list[str]:
    """Small, without the marks around them: what counts as the same word."""
    return [core for word in text.lower().split() if (core := word.strip(_EDGES))]


def edits(said: str, heard: str) -> int:
    """The fewest words to substitute, insert or leave out, from one to the other (Levenshtein)."""
    reference, hypothesis = plain_words(said), plain_words(heard)
    row = list(range(len(hypothesis) + 1))
    for at, word in enumerate(reference, start=1):
        last, row[0] = row[0], at
        for to, other in enumerate(hypothesis, start=1):
            last, row[to] = row[to], min(row[to] + 1, row[to - 1] + 1, last + (word != other))
    return row[-1]


def word_error_rate(pairs: Iterable[tuple[str, str]]) -> float:
    """Edits over words, of all (said, heard) together. ValueError where no word was said."""
    counted = [(edits(said, heard), len(plain_words(said))) for said, heard in pairs]
    if not (total := sum(words for _, words in counted)):
        raise ValueError("the word error rate of no words is undefined")
    return sum(wrong for wrong, _ in counted) / total


def invented(rng: np.random.Generator, words: Sequence[Words], script: Script, recognizer: Recognizer) -> tuple[Words, ...]:
    """With a text every six seconds that nobody said, by start. Where speech leaves little room there are fewer,
    and shorter ones: in such a scene hardly any of them alarms, for those are long.
    """
    placed, speech = list(words), spoken(script)
    for _ in range(max(1, round(script.seconds / INVENTED_EVERY_S))):
        alarming = bool(rng.random() < ALARMING_SHARE)
        tone = recognizer.alarming if alarming else recognizer.plain
        for _ in range(_TRIES):
            family, text = _drawn(rng, tone)
            seconds = 0.4 + 0.3 * len(text.split())
            start = round(float(rng.uniform(0, max(0.0, script.seconds - seconds))), 2)
            confidence = float(rng.uniform(*CONFIDENCE))
            if start + seconds <= script.seconds and _free((start, start + seconds), [*speech, *((one.start, one.end) for one in placed)]):
                sentence = Sentence(text=text, label="neutral", template=f"invented/{family}", split=script.split, alarming=alarming)
                placed.append(Words(sentence=sentence, start=start, end=start + seconds, confidence=confidence))
                break
    return tuple(sorted(placed, key=lambda one: one.start))


def spoken(script: Script) -> list[Span]:
    """When somebody speaks: words, and voices without words of theirs."""
    voices = [one for one in script.happenings if one.item.modality is Modality.AUDIO and one.item.label in ("speech", *SPOKEN)]
    return [*((one.start, one.end) for one in script.words), *((one.start, one.end) for one in voices)]


def _drawn(rng: np.random.Generator, tone: Mapping[str, tuple[str, ...]]) -> tuple[str, str]:
    """A family, then a text of it."""
    family = tuple(tone)[int(rng.integers(len(tone)))]
    return family, tone[family][int(rng.integers(len(tone[family])))]


def _free(span: Span, taken: Iterable[Span]) -> bool:
    return all(span[0] >= end or span[1] <= begin for begin, end in taken)


def moved(words: Sequence[Words], seconds: float, whole: float) -> tuple[Words, ...]:
    """Later by so many seconds, earlier where below 0. What has its middle outside the scene is lost, the others stay whole within it."""
    later = [replace(one, start=max(0.0, one.start + seconds), end=min(whole, one.end + seconds)) for one in words]
    return tuple(new for new, one in zip(later, words, strict=True) if 0 <= (one.start + one.end) / 2 + seconds < whole)
