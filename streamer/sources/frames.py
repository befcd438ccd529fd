"""What PyAV decodes, made plain: each frame with a time, sound as mono 16 kHz whatever it was, pictures no wider than wanted.

Laws of `Timeline`
1. Time rises, whatever the file says.
2. A frame's time is the one its container shows; where that does not rise, the one it was decoded at; without either, the end
   of the frame before it. A stream of which not even the rate is known is refused, never dropped.
3. A clock that starts again (recordings put one behind the other) goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from streamer.errors import ConfigError
from streamer.events import MILLISECOND, SECOND, Micros
from streamer.stages.ingest import RATE, Rgb, Sound

RESTART = Micros(500 * MILLISECOND)  # a file whose time is further back than this starts again


class Timeline:
    """When each frame of one stream of a file is, if the file's first sample is at `start`."""

    def __init__(self, container: Any, stream: Any, start: Micros) -> None:
        self.restarts = 0
        self.end = start  # of the frames so far
        rate = stream.average_rate if stream.type == "video" else None
        self._step = round(SECOND / rate) if rate else 0
        self._name = f"{stream.type} {stream.codec_context.name}"
        self._shift: int = start - (container.start_time or 0)
        self._last: Micros | None = None
        self._shown, self._decoded = _Rising(), _Rising()

    def at(self, frame: Any) -> Micros:
        """The frame's time; frames in the order that they are shown. Raises ConfigError."""
        length = duration(frame) or self._length(frame)
        own = self._own(frame)
        if own is None and not length:
            raise ConfigError(f"{self._name}: its frames have neither a time nor a rate")
        at = self.end if own is None else own + self._shift
        if self._last is not None:
            if at < self.end - RESTART:
                self._shift += self.end - at
                self.restarts += 1
                at = self.end
            at = max(at, self._last + 1)
        self.end = Micros(at + length if self._last is None else max(self.end, at + length))
        self._last = Micros(at)
        return self._last

    def _own(self, frame: Any) -> Micros | None:
        """Some containers (H.264 in AVI) tell the order of decoding as if it were that of showing: the one that rises is believed."""
        self._shown.push(frame.pts)
        self._decoded.push(frame.dts)
        shown = frame.pts is not None and (frame.dts is None or self._shown.faults <= self._decoded.faults)
        ticks = frame.pts if shown else frame.dts
        return None if ticks is None else Micros(round(ticks * frame.time_base * SECOND))

    def _length(self, frame: Any) -> int:
        return round(frame.duration * frame.time_base * SECOND) if frame.duration and frame.time_base else self._step


class _Rising:
    """How often a stream's times did not rise."""

    def __init__(self) -> None:
        self.faults = 0
        self._last: int | None = None

    def push(self, ticks: int | None) -> None:
        if ticks is not None:
            self.faults += self._last is not None and ticks <= self._last
            self._last = ticks


class Mono:
    """Sound of any format to mono, 16 kHz, -1..1. A format that changes in mid-stream gets a resampler of its own."""

    def __init__(self) -> None:
        self._format: tuple[object, ...] | None = None
        self._resampler: Any = None

    def push(self, frame: Any) -> list[Sound]:
        """One frame: what it gives now, behind what a format that is over still held."""
        rest: list[Sound] = []
        if (found := (frame.sample_rate, frame.layout.name, frame.format.name)) != self._format:
            rest = self.flush()
            self._format, self._resampler = found, av.AudioResampler(format="flt", layout="mono", rate=RATE)
        return rest + _samples(self._resampler.resample(frame))

    def flush(self) -> list[Sound]:
        """What is still held, at the end."""
        return _samples(self._resampler.resample(None)) if self._resampler else []


def _samples(frames: list[Any]) -> list[Sound]:
    return [np.ascontiguousarray(frame.to_ndarray().reshape(-1), dtype=np.float32) for frame in frames]


def decoded(container: Any, stream: Any) -> Iterator[Any]:
    """A stream's frames; a broken packet costs itself alone."""
    for packet in container.demux(stream):
        yield from frames_of(packet)


def frames_of(packet: Any) -> list[Any]:
    """What a packet decodes to: nothing, where it is broken."""
    try:
        return list(packet.decode())
    except av.error.InvalidDataError:
        return []


def heard(container: Any, stream: Any, timeline: Timeline) -> Iterator[tuple[Micros, Sound]]:
    """A stream's sound as (time, mono 16 kHz samples)."""
    convert = Mono()
    for frame in decoded(container, stream):
        start = timeline.at(frame)
        yield from ((start, block) for block in convert.push(frame))
    for block in convert.flush():
        yield Micros(timeline.end - len(block) * SECOND // RATE), block


def media_time(frame: Any) -> Micros:
    """A frame's or packet's time within its container, as shown."""
    return Micros(round(frame.pts * frame.time_base * SECOND))


def duration(frame: Any) -> Micros:
    """How long a block of sound lasts; a picture is a moment."""
    return Micros(frame.samples * SECOND // frame.sample_rate if isinstance(frame, av.AudioFrame) else 0)


def scaled(frame: Any, width: int) -> Rgb:
    """RGB, never wider than `width`, never enlarged."""
    if frame.width <= width:
        rgb: Rgb = frame.to_ndarray(format="rgb24")
        return rgb
    height = max(1, round(frame.height * width / frame.width))
    small: Rgb = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA")
    return small
