"""The benchmark, end to end: scenes composed from real recordings, encoded, learned from, and every method judged by them.

Laws:
1. Train, validation, calibration and test are drawn from libraries of their own; test from no lent recording.
2. Methods of one seed share their experts; all see the same windows, those of training and validation also with spoilt copies.
3. What was encoded once is kept in a folder and used again, for as long as nothing that it is made of has changed.
4. The plan, the manifest of recordings and the encoders determine everything that is reported, dates and times apart.

Shape key: B windows, M modalities, C classes in the order of LABELS.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from models.calibrate import VERSION
from models.calibration import PATTERNS
from models.evaluation import compare, corruptions, scripts
from models.evaluation.alarms import Timeline
from models.evaluation.examples import Corrupt, Examples, build, cached, encode, key, remembering
from models.evaluation.findings import Findings, Origin, SplitCount, StreamTrack
from models.evaluation.media import Media
from models.evaluation.scenes import Scene, render
from models.evaluation.scripts import Script
from models.evaluation.streams import Stream as Watched
from models.evaluation.streams import Watch, track
from models.evaluation.truth import HOP_S, WINDOW_S
from models.fusion.experts import Experts
from models.fusion.methods import DEFAULT, METHODS
from models.fusion.windows import MODALITIES, Stream, Windows
from models.head import VERSION as HEAD_VERSION
from models.head import FusionHead
from models.profiles import Encoders
from models.recordings import Split
from models.tokens import CHANCES, Event
from models.training.data import Data, predict
from models.training.recipe import Recipe
from models.training.train import key_of, train, train_experts
from models.verdict import calibration_of

AUGMENTED = "augmented"
SCENES: Mapping[Split, int] = {Split.TRAIN: 840, Split.VALIDATION: 240, Split.CALIBRATION: 220, Split.TEST: 180}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How large the benchmark is. `copies`: spoilt copies of each scene of training (one of validation where there are any).

    `scene_seed`: the number of the test's first scene, and of its hours. Those below it were looked at while methods were chosen.
    """

    scenes: Mapping[Split, int] = field(default_factory=lambda: dict(SCENES))
    copies: int = 2
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    methods: tuple[str, ...] = tuple(METHODS)
    conditions: tuple[str, ...] = tuple(corruptions.CONDITIONS)
    event_hours: float = 3.0
    events_per_hour: float = 60.0
    calibration_hours: float = 6.0
    negative_hours: float = 6.2  # a window that crosses from one minute into the next is not counted
    scene_seed: int = 2_000
    resamples: int = 500
    recipe: Recipe = field(default_factory=Recipe)


class Bench:
    """The splits of a plan, encoded when they are asked for. `folder` keeps them."""

    def __init__(self, plan: Plan, media: Media, encoders: Encoders, folder: Path, progress: Progress | None = None) -> None:
        self.plan, self.fingerprint = plan, encoders.fingerprint
        self._media, self._encoders, self.folder, self._progress = media, remembering(encoders), folder, progress
        self._libraries = {split: media.library(split, lend=split is not Split.TEST) for split in Split}
        first = {split: plan.scene_seed if split is Split.TEST else 0 for split in Split}
        self.scripts = {
            split: [scripts.draw(split, first[split] + n, self._libraries[split]) for n in range(plan.scenes[split])] for split in Split
        }

    def learning(self) -> tuple[Data, Data, Data]:
        """Train, validation, calibration."""
        return self._data(Split.TRAIN, self.plan.copies), self._data(Split.VALIDATION, min(1, self.plan.copies)), self.calibration()

    def calibration(self) -> Data:
        """Clean, with each window's place in time: thresholds count alarms an hour."""
        return timed(self._examples(Split.CALIBRATION))

    def hours(self) -> Data | None:
        """Hours of the calibration split's media, with a few events: where thresholds are read off."""
        if not self.plan.calibration_hours:
            return None
        library = self._libraries[Split.CALIBRATION]
        return timed(self._kept(list(scripts.stream(Split.CALIBRATION, 1, self.plan.calibration_hours, library)), "calibration, hours"))

    def test(self, condition: str) -> Examples:
        """The scenes of the test under a condition."""
        return self._examples(Split.TEST, condition)

    def events(self, script: Script) -> list[Event]:
        """What the encoders make of one scene, clean."""
        return encode(render(script, self._media), self._encoders)

    def stream(self, *, events: bool) -> tuple[list[Script], Iterator[Examples]]:
        """Hours of the test's media, with events or without any; encoded an hour at a time."""
        hours, rate = (self.plan.event_hours, self.plan.events_per_hour) if events else (self.plan.negative_hours, 0.0)
        every = list(
            scripts.stream(Split.TEST, self.plan.scene_seed + 1 + events, hours, self._libraries[Split.TEST], events_per_hour=rate)
        )
        return every, (self._kept(every[at : at + 60], "stream") for at in range(0, len(every), 60))

    def _data(self, split: Split, copies: int) -> Data:
        clean, spoilt = self._examples(split), [self._examples(split, AUGMENTED, copy) for copy in range(copies)]
        return joined([data_of(each) for each in (clean, *spoilt)])

    def _examples(self, split: Split, corruption: str = compare.CLEAN, seed: int = 0) -> Examples:
        return self._kept(self.scripts[split], f"{split} {corruption}", corruption, seed)

    def _kept(self, every: list[Script], title: str, corruption: str = compare.CLEAN, seed: int = 0) -> Examples:
        def make() -> Examples:
            return build(every, self._media, self._encoders, corrupt=_corrupt(corruption), seed=seed, progress=self._progress, title=title)

        return cached(self.folder, key(every, self._encoders, corruption=corruption, seed=seed), make)

    def origin(self, *, date: str, command: str) -> Origin:
        """What the figures rest on."""
        counts = []
        for split, every in self.scripts.items():
            names = {item.name for script in every for item in (script.sound, script.picture, *(one.item for one in script.happenings))}
            clips = [item for item in self._libraries[split].items if item.name in names]
            counts.append(
                SplitCount(
                    name=split.value,
                    scenes=len(every),
                    windows=sum(int((script.seconds - WINDOW_S) / HOP_S) + 1 for script in every),
                    recordings=len({item.recording for item in clips}),
                    packages=tuple(sorted({item.recording.split("/")[0] for item in clips})),
                )
            )
        return Origin(
            date=date,
            command=command,
            scene_seed=self.plan.scene_seed,
            digests={"encoders": self.fingerprint, "recipe": self.plan.recipe.digest[:16]},
            splits=tuple(counts),
            recordings=compare.sources(self.scripts[Split.TEST]),
            machine=f"{platform.machine()}, {torch.get_num_threads()} thread",
            versions={"torch": torch.__version__, "numpy": np.__version__, "python": platform.python_version()},
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learned:
    """All heads of one seed; those with experts share them."""

    seed: int
    heads: Mapping[str, FusionHead]

    @property
    def experts(self) -> FusionHead:
        """The head whose experts stand for single modalities."""
        return self.heads[DEFAULT]


def learn(bench: Bench, seed: int, progress: Progress | None = None, *, log_dir: Path | None = None) -> Learned:
    """Every method of the plan. A head that lies in the bench's folder, of these splits, recipe and seed, is taken from there."""
    splits, hours, recipe, experts = bench.learning(), bench.hours(), bench.plan.recipe, None
    origin = key_of((*splits, *([hours] if hours else [])), recipe, seed)[:16]
    folder = bench.folder / f"heads-{origin}-{HEAD_VERSION}-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    heads = {}
    for name in bench.plan.methods:
        path = folder / f"{name}.safetensors"
        if not path.is_file():
            experts = experts or train_experts(*splits, recipe, seed=seed, progress=progress, log_dir=log_dir)
            more: dict[str, Any] = {"hours": hours, "encoders": bench.fingerprint, "progress": progress, "log_dir": log_dir}
            train(name, *splits, recipe, seed=seed, experts=experts, **more).save(path)
        heads[name] = FusionHead.load(path)
    return Learned(seed=seed, heads=heads)


def alone(head: FusionHead, windows: Windows) -> dict[str, Tensor]:
    """What each modality's expert in a head says by itself, calibrated: (B, C) in float64; the prior where it has no voice."""
    experts = getattr(head.method, "experts", None)
    if not isinstance(experts, Experts):
        raise ValueError(f"{head.about.method} has no experts")
    logits_BMC = predict(lambda some: experts(head.standard(some)).logits_BMC, windows)
    return {name: torch.sigmoid(logits_BMC[:, m].double()) for m, name in enumerate(MODALITIES)}


def judge(bench: Bench, learned: Mapping[int, Learned], *, date: str, command: str) -> Findings:
    """All methods and seeds in all conditions and in the streams."""
    exams = {name: bench.test(name) for name in bench.plan.conditions}
    clean = exams[compare.CLEAN]
    views = {name: (one.windows, one) for name, one in exams.items()}
    for pattern, name in enumerate(PATTERNS):
        if 0 < pattern < len(PATTERNS) - 1:
            keep_M = torch.tensor([bool(pattern >> m & 1) for m in range(len(MODALITIES))])
            views[name] = (clean.windows.only(keep_M.expand(len(clean), -1)), clean)
    conditions = [
        compare.Condition(name=name, truth=one.truth, present_BM=windows.present_BM.numpy()) for name, (windows, one) in views.items()
    ]

    def outcomes() -> Iterator[compare.Outcome]:
        for name, (windows, _) in views.items():
            for seed, one in learned.items():
                for method, probability_BC in scores(one, windows).items():
                    yield compare.Outcome(method=method, seed=seed, condition=name, probability_BC=probability_BC.numpy())

    found = compare.compare(outcomes(), conditions, resamples=bench.plan.resamples)
    return Findings(origin=bench.origin(date=date, command=command), comparison=found, stream=watched(bench, learned))


def scores(learned: Learned, windows: Windows) -> dict[str, Tensor]:
    """Probabilities by method, (B, C) in float64; single modalities as `compare.only` names them."""
    found = {name: calibration_of(head).apply(predict(head.logits, windows), windows.present_BM) for name, head in learned.heads.items()}
    return found | {compare.only(name): probability_BC for name, probability_BC in alone(learned.experts, windows).items()}


def watched(bench: Bench, learned: Mapping[int, Learned]) -> StreamTrack:
    """The stream track; nothing where the plan has no hours of it."""
    if not bench.plan.event_hours or not bench.plan.negative_hours:
        return StreamTrack(wanted=0.8, event_hours=0.0, negative_hours=0.0, methods=())
    streams: list[Watched] = []
    found: dict[tuple[str, int], list[list[np.ndarray[Any, np.dtype[np.float64]]]]] = {}
    for events in (True, False):
        every, parts = bench.stream(events=events)
        streams.append(Watched.of(every))
        for part in parts:
            for seed, one in learned.items():
                for method, probability_BC in scores(one, part.windows).items():
                    found.setdefault((method, seed), [[], []])[len(streams) - 1].append(probability_BC.numpy())
    heads = {(name, seed): head for seed, one in learned.items() for name, head in one.heads.items()}
    watches = (
        Watch(
            method=method,
            seed=seed,
            events_BC=np.concatenate(found[method, seed][0]),
            negatives_BC=np.concatenate(found[method, seed][1]),
            thresholds_C=np.array([each.threshold for each in calibration_of(head).classes]),
        )
        for (method, seed), head in heads.items()
    )
    return track(watches, streams[0], streams[1], resamples=bench.plan.resamples)


def data_of(found: Examples) -> Data:
    """Examples as training reads them."""
    truth = found.truth
    return Data(
        windows=found.windows,
        truth_BC=torch.from_numpy(truth.truth_BC),
        group_B=torch.from_numpy(truth.group_B),
        verdicts=CHANCES,
    )


def timed(found: Examples) -> Data:
    """The same with each window's place in time."""
    hop_B = np.round(found.truth.start_B / HOP_S).astype(np.int64)
    return replace(data_of(found), timeline=Timeline(session_B=found.truth.script_B, hop_B=hop_B, hop_s=HOP_S))


def joined(parts: Sequence[Data]) -> Data:
    """Several of one split one after the other; a recording is one group in all of them."""
    streams = {}
    for name in MODALITIES:
        every: list[Stream] = [getattr(part.windows, name) for part in parts]
        most = max(one.mask_BT.shape[1] for one in every)
        streams[name] = Stream.of(
            torch.cat([_padded(one.tokens_BTD, most) for one in every]),
            torch.cat([_padded(one.mask_BT, most) for one in every]),
            torch.cat([one.quality_BQ for one in every]),
        )
    return Data(
        windows=Windows(**streams),
        truth_BC=torch.cat([part.truth_BC for part in parts]),
        group_B=torch.cat([part.group_B for part in parts]),
        verdicts=parts[0].verdicts,
    )


def _padded(tokens: Tensor, most: int) -> Tensor:
    return torch.cat([tokens, tokens.new_zeros(len(tokens), most - tokens.shape[1], *tokens.shape[2:])], dim=1)


def _corrupt(name: str) -> Corrupt | None:
    if name == compare.CLEAN:
        return None
    return corruptions.augment if name == AUGMENTED else partial(_under, name)


def _under(name: str, scene: Scene, seed: int) -> Scene:
    return corruptions.corrupt(scene, name, seed)
