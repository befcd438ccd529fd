"""`make bench NAME=removed`: the demo's scene with each modality taken away or spoilt: which alerts remain, and what speaks for them.

The real roles as processes on the embedded broker, with the bundled weights and the demo's rules. A modality that is taken away is not
recorded at all (or, of words, not transcribed); one that is spoilt is recorded badly: the scene's files are darkened, blurred, or
drowned in noise before they are played. The scene is composed from real recordings.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import yaml

from streamer.cli import home
from streamer.config import Config
from streamer.demo import demo_config, perform
from streamer.events import Modality
from streamer.roles import Logging, configure_logging
from streamer.sources.scene import load_scene
from streamer.story import compare
from streamer.supervise import broker
from tests.bench.report import report, table
from tests.integration.pipeline import DEMO

OVERTIME = 180.0
QUIET = Logging(level="error")
Spoil = Callable[[Path, dict[str, Any]], None]
"""A copy of the scene's folder and its YAML as data, changed in place."""
Picture = Callable[[np.ndarray[Any, np.dtype[np.uint8]]], np.ndarray[Any, np.dtype[np.uint8]]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """`source`: of the source's settings; `without`: roles that do not run; `expect`: what alignment waits for."""

    name: str
    source: dict[str, bool] | None = None
    without: frozenset[str] = frozenset()
    expect: tuple[Modality, ...] | None = None
    spoil: Spoil | None = None


def pictures(change: Picture) -> Spoil:
    """The same change to every picture of the scene."""

    def spoil(folder: Path, scene: dict[str, Any]) -> None:
        background = folder / scene["background"]
        cv2.imwrite(str(background), change(cv2.imread(str(background))))
        for name in {clip["file"] for clip in scene["clips"]}:
            rewritten(folder / name, change)

    return spoil


def rewritten(path: Path, change: Picture) -> None:
    """A clip, picture by picture, with its own times."""
    aside = path.with_suffix(".new.mp4")
    with av.open(str(path)) as old, av.open(str(aside), "w") as new:
        source = old.streams.video[0]
        target = new.add_stream("libx264", rate=source.average_rate, options={"crf": "18"})
        target.width, target.height, target.pix_fmt = source.width, source.height, "yuv420p"
        for frame in old.decode(source):
            made = av.VideoFrame.from_ndarray(change(frame.to_ndarray(format="bgr24")), format="bgr24")
            made.pts, made.time_base = frame.pts, frame.time_base
            new.mux(target.encode(made))
        new.mux(target.encode())
    aside.replace(path)


def dark(picture: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A twentieth of the light."""
    return (picture * 0.05).astype(np.uint8)


def blurred(picture: np.ndarray[Any, np.dtype[np.uint8]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Far out of focus."""
    return cv2.GaussianBlur(picture, (0, 0), 12).astype(np.uint8)


def noisy(level_db: float) -> Spoil:
    """A noise floor of that level."""

    def spoil(folder: Path, scene: dict[str, Any]) -> None:
        scene["noise"]["level_db"] = level_db

    return spoil


def overdriven(folder: Path, scene: dict[str, Any]) -> None:
    """Every sound 30 dB too loud: clipped by the microphone."""
    for cue in scene["sounds"]:
        cue["gain_db"] += 30.0


CASES = (
    Case(name="whole"),
    Case(name="no pictures", source={"video": False}),
    Case(name="no sound, no words", source={"audio": False}),
    Case(name="no words", without=frozenset({"transcribe"}), expect=(Modality.AUDIO, Modality.FRAMES)),
    Case(name="dark", spoil=pictures(dark)),
    Case(name="blurred", spoil=pictures(blurred)),
    Case(name="noise -30 dB", spoil=noisy(-30.0)),
    Case(name="noise -15 dB", spoil=noisy(-15.0)),
    Case(name="clipped", spoil=overdriven),
)


async def play(case: Case, folder: Path) -> list[dict[str, Any]]:
    """One row for each line of the script, and one for each alert that is not in it."""
    place = Path(shutil.copytree(DEMO, folder / "scene"))
    raw = yaml.safe_load((place / "scene.yaml").read_text("utf-8"))
    if case.spoil:
        case.spoil(place, raw)
    (place / "scene.yaml").write_text(yaml.safe_dump(raw))
    script = load_scene(place / "scene.yaml")
    (out := folder / "out").mkdir()
    async with broker(settled(demo_config(place / "scene.yaml", fast=True, home=home(), bootstrap="embedded"), case)) as config:
        limit = script.duration + OVERTIME
        story, start = await perform(config, out, logging=QUIET, limit=limit, without=case.without)
    verdicts, wrong = compare(script.expect, story, start)
    rows = [row(case.name, verdict.expected.rule, verdict.alert) for verdict in verdicts]
    return [*rows, *(row(case.name, f"not in the script: {alert.rule}", alert) for alert in wrong)]


def settled(config: Config, case: Case) -> Config:
    """The demo's configuration, changed as the case says."""
    (session,) = config.sessions
    (source,) = session.sources
    source = source.model_copy(update=case.source or {})
    session = session.model_copy(update={"sources": (source,), **({"expect": case.expect} if case.expect else {})})
    return config.model_copy(update={"sessions": (session,)})


def row(case: str, rule: str, alert: Any) -> dict[str, Any]:
    """What came of one line of the script."""
    shares = {modality.value: round(share, 2) for modality, share in alert.contributions.items()} if alert else {}
    score = round(alert.score, 3) if alert else "missed"
    return {"case": case, "rule": rule, "score": score, **{name.value: shares.get(name.value, "") for name in Modality}}


def main() -> None:
    """Play every case, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="names of cases")
    chosen = parser.parse_args().only
    configure_logging("removed", QUIET)
    rows = []
    for case in CASES:
        if not chosen or case.name in chosen:
            with tempfile.TemporaryDirectory() as folder:
                rows += asyncio.run(play(case, Path(folder)))
    print(table(rows))
    remaining = sum(1 for each in rows if each["score"] != "missed" and not each["rule"].startswith("not"))
    report("removed", remaining, "alerts of the script that remain", None, None, keep=not chosen, rows=rows)


if __name__ == "__main__":
    main()
