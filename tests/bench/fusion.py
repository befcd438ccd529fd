"""`make bench NAME=fusion`: overlapping windows through infer's compute, against three plain pipelines run anew for each window.

Sessions play stretches of the demo's scene (real pictures, real sound, words as given), in windows of 2 s every second. Ours: each event
goes once through its encoder, in the batches that infer makes, and windows that close at one instant through the head together. Plain:
for each window its pictures, chunks and words one at a time, then the head alone, in 8 forwards of one row, and where a class is
likely one more that says why. Media are decoded before;
one thread does everything; runs alternate. Processor time counts, for others use the machine too. What of ours is not a bare forward of
an encoder's network, on tensors that lie ready, is told part by part.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from math import factorial
from typing import Any

import cv2
import torch

from models import profiles
from models.account import Case, of_batch
from models.fusion.windows import MODALITIES
from models.head import FusionHead
from models.paragraph import paragraph
from models.profiles import Encoders
from models.tokens import Event, gather, windows_of
from models.verdict import Verdict
from streamer import ids
from streamer.cli import home
from streamer.config import InferSettings, SourceSettings
from streamer.engine import EXPLAINED, MOST_EXPLAINED, FusionEngine, open_engine
from streamer.events import SECOND, ClosedBy, EventRef, Micros, Modality, Origin, Pace, SessionId, Window, Words
from streamer.sources.scene import SceneSource
from streamer.stages.encode import Batched, Batcher
from streamer.stages.fuse import Engine, Features, FuseInput, Judgement
from streamer.stages.ingest import Pcm, Picture, due
from tests.bench.fusion_parts import forwards, parts
from tests.bench.report import report, table
from tests.integration.pipeline import DEMO

LENGTH, HOP = 2 * SECOND, SECOND
BASE = Micros(1_795_435_200 * SECOND)  # a whole second
SCENE = 60  # seconds
GOLDEN = 0.618  # of a second between beginnings that are apart: few multiples of it come near each other
SPOKEN = (
    (5.0, 7.0, "I will be there in ten minutes."),
    (20.0, 21.6, "One moment, please."),
    (26.0, 29.0, "The bus is late again, as it always is on a Monday morning."),
    (38.0, 40.4, "Help! Help! Please help!"),
    (52.0, 55.0, "Did you hear that? Somebody should call the police."),
)
"""From, to, in seconds of the scene, and what is said: a fifth of the time."""
TOLERANCE = 1e-4  # of a probability
Found = tuple[list[float], list[list[float]], dict[str, str]]
"""Of one window: probability_C, share_MC (calibrated log-odds), and why, of the classes that are likely."""


@dataclass(frozen=True, eq=False)
class Happened:
    """One event, its medium decoded: a picture, samples, or a text."""

    ref: EventRef
    medium: Any

    @property
    def due(self) -> Micros:
        """When it can be encoded."""
        return self.ref.end


@dataclass(frozen=True, eq=False)
class Load:
    """All events of all sessions, and the windows that they fill."""

    events: Mapping[Origin, Happened]
    windows: Sequence[Window]


@dataclass(frozen=True, eq=False)
class Step:
    """What infer encodes before windows that close at one instant, and those windows."""

    batches: Sequence[Batched[Modality, Happened]]
    windows: Sequence[Window]


@dataclass(frozen=True)
class Spent:
    """Seconds."""

    wall: float
    cpu: float


def load(sessions: int, seconds: int, *, apart: bool) -> Load:
    """Session n plays the scene from its n-th part on. `apart`: they do not begin with the second, and not together."""
    events: dict[Origin, Happened] = {}
    windows: list[Window] = []
    for number in range(sessions):
        first, shift = SCENE * number // sessions % (SCENE - seconds + 1), round(SECOND * (GOLDEN * (number + 1) % 1)) if apart else 0
        mine = [Happened(_ref(one, number, at), medium) for at, (one, medium) in enumerate(played(first, seconds, shift))]
        events |= {each.ref.origin: each for each in mine}
        refs = sorted((each.ref for each in mine), key=lambda ref: (ref.modality, ref.start))
        found = (_window(number, Micros(BASE + at * HOP), refs) for at in range(-1, seconds + 1))
        windows += [window for window in found if window.manifest]  # as align gives them: each event is in all that it overlaps
    return Load(events, windows)


Stretch = tuple[Modality, Micros, Micros, Words | None]


def played(first: int, seconds: int, shift: int) -> Iterator[tuple[Stretch, Any]]:
    """That stretch of the scene, as if it began `shift` microseconds after BASE."""
    source = SceneSource(SourceSettings(name="street", url=f"scene:{DEMO / 'scene.yaml'}", pace=Pace.RECORDED), start=BASE)
    start, end = BASE + first * SECOND, BASE + (first + seconds) * SECOND
    move = BASE + shift - start
    takes = (take for take in source.read(threading.Event()) if isinstance(take, Picture | Pcm))
    for take in takewhile(lambda take: due(take) <= end, takes):
        match take:
            case Picture(at=at, rgb=rgb) if start <= at < end:
                yield (Modality.FRAMES, Micros(at + move), Micros(at + move), None), rgb
            case Pcm(start=at, samples=samples) if start <= at < end:
                yield (Modality.AUDIO, Micros(at + move), Micros(due(take) + move), None), samples
    for since, until, text in SPOKEN:
        if first <= since and until <= first + seconds:
            span = (Micros(round((at - first) * SECOND) + BASE + shift) for at in (since, until))
            yield (Modality.TRANSCRIPTS, *span, Words(text=text, confidence=0.9, language="en")), text


def _ref(stretch: Stretch, session: int, offset: int) -> EventRef:
    modality, start, end, words = stretch
    return EventRef(
        modality=modality,
        source="street",
        id=ids.event_id(start),
        start=start,
        end=end,
        arrival=end,
        origin=Origin(topic=modality.value, partition=session, offset=offset),
        words=words,
    )


def _window(session: int, start: Micros, refs: Sequence[EventRef]) -> Window:
    name, end = SessionId(f"street-{session}"), Micros(start + LENGTH)
    inside = tuple(ref for ref in refs if ref.start < end and max(ref.end, ref.start + 1) > start)
    return Window(
        id=ids.window_id(name, start, end),
        session=name,
        start=start,
        end=end,
        revision=0,
        closed_by=ClosedBy.WATERMARK,
        manifest=inside,
        completeness={},
        trigger=max([end, *(ref.end for ref in inside)]),
    )


def steps(played: Load, settings: InferSettings) -> list[Step]:
    """infer's own batches: of one modality, full or `batch_wait` old; a window waits until what it names is through."""
    batcher = Batcher[Modality, Happened](size=settings.batch, wait=Micros(settings.batch_wait))
    events = sorted(played.events.values(), key=lambda each: each.due)
    found, at = [], 0
    for closes in sorted({window.trigger for window in played.windows}):
        batches: list[Batched[Modality, Happened]] = []
        while at < len(events) and events[at].due <= closes:
            batches += _taken(batcher, events[at].due)
            batcher.add(events[at].ref.modality, events[at], now=events[at].due)
            at += 1
        batches += _taken(batcher, Micros(closes + settings.batch_wait + 1))
        found.append(Step(batches, [window for window in played.windows if window.trigger == closes]))
    return found


def _taken(batcher: Batcher[Modality, Happened], now: Micros) -> Iterator[Batched[Modality, Happened]]:
    """All that was due before `now`."""
    while (when := batcher.next_due()) is not None and when < now and (batch := batcher.take(when)):
        yield batch


def ours(engine: Engine, todo: Sequence[Step]) -> tuple[list[Judgement], list[list[FuseInput]]]:
    """Each event once, each instant's windows in one forward. What was fused is given too."""
    encode: dict[Modality, Callable[[Sequence[Any]], list[Features]]] = {
        Modality.FRAMES: engine.encode_frames,
        Modality.AUDIO: engine.encode_audio,
        Modality.TRANSCRIPTS: engine.encode_words,
    }
    cache: dict[Origin, Features] = {}
    found, fused = [], []
    for step in todo:
        for batch in step.batches:
            made = encode[batch.key]([each.medium for each in batch.items])
            cache.update(zip((each.ref.origin for each in batch.items), made, strict=True))
        fused.append([FuseInput(window=each, features=tuple(cache[ref.origin] for ref in each.manifest)) for each in step.windows])
        found += engine.fuse(fused[-1])
    return found, fused


def plain(encoders: Encoders, head: FusionHead, played: Load, windows: Sequence[Window]) -> list[Found]:
    """What one would write without an engine: everything anew for every window, one at a time."""
    return [alone(head, window, [_event(encoders, played.events[ref.origin]) for ref in window.manifest]) for window in windows]


def _event(encoders: Encoders, each: Happened) -> Event:
    encode = {Modality.FRAMES: encoders.images, Modality.AUDIO: encoders.sounds, Modality.TRANSCRIPTS: encoders.words}
    (features,) = encode[each.ref.modality]([each.medium])
    words = each.ref.words
    return Event(
        start=each.ref.start,
        end=each.ref.end,
        features=features,
        text=words.text if words else "",
        confidence=words.confidence if words else None,
    )


def alone(head: FusionHead, window: Window, events: Sequence[Event]) -> Found:
    """Probabilities and exact Shapley values by their definition: one forward for each set of modalities."""
    case = Case(events=events, start=window.start, gathered=gather(window.start, window.end, events))
    one, M = windows_of([case.gathered]), len(MODALITIES)
    sets = [tuple(bool(number >> at & 1) for at in range(M)) for number in range(2**M)]
    value = {members: head.logits(one.only(torch.tensor([members])))[0].double() for members in sets}
    assert head.calibration
    slope_C = head.calibration.slopes(one.present_BM)[0]
    shares = []
    for at in range(M):
        without = [members for members in sets if not members[at]]
        weights = [factorial(sum(members)) * factorial(M - sum(members) - 1) / factorial(M) for members in without]
        gains = [value[(*members[:at], True, *members[at + 1 :])] - value[members] for members in without]
        shares.append((slope_C * sum(weight * gain for weight, gain in zip(weights, gains, strict=True))).tolist())
    probability_BC = head.calibration.apply(value[sets[-1]][None], one.present_BM)
    likely_BC = probability_BC >= probability_BC.topk(MOST_EXPLAINED).values[:, -1:].clamp(min=EXPLAINED)
    why = dict[str, str]()
    if likely_BC.any():
        verdict = Verdict(probability_BC=probability_BC, share_BMC=torch.tensor([shares]), empty_BC=value[sets[0]][None])
        told = of_batch(head, [case], one, verdict, likely_BC)[0]
        why = {each.label: paragraph(replace(each, threshold=None), start=window.start / SECOND) for each in told}
    return probability_BC[0].tolist(), shares, why


def difference(judged: Sequence[Judgement], found: Sequence[Found]) -> tuple[float, float, int]:
    """The greatest between the two ways: of a probability, and of a contribution in log-odds; and how many explanations are others."""
    apart, shares, others = [0.0], [0.0], 0
    for judgement, (probability_C, share_MC, why) in zip(judged, found, strict=True):
        others += sum(score.explanation != why.get(name, "") for name, score in judgement.classes.items())
        for at, score in enumerate(judgement.classes.values()):
            apart.append(abs(score.probability - probability_C[at]))
            shares += [abs(share - share_MC[MODALITIES.index(name)][at]) for name, share in score.contributions.items()]
    return max(apart), max(shares), others


def spent(work: Callable[[], object]) -> Spent:
    """What doing it takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


@dataclass(frozen=True, eq=False)
class Bench:
    """Both ways, with weights of their own: ours in float64 as live, the plain head as it is loaded."""

    engine: FusionEngine
    encoders: Encoders
    head: FusionHead
    settings: InferSettings

    @classmethod
    def bundled(cls) -> Bench:
        """The pretrained weights, on the CPU, everything on one thread."""
        cv2.setNumThreads(1)
        settings = InferSettings(device="cpu")
        encoders = Encoders.bundled(home(), batch=2 * settings.batch)
        return cls(open_engine(settings, home()), encoders, profiles.bundled_head(), settings)

    @classmethod
    def tiny(cls) -> Bench:
        """Random ones, for tests."""
        settings = InferSettings(profile="tiny")
        return cls(open_engine(settings, None), Encoders.tiny(), profiles.tiny_head(), settings)

    def case(self, name: str, played: Load, runs: int) -> dict[str, Any]:
        """One row of the table, with its parts."""
        todo = steps(played, self.settings)
        windows = [window for step in todo for window in step.windows]
        judged, fused = ours(self.engine, todo)
        apart, shares, others = difference(judged, plain(self.encoders, self.head, played, windows))
        assert apart < TOLERANCE, f"probabilities differ by {apart}"
        works: dict[str, Callable[[], object]] = {
            "ours": lambda: ours(self.engine, todo),
            "plain": lambda: plain(self.encoders, self.head, played, windows),
        }
        batches = [(batch.key.value, [each.medium for each in batch.items]) for step in todo for batch in step.batches]
        bare: list[tuple[str, Callable[[], object]]] = []
        if self.engine.calibrated:
            works |= parts(self.engine, self.encoders, batches, fused)
            bare = forwards(self.encoders, batches)
        rounds = [one_round(works, bare, turned=bool(number % 2)) for number in range(runs)]
        apart_by = {"probability apart": apart, "share apart": shares, "other words": others}
        return {"case": name, "windows": len(windows), **row(rounds, len(windows)), **apart_by}


def one_round(
    works: Mapping[str, Callable[[], object]], bare: Sequence[tuple[str, Callable[[], object]]], *, turned: bool
) -> dict[str, Spent]:
    """Everything once, or the other way round; the bare forwards one after the other, added up by name."""
    found = {name: spent(works[name]) for name in sorted(works, reverse=turned)}
    for name, forward in bare:
        one, sofar = spent(forward), found.get(name, Spent(0.0, 0.0))
        found[name] = Spent(sofar.wall + one.wall, sofar.cpu + one.cpu)
    return found


def row(rounds: Sequence[Mapping[str, Spent]], windows: int) -> dict[str, Any]:
    """Medians: of milliseconds of processor time a window, and of ratios between what ran in the same round."""
    part = {name: statistics.median(each[name].cpu for each in rounds) / windows * 1e3 for name in rounds[0]}
    bare = [sum(took.cpu for name, took in each.items() if name.startswith("bare")) / each["ours"].cpu for each in rounds]
    return {
        "ours ms": part["ours"],
        "plain ms": part["plain"],
        "ratio": statistics.median(each["plain"].cpu / each["ours"].cpu for each in rounds),
        "ratio, wall": statistics.median(each["plain"].wall / each["ours"].wall for each in rounds),
        "not bare %": 100 * (1 - statistics.median(bare)),
        "parts": {name: ms for name, ms in part.items() if name not in ("ours", "plain")},
        "rounds": [{name: (round(took.cpu, 4), round(took.wall, 4)) for name, took in each.items()} for each in rounds],
    }


def breakdown(one: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where our time goes, largest first; what no part names is left at the end."""
    named = sorted((item for item in one["parts"].items() if "(of" not in item[0]), key=lambda item: -item[1])
    rest = one["ours ms"] - sum(ms for _, ms in named)
    return [{"part": name, "ms/window": ms, "% of ours": 100 * ms / one["ours ms"]} for name, ms in [*named, ("all else", rest)]]


def main(sessions: int, seconds: int, runs: int, keep: bool) -> None:
    """Both cases; the figure is that of sessions in step, as the demo's copies are."""
    bench = Bench.bundled()
    rows = []
    for name, apart in (("in step", False), ("apart", True)):
        rows.append(bench.case(name, load(sessions, seconds, apart=apart), runs))
        print(f"{name}: processor time of ours, ms a window")
        print(table(breakdown(rows[-1])), flush=True)
    print(table([{key: value for key, value in one.items() if key not in ("parts", "rounds")} for one in rows]))
    value = rows[0]["ratio"]
    more = {"sessions": sessions, "seconds": seconds, "runs": runs, "rows": rows}
    report("fusion", value, "x, processor time of plain over ours", 1.0, value, keep=keep, **more)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sessions", type=int, default=4)
    options.add_argument("--seconds", type=int, default=15, help="of the scene that each session plays")
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--quick", action="store_true", help="two sessions, five seconds, one run; keeps no record")
    given = options.parse_args()
    sizes = (2, 5, 1) if given.quick else (given.sessions, given.seconds, given.runs)
    main(*sizes, keep=not given.quick)
