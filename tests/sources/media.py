"""Small media files with known content, and what a source makes of them."""

from __future__ import annotations

import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile

from streamer.events import SECOND, Micros
from streamer.sources.feed import Down, Source, Up
from streamer.stages.ingest import RATE, Pcm, Picture, Take

START = Micros(1_795_521_600 * SECOND)


def film(path: Path, *, seconds: int = 3, rate: int = 10, size: tuple[int, int] = (320, 240), sound_rate: int = 48_000) -> Path:
    """A grey picture that grows lighter, and a tone of 440 Hz in stereo."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate, options={"threads": "1"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = container.add_stream("aac", rate=sound_rate, layout="stereo")
        for number in range(seconds * rate):
            grey = np.full((size[1], size[0], 3), 20 + 200 * number // (seconds * rate), np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(video.encode(None))
        wave = tone(seconds, sound_rate)
        for at in range(0, len(wave), 1_024):
            block = np.ascontiguousarray(np.tile(wave[at : at + 1_024], (2, 1)))
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts, frame.time_base = sound_rate, at, Fraction(1, sound_rate)
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    return path


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    """440 Hz at half of full scale."""
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def recording(path: Path, *, seconds: float, rate: int = RATE, channels: int = 1) -> Path:
    """A tone as WAV or FLAC, by the name's ending."""
    soundfile.write(path, np.tile(tone(seconds, rate)[:, None], (1, channels)), rate, subtype="PCM_16")
    return path


def taken(source: Source) -> list[Take]:
    """All that a source gives, without its states."""
    return [take for take in source.read(threading.Event()) if not isinstance(take, Up | Down)]


def pictures(takes: list[Take]) -> list[Picture]:
    return [take for take in takes if isinstance(take, Picture)]


def sounds(takes: list[Take]) -> list[Pcm]:
    return [take for take in takes if isinstance(take, Pcm)]
