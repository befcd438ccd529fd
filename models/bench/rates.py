"""How fast each network runs, and what share that is of the matrix products that the same device does in the same precision.

Inputs lie on the device: transfers and the host's work are not in these figures (they are in `whole.py`). Rates are of rows: pictures,
patches of 0.96 s, sentences of 16 tokens, windows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from models.bench.encoders import LENGTHS, OPENCV, Judging, parts_of
from models.bench.fast import Fast, Plan
from models.bench.machine import raced
from models.bench.networks import SIDE, People, Sound, Words, flops, in_precision, made
from models.bench.pipeline import HEIGHT, WIDTH
from models.fusion.windows import Windows
from models.head import FusionHead
from models.yamnet import PATCH_SAMPLES

INPUT = (SIDE, SIDE) if OPENCV else (HEIGHT, WIDTH)
"""Pixels of a picture as the network is given it: the host makes it small where it can, as the engine does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A square matrix product of that size."""

    size: int
    dtype: str
    tflops: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """One network at one size of batch. `gflop`: of one row, convolutions and matrix products alone. `share`: of the best `Product`, None
    where the network is in another precision than that.

    `over_plain`: rows a second over those of the same network in float32, as it comes, in the same run; `over_compiled`: over those of
    torch.compile's (below 1 where compiling pays), None where that was not asked for.
    """

    network: str
    rows: int
    per_second: float
    gflop: float
    tflops: float
    share: float | None
    over_plain: float
    over_compiled: float | None
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A network to measure: how it is made, and one row of its inputs. `half`: whether it is run in a shorter precision."""

    make: Callable[[], nn.Module]
    inputs: tuple[Tensor, ...]
    half: bool = True


def subjects(head: FusionHead, windows: Windows) -> Mapping[str, Subject]:
    """By name. The last one is the head with its Shapley values, of the first of these windows."""
    generator = torch.Generator().manual_seed(0)
    return {
        "pictures": Subject(
            make=lambda: made(People, 0), inputs=(torch.randint(0, 256, (1, *INPUT, 3), dtype=torch.uint8, generator=generator),)
        ),
        "sound": Subject(make=lambda: made(Sound, 1), inputs=(torch.randn(1, PATCH_SAMPLES, generator=generator) * 0.1,)),
        "words": Subject(
            make=lambda: made(Words, 2),
            inputs=(
                torch.randint(1_000, 30_000, (1, LENGTHS[0]), generator=generator),
                torch.ones(1, LENGTHS[0], dtype=torch.long),
            ),
        ),
        "head + Shapley": Subject(make=lambda: Judging(head), inputs=tuple(each[:1] for each in parts_of(windows)), half=False),
    }


def products(plan: Plan, sizes: Sequence[int], runs: int) -> Iterator[Product]:
    """Measured, not looked up."""
    for size in sizes:
        left, right = (torch.randn(size, size, device=plan.device).to(plan.dtype) for _ in range(2))
        out = torch.empty_like(left)
        took = raced({"product": partial(torch.mm, left, right, out=out)}, plan.device, runs=runs, clock=plan.clock)
        yield Product(size=size, dtype=str(plan.dtype).removeprefix("torch."), tflops=2 * size**3 / took["product"] / 1e12)


def shipped(plan: Plan, runs: int) -> float | None:
    """Pictures a second of the detector in `assets/`, as the engine runs it on a CPU; None without onnxruntime and OpenCV."""
    try:
        from models.persons import PersonDetector
    except ImportError:
        return None
    picture_HW3 = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    return 1.0 / raced({"shipped": partial(PersonDetector.load(), [picture_HW3])}, "cpu", runs=runs, clock=plan.clock)["shipped"]


def rates(
    subjects: Mapping[str, Subject], plan: Plan, best: Product, *, sizes: Sequence[int], runs: int, compile_with: str | None
) -> Iterator[Rate]:
    """Every network at every size."""
    for name, subject in subjects.items():
        gflop = _counted(subject) / 1e9
        contestants = _contestants(subject, plan, compile_with)
        for rows in sizes:
            yield _rate(name, subject, contestants, plan, rows=rows, runs=runs, gflop=gflop, best=best)


def _counted(subject: Subject) -> int:
    """Attention is counted where it is written as products."""
    network = made(lambda: Words(attn_implementation="eager"), 0) if len(subject.inputs) == 2 else subject.make()
    return flops(network, *subject.inputs)


def _contestants(subject: Subject, plan: Plan, compile_with: str | None) -> dict[str, Fast]:
    plain = replace(plan, dtype=torch.float32, graphs=False, channels_last=False, compiled=None)
    found = {"plain": Fast(subject.make(), plain), "fast": Fast(_shortened(subject, plan), plan)}
    if compile_with:
        found["compiled"] = Fast(_shortened(subject, plan), replace(plan, compiled=compile_with))
    return found


def _shortened(subject: Subject, plan: Plan) -> nn.Module:
    return in_precision(subject.make(), plan.dtype) if subject.half else subject.make()


def _rate(
    name: str, subject: Subject, contestants: Mapping[str, Fast], plan: Plan, *, rows: int, runs: int, gflop: float, best: Product
) -> Rate:
    inputs = [each.expand(rows, *each.shape[1:]) for each in subject.inputs]
    slots = {who: fast.slot(*inputs) for who, fast in contestants.items()}
    calls = {who: partial(fast.run, slots[who]) for who, fast in contestants.items()}
    took = raced(calls, plan.device, runs=runs, clock=plan.clock)
    tflops = rows * gflop / took["fast"] / 1e3
    return Rate(
        network=name,
        rows=rows,
        per_second=rows / took["fast"],
        gflop=gflop,
        tflops=tflops,
        share=tflops / best.tflops if subject.half else None,
        over_plain=took["plain"] / took["fast"],
        over_compiled=took["compiled"] / took["fast"] if "compiled" in took else None,
        note=contestants["fast"].note,
    )
