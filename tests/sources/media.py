"""Small media files with known content, and what a source makes of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

from streamer.events import SECOND, Micros
from streamer.sources.feed import Source, State
from streamer.stages.ingest import RATE, Pcm, Picture, Take

START = Micros(1_795_521_600 * SECOND)


def film(
    path: Path,
    *,
    seconds: int = 3,
    rate: int = 10,
    size: tuple[int, int] = (320, 240),
    sound_rate: int = 48_000,
    layout: str = "stereo",
    begin: float = 0,
    b_frames: int = 0,
    codecs: tuple[str, ...] = ("libx264", "aac"),
) -> Path:
    """A grey picture that grows lighter, and a tone of 440 Hz. `begin` is the second by the container's own clock."""
    with av.open(str(path), "w") as container:
        streams: list[Any] = [
            container.add_stream(codec, rate=rate, options={"threads": "1"})
            if codec == "libx264"
            else container.add_stream(codec, rate=sound_rate, layout=layout)
            for codec in codecs
        ]
        for stream in streams:
            if stream.type == "video":
                stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
                stream.codec_context.max_b_frames = b_frames
        for stream in streams:
            frames = shades(seconds, rate, size, begin) if stream.type == "video" else waves(seconds, sound_rate, layout, begin, stream)
            for frame in frames:
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def shades(seconds: int, rate: int, size: tuple[int, int], begin: float) -> Iterator[av.VideoFrame]:
    """Pictures from dark to light."""
    for number in range(seconds * rate):
        grey = np.full((size[1], size[0], 3), 20 + 200 * number // (seconds * rate), np.uint8)
        frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
        frame.pts, frame.time_base = number + round(begin * rate), Fraction(1, rate)
        yield frame


def waves(seconds: int, rate: int, layout: str, begin: float, stream: Any) -> Iterator[av.AudioFrame]:
    """A tone in frames as large as the codec wants them."""
    wave, step, channels = tone(seconds, rate), stream.codec_context.frame_size or 1_024, 2 if layout == "stereo" else 1
    for at in range(0, len(wave), step):
        block = np.ascontiguousarray(np.tile(wave[at : at + step], (channels, 1)))
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, at + round(begin * rate), Fraction(1, rate)
        yield frame


def joined(path: Path, *parts: Path) -> Path:
    """Recordings put one behind the other, as `cat` does it."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
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
    return [take for take in source.read(threading.Event()) if not isinstance(take, State)]


def pictures(takes: Sequence[Take]) -> list[Picture]:
    return [take for take in takes if isinstance(take, Picture)]


def sounds(takes: Sequence[Take]) -> list[Pcm]:
    return [take for take in takes if isinstance(take, Pcm)]
