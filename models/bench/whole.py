"""The whole way of a window, three ways, in one process and in turns: encode what is new, gather, score, explain.

alone    one event and one window at a time, float32: the plain path, which the others must agree with
batched  as the engine does it: what there is at once, float32
fast     batched, in few shapes, in the chosen precision, on captured graphs where there is CUDA; where that precision is not float32 there
         is also `fast float32`: there equality can be asked for, while random weights magnify what a shorter precision rounds
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import torch

from models.bench.encoders import LENGTHS, Parts, fast, head, plain, plainly
from models.bench.fast import Fast, Plan
from models.bench.machine import Ticks
from models.bench.pipeline import SPEECH_EVERY, Pipeline, Scene, one_hop
from models.bench.rates import subjects
from models.fusion.windows import Windows
from models.head import FusionHead
from models.tokens import windows_of

TOLERANCE = 1e-3
"""Of a probability, and of a share in log-odds for each unit of the greatest: a rounding error passes, a wrong row does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """One way. `stages`: seconds of a window, by stage. `over_alone`: windows a second over those of `alone`."""

    way: str
    windows: int
    per_second: float
    over_alone: float
    stages: Mapping[str, float]
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Equal:
    """How far a way is from `alone`: of a probability at most, of a share at most (relative to the greatest).

    `tolerance`: None where rounding is told and not judged.
    """

    way: str
    windows: int
    probability: float
    share: float
    tolerance: float | None

    @property
    def holds(self) -> bool:
        """Whether both are within the tolerance."""
        return self.tolerance is None or max(self.probability, self.share) <= self.tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What is measured: one head, fitted to noise as a trained one is to its data, one scene, and the ways."""

    plan: Plan
    head: FusionHead
    scene: Scene
    windows: Windows
    ways: Mapping[str, Parts]

    def pipeline(self, way: str) -> Pipeline:
        """A fresh one: nothing is held yet."""
        return Pipeline(self.ways[way], self.head, self.scene, self.plan.clock)


WAYS = ("alone", "batched", "fast float32", "fast")


def prepared(plan: Plan, ways: Sequence[str] = WAYS) -> Bench:
    """Those ways, built and warm."""
    scene, judging = Scene(), head()
    engine = plain(plan.device, judging)
    windows = windows_of(Pipeline(engine, judging, scene).gathered(one_hop(SPEECH_EVERY + 1, 0)))
    judging.standard.fit(windows)
    batched = replace(engine, judge=plainly(plan.device, judging))
    plans = {"fast float32": replace(plan, dtype=torch.float32), "fast": plan}
    if plan.dtype == torch.float32:
        del plans["fast float32"]  # is the fast way itself
    built = {"alone": replace(batched, alone=True), "batched": batched}
    built |= {way: _warmed(fast(each, judging), judging, windows) for way, each in plans.items() if way in ways}
    return Bench(plan=plan, head=judging, scene=scene, windows=windows, ways={way: built[way] for way in ways if way in built})


def _warmed(parts: Parts, judging: FusionHead, windows: Windows) -> Parts:
    for run, subject in zip(parts.fasts, subjects(judging, windows).values(), strict=False):
        run.warm(*subject.inputs)
        if len(subject.inputs) == 2:
            for length in LENGTHS[1:]:
                run.warm(*(each.repeat(1, length // LENGTHS[0]) for each in subject.inputs))
    return parts


def compared(bench: Bench, *, sessions: int, hops: int) -> list[Equal]:
    """The same windows by every way; of several hops, so that what is held counts too."""
    made = {way: bench.pipeline(way) for way in bench.ways}
    worst: dict[str, list[float]] = {way: [0.0, 0.0] for way in bench.ways if way != "alone"}
    for hop in range(hops):
        judged = {way: pipeline.step(one_hop(sessions, hop)) for way, pipeline in made.items()}
        truth = judged["alone"]
        scale = max(1.0, float(truth.share_BMC.abs().max()))
        for way, most in worst.items():
            most[0] = max(most[0], float((judged[way].probability_BC - truth.probability_BC).abs().max()))
            most[1] = max(most[1], float((judged[way].share_BMC - truth.share_BMC).abs().max()) / scale)
    return [
        Equal(way=way, windows=sessions * hops, probability=most[0], share=most[1], tolerance=_tolerance(bench, way))
        for way, most in worst.items()
    ]


def _tolerance(bench: Bench, way: str) -> float | None:
    return None if way == "fast" and bench.plan.dtype != torch.float32 else TOLERANCE


def wholes(bench: Bench, *, alone: int, together: int, hops: int) -> list[Whole]:
    """Each way over so many sessions, hop by hop and in turns; the first hop is not counted."""
    sessions = {way: alone if parts.alone else together for way, parts in bench.ways.items()}
    made = {way: bench.pipeline(way) for way in bench.ways}
    times: dict[str, list[float]] = {way: [] for way in made}
    for hop in range(hops + 1):
        for way, pipeline in made.items():
            if hop == 1:
                pipeline.spent.clear()
            took = _timed(partial(pipeline.step, one_hop(sessions[way], hop)), bench.plan.clock)
            if hop:
                times[way].append(took)
    rate = {way: sessions[way] / median(each) for way, each in times.items()}
    return [
        Whole(
            way=way,
            windows=sessions[way] * hops,
            per_second=rate[way],
            over_alone=rate[way] / rate["alone"],
            stages={stage: spent / (sessions[way] * hops) for stage, spent in pipeline.spent.items()},
            note=noted(bench.ways[way].fasts),
        )
        for way, pipeline in made.items()
    ]


def noted(runs: tuple[Fast, ...]) -> str:
    """What the fast path has to say."""
    return "; ".join(sorted({run.note for run in runs if run.note}))


def _timed(call: Callable[[], object], clock: Ticks) -> float:
    start = clock()
    call()
    return clock() - start
