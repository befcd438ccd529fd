"""Files: any container that PyAV reads, its pictures and its sound; also WAV and FLAC.

Event time is `start` + the file's own time, so the same file with the same start gives the same events. Pictures and sound are
read through two openings of the file and merged by event time: no muxing, however strange, can disorder them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from heapq import merge
from pathlib import Path
from typing import Any

import av
import numpy as np

from streamer.config import SourceSettings
from streamer.errors import ConfigError
from streamer.events import SECOND, Micros, Pace
from streamer.sources.feed import Down, Up, order, paced
from streamer.stages.ingest import RATE, Chunker, Picture, Rgb, Selector, Sound, Take


class FileSource:
    """One file, played once or, with `loop`, until it is stopped."""

    def __init__(self, settings: SourceSettings, *, start: Micros) -> None:
        self._settings, self._start = settings, start
        self._path = Path(settings.url)

    def check(self) -> None:
        """Raises ConfigError: no such file, nothing in it that is wanted, or an endless recording."""
        where = f"source {self._settings.name}: {self._path}"
        if self._settings.loop and self._settings.pace is Pace.RECORDED:
            raise ConfigError(f"{where} with loop and pace: recorded never ends")
        try:
            with av.open(str(self._path)) as container:
                wanted = [s for s in (self._video(container), self._audio(container)) if s]
                endless = self._settings.loop and not container.duration
        except OSError as exc:
            raise ConfigError(f"{where} cannot be read: {exc.strerror}") from exc
        except av.FFmpegError as exc:
            raise ConfigError(f"{where} is no media file: {exc.strerror}") from exc
        if not wanted:
            raise ConfigError(f"{where} holds neither of what is wanted (video: {self._settings.video}, audio: {self._settings.audio})")
        if endless:
            raise ConfigError(f"{where} does not say how long it is, so it cannot loop")

    def read(self, stop: threading.Event) -> Iterator[Take | Up | Down]:
        """Pictures, chunks and progress in event-time order; at pace live as the clock reaches them."""
        yield Up(again=False)
        takes = self._laps()
        yield from paced(takes, stop) if self._settings.pace is Pace.LIVE else takes

    def _laps(self) -> Iterator[Take]:
        start = self._start
        while True:
            with av.open(str(self._path)) as pictures, av.open(str(self._path)) as sounds:
                yield from merge(self._pictures(pictures, start), self._sounds(sounds, start), key=order)
                start = Micros(start + (pictures.duration or 0))
            if not self._settings.loop:
                return

    def _pictures(self, container: Any, start: Micros) -> Iterator[Take]:
        if (stream := self._video(container)) is None:
            return
        select = Selector(self._settings.fps)
        for frame in decoded(container, stream):
            at = Micros(start + media_time(frame) - (container.start_time or 0))
            if select.want(at):
                yield Picture(at=at, rgb=scaled(frame, self._settings.width))
            elif progress := select.progress(at):
                yield progress

    def _sounds(self, container: Any, start: Micros) -> Iterator[Take]:
        if (stream := self._audio(container)) is None:
            return
        chunks = Chunker()
        for at, samples in heard(container, stream):
            yield from chunks.push(Micros(start + at - (container.start_time or 0)), samples)
        yield from chunks.flush()

    def _video(self, container: Any) -> Any:
        return container.streams.video[0] if self._settings.video and container.streams.video else None

    def _audio(self, container: Any) -> Any:
        return container.streams.audio[0] if self._settings.audio and container.streams.audio else None


def decoded(container: Any, stream: Any) -> Iterator[Any]:
    """A stream's frames; a broken packet costs itself alone."""
    for packet in container.demux(stream):
        yield from frames_of(packet)


def frames_of(packet: Any) -> list[Any]:
    """What a packet decodes to: nothing, where it is broken."""
    try:
        return [frame for frame in packet.decode() if frame.pts is not None]
    except av.error.InvalidDataError:
        return []


def heard(container: Any, stream: Any) -> Iterator[tuple[Micros, Sound]]:
    """A stream's sound as (media time, mono 16 kHz samples)."""
    convert, end = resampler(), Micros(0)
    for frame in decoded(container, stream):
        start = media_time(frame)
        end = Micros(start + duration(frame))
        yield from ((start, block) for block in resampled(convert, frame))
    for block in resampled(convert, None):
        yield Micros(end - len(block) * SECOND // RATE), block


def resampler() -> Any:
    """To mono, 16 kHz, -1..1."""
    return av.AudioResampler(format="flt", layout="mono", rate=RATE)


def resampled(convert: Any, frame: Any) -> list[Sound]:
    """One frame through a resampler; None asks for what it still holds."""
    return [np.ascontiguousarray(out.to_ndarray().reshape(-1), dtype=np.float32) for out in convert.resample(frame)]


def media_time(frame: Any) -> Micros:
    """A frame's time within its container."""
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
