"""Several processes on one device, as several infer workers on one GPU: each has networks of its own and its share of the sessions.

One process cannot fill a GPU: what the host does for a window (quality of pictures and sound, tokens) takes longer than its networks.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from types import TracebackType

import torch
from transformers.utils import logging as transformers_logging

from models.bench.fast import Plan
from models.bench.load import Clock, Load, Served, load_of, served
from models.bench.pipeline import one_hop
from models.bench.whole import prepared

MOST = 64
"""Windows in one batch of one of them: each process keeps a graph of every size, and they share the device's memory."""
_PATIENCE = 300.0  # seconds, to build and warm up, and for an answer after a load was over


class Crowd:
    """`workers` processes, warm after `with`. RuntimeError where one of them ends or does not answer; then all are ended."""

    def __init__(self, plan: Plan, workers: int) -> None:
        self._plan = replace(plan, sizes=tuple(size for size in plan.sizes if size <= MOST) or (MOST,))
        self._workers = workers
        self._pipes: list[Connection] = []
        self._ends = ExitStack()

    def __enter__(self) -> Crowd:
        context = multiprocessing.get_context("spawn")  # a process that has used CUDA cannot be forked
        for _ in range(self._workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, self._plan, torch.get_num_threads()), daemon=True)
            process.start()
            theirs.close()
            self._ends.callback(process.join, 10.0)
            self._ends.callback(process.terminate)
            self._ends.callback(ours.close)
            self._pipes.append(ours)
        try:
            for pipe in self._pipes:
                _answer(pipe, _PATIENCE)
        except BaseException:
            self._ends.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, raised: BaseException | None, at: TracebackType | None) -> None:
        self._ends.close()

    def offer(self, sessions: int, seconds: int) -> Load:
        """So many sessions for so many hops, shared as evenly as they can be."""
        shares = [sessions // self._workers + (at < sessions % self._workers) for at in range(self._workers)]
        busy = [(pipe, share) for pipe, share in zip(self._pipes, shares, strict=True) if share]
        for pipe, share in busy:
            with _said():
                pipe.send((share, seconds))
        return load_of([_answer(pipe, _PATIENCE + 2 * seconds) for pipe, _ in busy], sessions, seconds)


def _answer(pipe: Connection, patience: float) -> Served:
    with _said():
        if pipe.poll(patience):
            found: Served = pipe.recv()
            return found
    raise RuntimeError(f"a worker of the benchmark gave no answer in {patience:g} s")


@contextmanager
def _said() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError) as exc:
        raise RuntimeError("a worker of the benchmark ended; what it said is above") from exc


def _work(pipe: Connection, plan: Plan, threads: int) -> None:
    """In its own process: build, say so, and serve what is asked for until nobody asks any more."""
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False
    transformers_logging.disable_progress_bar()
    bench = prepared(plan, ways=("fast",))
    said = Served(latencies=(), windows=0, batches=0)
    while True:
        try:
            pipe.send(said)
            sessions, seconds = pipe.recv()
        except (EOFError, OSError):
            return
        pipeline = bench.pipeline("fast")
        pipeline.step(one_hop(1, -1))
        said = served(pipeline.step, sessions, seconds, most=plan.sizes[-1], clock=Clock())


def crowded(plan: Plan, workers: int, offers: Sequence[int], seconds: int) -> list[Load]:
    """Each load in turn, the same processes for all of them."""
    with Crowd(plan, workers) as crowd:
        return [crowd.offer(sessions, seconds) for sessions in offers]
