"""`python -m models.bench`: how fast encoders and head are on this machine, with torch, torchaudio, transformers and numpy alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers.utils import logging as transformers_logging

from models.bench.fast import SIZES
from models.bench.machine import DTYPES, chosen
from models.bench.report import text, write
from models.bench.run import CPU, CUDA, QUICK, Asked, Effort, crowd, measured

MOST_WORKERS = 64
_HELP = """\
How fast the models are on this machine: random weights, made-up events, no Kafka, no network.
It needs torch, torchaudio, transformers and numpy, and nothing else.

What it prints:
  1. the rate of each network, and its share of the matrix products that this device does in the same precision
  2. that the fast way gives the same probabilities and explanations as one event and one window at a time
  3. windows per second the whole way: encode what is new, gather, score, explain (Shapley); and where the time goes
  4. how long windows wait at several loads, and how many sessions are held. A session is a camera of 2 pictures a
     second, a microphone, and speech a fifth of the time; it has a window a second
"""
_EXAMPLES = """\
examples:
  python -m models.bench --quick                      some seconds, to see that it runs; its figures are rough
  python -m models.bench --json bench.json            the device at hand: bfloat16 and graphs on CUDA, float32 on a CPU
  python -m models.bench --compile                    also what torch.compile would give (minutes; needs a C++ compiler)
  python -m models.bench --device cuda --no-graphs    without captured graphs, to see what they give
  python -m models.bench --device cuda --workers 8    loads for one process, and then for eight that share the device
  python -m models.bench --rows 64 --compile          batches of 64 alone

exit status: 0; 1 where the fast way is not equal to the plain one; 2 where what was asked for is not there; 3 where one of several
processes failed: what this one measured is told and written
"""


def parser() -> argparse.ArgumentParser:
    """What may be asked for."""
    made = argparse.ArgumentParser(
        prog="python -m models.bench", description=_HELP, epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto: CUDA where there is one (default)")
    made.add_argument("--dtype", choices=("auto", *DTYPES), default="auto", help="of the encoders, the fast way; auto: bfloat16 on CUDA")
    made.add_argument("--threads", type=int, default=1, help="of torch on the CPU (default 1, as the engine)")
    made.add_argument("--compile", action="store_true", help="measure torch.compile beside the fast way")
    made.add_argument(
        "--rows", type=int, nargs="+", metavar="N", help="sizes of batches that networks are measured at (default: by device)"
    )
    made.add_argument("--workers", type=int, default=1, metavar="N", help="offer loads to so many processes too (default 1)")
    made.add_argument("--no-graphs", action="store_true", help="no captured CUDA graphs")
    made.add_argument("--no-pinned", action="store_true", help="no pinned memory for transfers")
    made.add_argument("--no-channels-last", action="store_true", help="convolutions keep their maps as PyTorch does by default")
    made.add_argument("--processor-time", action="store_true", help="on a CPU that others use too: time while this process runs")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the whole record there")
    made.add_argument("--quick", action="store_true", help="little of everything: to see that it runs")
    return made


def asked(options: argparse.Namespace) -> Asked:
    """From options to what is run. ValueError where the device is not there, or a number is out of its range."""
    device = chosen(options.device)
    if not 1 <= options.workers <= MOST_WORKERS:
        raise ValueError(f"--workers {options.workers}: 1 to {MOST_WORKERS}")
    if options.processor_time and device == "cuda":
        raise ValueError("--processor-time: a GPU's time is not the processor's; use it with --device cpu")
    auto = "bfloat16" if device == "cuda" else "float32"
    return Asked(
        device=device,
        dtype=DTYPES[auto if options.dtype == "auto" else options.dtype],
        effort=_effort(QUICK if options.quick else CUDA if device == "cuda" else CPU, options.rows),
        graphs=not options.no_graphs,
        pinned=not options.no_pinned,
        channels_last=not options.no_channels_last,
        compile_with="inductor" if options.compile else None,
        processor_time=options.processor_time,
        workers=options.workers,
    )


def _effort(effort: Effort, rows: Sequence[int] | None) -> Effort:
    if rows and not all(1 <= each <= SIZES[-1] for each in rows):
        raise ValueError(f"--rows {' '.join(map(str, rows))}: 1 to {SIZES[-1]}")
    return replace(effort, sizes=tuple(sorted(set(rows)))) if rows else effort


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; the exit status."""
    options = parser().parse_args(argv)
    try:
        wanted = asked(options)
    except ValueError as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.allow_tf32 = False
    transformers_logging.disable_progress_bar()
    found, failed = measured(wanted), ""
    if wanted.workers > 1:
        try:
            found = crowd(found, wanted)
        except RuntimeError as exc:
            failed = f"{exc}\n"
    sys.stdout.write(text(found) + "\n")
    sys.stderr.write(failed)
    if options.json:
        write(found, options.json)
    if failed:
        return 3
    return 0 if all(each.holds for each in found.equal) else 1


if __name__ == "__main__":
    sys.exit(main())
