"""One run of the benchmark: how much is measured, in which order, and what its figures leave out."""

from __future__ import annotations

import datetime
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from models.bench.crowd import crowded
from models.bench.encoders import OPENCV
from models.bench.fast import SIZES, Plan
from models.bench.load import Load, offered
from models.bench.machine import machine
from models.bench.pipeline import one_hop
from models.bench.rates import products, rates, shipped, subjects
from models.bench.report import AIM, Findings, ceiling
from models.bench.whole import Bench, compared, prepared, wholes

LEFT_OUT = (
    "decoding of JPEG and of sound, Kafka, and speech recognition (a role of its own)",
    "pictures: anchors, non-maximum suppression; the network is the one that runs on a GPU; on a CPU it runs in 8 bits, in onnxruntime",
    "words: the real tokenizer (a checksum of each word stands for it)",
    "operations of the spectrum of sound (its time is in; its operations are not counted)",
)
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured. `products`: sizes; `sizes`: rows of a batch; `alone`, `together`: sessions; `seconds`: of each load.

    `shares`: of the windows a second that the fast way makes, how much load is offered.
    """

    products: tuple[int, ...]
    sizes: tuple[int, ...]
    runs: int
    alone: int
    together: int
    hops: int
    seconds: int
    shares: tuple[float, ...] = (0.25, 0.5, 0.75, 0.9, 1.1)


QUICK = Effort(products=(256,), sizes=(2,), runs=1, alone=1, together=2, hops=1, seconds=1, shares=(0.5,))
CPU = Effort(products=(512, 1_024, 2_048), sizes=(1, 8, 32), runs=5, alone=4, together=16, hops=5, seconds=10)
CUDA = Effort(products=(2_048, 4_096, 8_192), sizes=(1, 4, 16, 64, 256), runs=7, alone=8, together=256, hops=7, seconds=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What to run. `compile_with`: a backend of torch.compile to measure beside, or None. `processor_time`: of this process, instead of
    the wall's; the loads stay on the wall's. `workers`: processes to share the loads, after this one has had them alone.
    """

    device: str
    dtype: torch.dtype
    effort: Effort
    graphs: bool = True
    pinned: bool = True
    channels_last: bool = True
    compile_with: str | None = None
    processor_time: bool = False
    workers: int = 1

    @property
    def plan(self) -> Plan:
        """Of the fast way. On CUDA it has no other shapes than those measured: cuDNN takes seconds to prepare for each of them."""
        most = max(self.effort.sizes)
        between = () if self.device == "cuda" else tuple(size for size in SIZES if size < most)
        return Plan(
            device=self.device,
            dtype=self.dtype,
            sizes=tuple(sorted({*between, *self.effort.sizes})),
            graphs=self.graphs,
            pinned=self.pinned,
            channels_last=self.channels_last,
            clock=time.process_time if self.processor_time else time.perf_counter,
        )

    def settings(self) -> dict[str, str]:
        """By name, for the record."""
        on_cuda = {"graphs": self.graphs, "pinned": self.pinned} if self.device == "cuda" else {}
        said = {
            "dtype": self.named,
            "channels_last": self.channels_last,
            "compile": self.compile_with or "no",
            "time": "processor" if self.processor_time else "wall",
        }
        return {name: str(value) for name, value in {**said, **on_cuda}.items()}

    @property
    def named(self) -> str:
        """The precision, by name."""
        return str(self.dtype).removeprefix("torch.")


def measured(asked: Asked) -> Findings:
    """Everything, in one process. How long each part took goes to stderr."""
    plan, effort, at = asked.plan, asked.effort, machine(asked.device)
    bench = _told("build and warm up", lambda: prepared(plan))
    multiplied = _told("matrix products", lambda: list(products(plan, effort.products, effort.runs)))
    best = max(multiplied, key=lambda one: one.tflops)
    named = subjects(bench.head, bench.windows)
    found = _told("networks", lambda: list(rates(named, plan, best, sizes=effort.sizes, runs=effort.runs, compile_with=asked.compile_with)))
    equal = _told("equal results", lambda: compared(bench, sessions=effort.together, hops=2))
    ways = _told("whole way", lambda: wholes(bench, alone=effort.alone, together=effort.together, hops=effort.hops))
    loads = _told("load", lambda: loaded(bench, ways[-1].per_second, effort))
    return Findings(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        machine=at,
        settings=asked.settings(),
        products=multiplied,
        rates=found,
        shipped=shipped(plan, effort.runs),
        equal=equal,
        wholes=ways,
        ceiling=ceiling(found),
        loads=loads,
        left_out=left_out(),
    )


def crowd(found: Findings, asked: Asked) -> Findings:
    """That run with the loads of several processes too; each offered as many times as much."""
    sessions = offers(found.wholes[-1].per_second * asked.workers, asked.effort.shares)
    more = _told(f"load of {asked.workers} processes", lambda: crowded(asked.plan, asked.workers, sessions, asked.effort.seconds))
    return replace(found, loads=[*found.loads, *more])


def loaded(bench: Bench, per_second: float, effort: Effort) -> list[Load]:
    """Each load on a pipeline of its own, after one window that is not counted."""
    found = []
    for sessions in offers(per_second, effort.shares):
        pipeline = bench.pipeline("fast")
        pipeline.step(one_hop(1, -1))
        found.append(offered(pipeline.step, sessions, effort.seconds, most=effort.together))
    return found


def offers(per_second: float, shares: Sequence[float]) -> list[int]:
    """How many sessions to offer: shares of what is made, and the aim where it is among them."""
    found = {max(1, round(share * per_second)) for share in shares}
    return sorted(found | {AIM} if min(found) < AIM < max(found) else found)


def left_out() -> Sequence[str]:
    """What the figures do not have in them, on this machine."""
    return LEFT_OUT if OPENCV else (*LEFT_OUT, "quality of pictures: there is no OpenCV here")


def _told(what: str, work: Callable[[], Made]) -> Made:
    start = time.perf_counter()
    made = work()
    sys.stderr.write(f"{what}: {time.perf_counter() - start:.1f} s\n")
    return made
