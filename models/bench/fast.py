"""The fast path: one network, called with batches of any size, run in few shapes.

Laws:
1. A row's result is that of the plain network, within the precision's rounding: padding is cut off, rows do not meet.
2. After `warm` no shape is new: nothing is captured or compiled while windows wait.
3. What comes back is the caller's own: the next call does not change it.
4. Where a graph cannot be captured the network runs without one, and `note` says why.

On CUDA inputs are staged in pinned memory, run as a captured graph, and read back through pinned memory. On the CPU the same buffers are
used where they are. Shape key: N rows of a batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Rows of a batch that there are shapes for: a batch is at most twice as large as it need be."""
Shapes = tuple[tuple[tuple[int, ...], torch.dtype], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Where and how a network runs. `compiled`: a backend of torch.compile, or None.

    `channels_last`: how convolutions keep their maps. `graphs`, `pinned`: on CUDA alone. `clock`: what it is timed by.
    """

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    sizes: tuple[int, ...] = SIZES
    graphs: bool = True
    pinned: bool = True
    channels_last: bool = True
    compiled: str | None = None
    clock: Callable[[], float] = time.perf_counter

    @property
    def cuda(self) -> bool:
        """Whether it is a GPU of that kind."""
        return self.device.startswith("cuda")


@dataclass(slots=True, kw_only=True, eq=False)
class Slot:
    """One shape: its buffers on the host and on the device (the same on a CPU), and its graph."""

    host: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...] = ()
    back: tuple[Tensor, ...] = ()
    graph: torch.cuda.CUDAGraph | None = field(default=None)


class Fast:
    """Host tensors to host tensors, row by row. It stands where an encoder wants a network: see `to` and `eval`."""

    def __init__(self, network: nn.Module, plan: Plan) -> None:
        self._plan = plan
        self._network = network.to(plan.device)
        if plan.channels_last:
            self._network = self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if plan.compiled:
            self._network = torch.compile(self._network, backend=plan.compiled, dynamic=False)  # type: ignore[assignment]
        self._slots: dict[Shapes, Slot] = {}
        self.note = ""

    def to(self, device: str) -> Fast:
        """Stays where its plan put it: callers move nothing."""
        return self

    def eval(self) -> Fast:
        """Is already."""
        return self

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """As many rows as come; more than the largest size in several runs. ValueError where there are none."""
        if not len(inputs[0]):
            raise ValueError("no rows: there is nothing to run, and no shape of a result")
        most = self._plan.sizes[-1]
        parts = [self._some([each[at : at + most] for each in inputs]) for at in range(0, len(inputs[0]), most)]
        return tuple(torch.cat(each) if len(each) > 1 else each[0] for each in zip(*parts, strict=True))

    @torch.inference_mode()
    def warm(self, *inputs: Tensor) -> None:
        """Every size, with rows like the first of these."""
        for size in self._plan.sizes:
            self._some([each[:1].expand(size, *each.shape[1:]) for each in inputs])

    @torch.inference_mode()
    def slot(self, *inputs: Tensor) -> Slot:
        """The filled buffers of that shape: `run` of it is the forward alone, without transfers."""
        size = next(size for size in self._plan.sizes if size >= len(inputs[0]))
        shapes = tuple(((size, *each.shape[1:]), each.dtype) for each in inputs)
        if shapes not in self._slots:
            self._slots[shapes] = self._opened(shapes)
        slot = self._slots[shapes]
        self._fill(slot, inputs)
        if self._plan.cuda and self._plan.graphs and slot.graph is None and not self.note:
            self._capture(slot)
        return slot

    @torch.inference_mode()
    def run(self, slot: Slot) -> None:
        """One forward; on CUDA it may still be running afterwards."""
        if slot.graph is not None:
            slot.graph.replay()
        else:
            slot.outputs = self._network(*slot.inputs)

    def _some(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        slot = self.slot(*inputs)
        self.run(slot)
        return self._read(slot, len(inputs[0]))

    def _opened(self, shapes: Shapes) -> Slot:
        host = tuple(torch.zeros(shape, dtype=dtype, pin_memory=self._pin) for shape, dtype in shapes)
        return Slot(host=host, inputs=tuple(torch.empty_like(each, device=self._plan.device) for each in host) if self._plan.cuda else host)

    @property
    def _pin(self) -> bool:
        return self._plan.cuda and self._plan.pinned

    def _fill(self, slot: Slot, inputs: Sequence[Tensor]) -> None:
        for host, device, each in zip(slot.host, slot.inputs, inputs, strict=True):
            host[: len(each)].copy_(each)
            host[len(each) :].zero_()
            if self._plan.cuda:
                device.copy_(host, non_blocking=True)

    def _read(self, slot: Slot, rows: int) -> tuple[Tensor, ...]:
        if not self._plan.cuda:
            return tuple(each[:rows].clone() for each in slot.outputs)
        if not slot.back:
            slot.back = tuple(torch.empty_like(each, device="cpu", pin_memory=self._pin) for each in slot.outputs)
        for back, each in zip(slot.back, slot.outputs, strict=True):
            back.copy_(each, non_blocking=True)
        torch.cuda.current_stream().synchronize()
        return tuple(each[:rows].clone() for each in slot.back)

    def _capture(self, slot: Slot) -> None:
        """Three runs beside the main stream first: libraries choose their kernels and get their memory there."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._network(*slot.inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                slot.outputs = self._network(*slot.inputs)
        except RuntimeError as exc:
            self.note = f"no CUDA graph: {(str(exc) or type(exc).__name__).splitlines()[0]}"
            torch.cuda.synchronize()
        else:
            slot.graph = graph
