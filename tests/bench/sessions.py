"""`make bench NAME=sessions`: how many live sessions one machine bears with everything on, and what binds first.

The real roles as processes on a real Apache Kafka with the bundled weights, as in `latency`. Each session is a camera of two pictures a
second and a microphone that hears speech a fifth of the time: the demo's scene with more words. The sessions are not in step (their
starts are spread over `SPREAD` seconds, and what happens in them over the minute), unless `--together`. Their number rises until a
window's first score comes later than `BOUND` after the record that let it go, in one case of a hundred, or until frames are left out.
Costs are processor time by role; `machine` is all that was taken, so that what else ran is seen. The figure is the greatest number
that was borne.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from streamer.topology import ROLES
from tests.bench.latency import LEAD, Play, measure, scene_of
from tests.bench.report import report, table
from tests.integration.pipeline import shorter
from tests.kafka.apache import apache_kafka

BOUND = 250.0  # ms, p99 of first revisions
STEPS = (2, 4, 8, 12, 16, 20, 24)
SPREAD = 1.9  # seconds: no two pictures are of one instant; ingest refuses a start further ahead
SKIP = 8.0  # seconds from ingest's start until all sessions play, its own start-up over
WATCH = 40.0  # seconds
QUICK = 15  # seconds of the scene
MORE_SPEECH = (3.0, 9.0, 14.5, 26.0, 56.0)  # seconds at which "One moment, please" (1.6 s) is said once more
FULL = 0.9  # share of what there is from which it is called full
SHED = "streamer_frames_shed_total"


def talking(minutes: int, folder: Path) -> Path:
    """The demo's scene with words for a fifth of the time."""
    path = scene_of(minutes, folder)
    scene = yaml.safe_load(path.read_text("utf-8"))
    more = [{"file": "moment.flac", "at": at + 60 * again, "gain_db": -6} for again in range(minutes) for at in MORE_SPEECH]
    scene["sounds"] = sorted([*scene["sounds"], *more], key=lambda cue: cue["at"])
    path.write_text(yaml.safe_dump(scene))
    return path


def turned(path: Path, by: float) -> Path:
    """The same scene with all that happens `by` seconds later; what passes the end comes at the beginning."""
    scene = yaml.safe_load(path.read_text("utf-8"))
    for kind in ("clips", "sounds"):
        scene[kind] = [one | {"at": (one["at"] + by) % scene["duration"]} for one in scene[kind]]
    (other := path.with_name(f"turned-{by:.3f}.yaml")).write_text(yaml.safe_dump(scene))
    return other


def beginning(minutes: int, folder: Path) -> Path:
    """Its first seconds."""
    return shorter(talking(minutes, folder), folder / "short", QUICK)


def summary(one: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """A row of the table: latency, processor seconds of each role for a second of one session, and what binds."""
    sessions, busy, infer = one["sessions"], one["busy"], one["infer"]
    encoding = {name: value for name, value in infer.items() if name.startswith("streamer_encode_seconds_sum")}
    return {
        "sessions": sessions,
        "windows": one["windows"],
        "p50 ms": one["p50 ms"],
        "p99 ms": one["p99 ms"],
        "max ms": one["max ms"],
        "lag": int(sum(one["lag"].values())),
        "shed": int(infer.get(SHED, 0)),
        "encoding %": 100 * sum(encoding.values()) / seconds,
        **{name: busy[name] / sessions for name in (*ROLES, "broker") if name in busy},
        "machine": busy["machine"],
        "borne": one["p99 ms"] <= BOUND and not infer.get(SHED),
        "binds": binds(busy, os.cpu_count() or 1),
    }


def binds(busy: Mapping[str, float], cores: int) -> str:
    """What has least room left: the machine, one role's interpreter, or neither. `busy`: cores taken, by role."""
    parts = {name: share for name, share in busy.items() if name != "machine"}
    most, ours = max(parts, key=lambda name: parts[name]), sum(parts.values())
    if busy["machine"] >= FULL * cores:
        others = max(0.0, busy["machine"] - ours)
        return f"the machine: {busy['machine']:.2f} of {cores} cores, {others:.2f} by others; of ours most by {most}, {parts[most]:.2f}"
    if parts[most] >= FULL:
        return f"{most}: {parts[most]:.2f} cores"
    return f"nothing is full: {busy['machine']:.2f} of {cores} cores, most by {most}, {parts[most]:.2f}"


def borne(rows: Sequence[Mapping[str, Any]]) -> int:
    """The greatest number of sessions up to which every step was borne; 0: none was."""
    best = 0
    for one in rows:
        if not one["borne"]:
            break
        best = one["sessions"]
    return best


def growth(rows: Sequence[Mapping[str, Any]]) -> str:
    """How the cost of a session changes from the fewest to the most."""
    few, many = rows[0], rows[-1]
    total = [sum(one.get(name, 0.0) for name in (*ROLES, "broker")) for one in (few, many)]
    return f"cores per session: {total[0]:.3f} at {few['sessions']}, {total[1]:.3f} at {many['sessions']}"


async def main(steps: Sequence[int], *, every: bool, spread: float, quick: bool) -> None:
    """Rise until a step is not borne (`every`: to the last in any case), print the table, say what binds."""
    rows: list[dict[str, Any]] = []
    compose, length = (beginning, QUICK) if quick else (talking, 60)
    skip, watch = (LEAD, QUICK - LEAD) if quick else (SKIP, WATCH)
    with tempfile.TemporaryDirectory() as name, apache_kafka(Path(name)) as address:
        for sessions in steps:
            print(f"{sessions} sessions ...", flush=True)
            turn = turned if spread else None
            play = Play(sessions=sessions, compose=compose, turn=turn, spread=spread, skip=skip, watch=watch)
            rows.append(summary(await measure(address, play), length + spread))
            print(f"{sessions} sessions: p99 {rows[-1]['p99 ms']:.0f} ms; {rows[-1]['binds']}", flush=True)
            if not (rows[-1]["borne"] or every):
                break
    print(table([{key: value for key, value in one.items() if key != "binds"} for one in rows]))
    print(growth(rows))
    last = rows[-1]
    verdict = f"{last['sessions']} sessions are {'borne' if last['borne'] else 'too many'} ({last['binds']})"
    print(verdict)
    more = {"bound_ms": BOUND, "spread_s": spread, "speech": "a fifth of the time", "verdict": verdict, "rows": rows}
    report("sessions", borne(rows), "sessions, p99 added latency within 250 ms", None, None, keep=not quick, **more)


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument(
        "--steps", type=int, nargs="+", help=f"rising, all measured (default {' '.join(map(str, STEPS))}, until one is too many)"
    )
    options.add_argument("--together", action="store_true", help="all sessions begin at one instant: every window closes at once")
    options.add_argument("--quick", action="store_true", help="one step, 15 s; keeps no record")
    given = options.parse_args()
    chosen = given.steps or ((2,) if given.quick else STEPS)
    asyncio.run(main(chosen, every=bool(given.steps), spread=0.0 if given.together else SPREAD, quick=given.quick))
