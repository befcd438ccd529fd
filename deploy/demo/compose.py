"""Makes the demo's media from packages, the same bytes from the same packages: `python deploy/demo/compose.py`.

The Debian packages are downloaded and unpacked into a temporary folder, not installed. It needs apt-get, dpkg-deb and, through
the project's own dependencies, PyAV, OpenCV and soundfile. ORIGINS.md says what each file is and under which licence.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import soundfile
from numpy.typing import NDArray

from streamer.sources.scene import faded, whole_sound
from streamer.stages.ingest import RATE, Sound

HERE = Path(__file__).parent
PACKAGES = ("opencv-doc", "ufoai-sound", "asterisk-core-sounds-en-wav", "tuxpaint-stamps-default")
VTEST = "usr/share/doc/opencv-doc/examples/data/vtest.avi"
VOICE = "usr/share/asterisk/sounds/en_US_f_Allison"
SIREN = "usr/share/tuxpaint/stamps/vehicles/emergency/firetruck.ogg"
GLASS = ("usr/share/games/ufoai/base/0snd.pk3", "sound/misc/breakglass02.ogg")
FPS = 10  # vtest's own rate
CLIP = (0, 130)  # frames of vtest that are shown
CRF = "27"


def main() -> None:
    """Fetch, compose, and say how large it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="where the packages are unpacked already (/ where they are installed)")
    root = parser.parse_args().root
    with tempfile.TemporaryDirectory() as folder:
        compose(root or fetch(Path(folder)), Path(folder))
    for path in sorted(HERE.glob("*.*")):
        sys.stdout.write(f"{path.stat().st_size:9,} {path.name}\n")


def fetch(folder: Path) -> Path:
    """Download and unpack the packages; returns the root of what was in them."""
    subprocess.run(["apt-get", "download", *PACKAGES], cwd=folder, check=True)
    for package in sorted(folder.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package.name, "root"], cwd=folder, check=True)
    return folder / "root"


def compose(root: Path, folder: Path) -> None:
    """Write all media beside this script."""
    frames = pictures(root / VTEST)
    write_background(frames)
    write_clip(frames[slice(*CLIP)])
    with zipfile.ZipFile(root / GLASS[0]) as pack:
        glass = folder / "glass.ogg"
        glass.write_bytes(pack.read(GLASS[1]))
    write_sound("glass.flac", faded(whole_sound(glass)[: 2 * RATE]))  # the rest is silence
    write_sound("siren.flac", whole_sound(root / SIREN))
    write_sound("help.flac", call_for_help(root / VOICE))
    write_sound("moment.flac", whole_sound(root / VOICE / "one-moment-please.wav"))


def pictures(path: Path) -> list[NDArray[np.uint8]]:
    """Every frame of vtest.avi as BGR."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def write_background(frames: list[NDArray[np.uint8]]) -> None:
    """The street without its people: it is never empty in the recording, but each place of it is, most of the time."""
    empty = np.median(np.stack(frames[::8]), axis=0).astype(np.uint8)
    cv2.imwrite(str(HERE / "street.jpg"), empty, [cv2.IMWRITE_JPEG_QUALITY, 92])


def write_clip(frames: list[NDArray[np.uint8]]) -> None:
    """The pedestrians as H.264. One thread: the same bytes everywhere."""
    with av.open(str(HERE / "pedestrians.mp4"), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": CRF, "preset": "slow", "threads": "1"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, FPS)
        for bgr in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(bgr, format="bgr24")))
        container.mux(stream.encode(None))


def call_for_help(voice: Path) -> Sound:
    """ "Help! Help! Please help!": three words of one real voice, cut out of its prompts "press 0 for help" and "please try again"."""
    aid = cut(voice / "dictate" / "forhelp.wav", 1.205, 1.66)
    please = cut(voice / "please-try-again.wav", 0.04, 0.46)
    parts = [aid, pause(0.25), aid, pause(0.3), please, pause(0.06), aid]
    return np.concatenate(parts)


def cut(path: Path, start: float, end: float) -> Sound:
    """Seconds [start, end) of a sound, with soft edges."""
    piece = faded(whole_sound(path)[round(start * RATE) : round(end * RATE)], RATE // 66)
    return faded(piece[::-1], RATE // 66)[::-1]


def pause(seconds: float) -> Sound:
    """Silence."""
    return np.zeros(round(seconds * RATE), np.float32)


def write_sound(name: str, sound: Sound) -> None:
    """As FLAC, 16 kHz, 16 bit."""
    soundfile.write(HERE / name, sound, RATE, subtype="PCM_16")


if __name__ == "__main__":
    main()
