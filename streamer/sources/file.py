"""Files: any container that PyAV reads, its pictures and its sound; also WAV and FLAC.

Event time is `start` + the file's own time (see `frames.Timeline`), so the same file with the same start gives the same events.
Pictures and sound are read through two openings of the file and merged by event time: no muxing, however strange, can disorder
them. With `loop` a lap starts where the one before ended, by what the file says and by what was in it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from heapq import merge
from pathlib import Path
from typing import Any

import av

from streamer.config import SourceSettings
from streamer.errors import ConfigError
from streamer.events import Micros, Pace
from streamer.sources.feed import Fault, Odd, State, Up, order, paced
from streamer.sources.frames import Timeline, decoded, heard, scaled
from streamer.sources.urls import redact
from streamer.stages.ingest import Chunker, Picture, Selector, Take, due


class FileSource:
    """One file, played once or, with `loop`, until it is stopped."""

    def __init__(self, settings: SourceSettings, *, start: Micros) -> None:
        self._settings, self._start = settings, start
        self._path = Path(settings.url)
        self._timelines: dict[str, Timeline] = {}  # of this lap
        self._told: dict[str, int] = {}

    def check(self) -> None:
        """Raises ConfigError: no such file, nothing in it that is wanted, or an endless recording."""
        where = f"source {self._settings.name}: {redact(self._settings.url)}"
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

    def read(self, stop: threading.Event) -> Iterator[Take | State]:
        """Pictures, chunks and progress in event-time order; at pace live as the clock reaches them."""
        yield Up(again=False)
        takes = self._laps()
        for take in paced(takes, stop) if self._settings.pace is Pace.LIVE else takes:
            yield from self._restarts()
            yield take

    def _laps(self) -> Iterator[Take]:
        start = self._start
        while True:
            with av.open(str(self._path)) as pictures, av.open(str(self._path)) as sounds:
                end = Micros(start + (pictures.duration or 0))
                for take in merge(self._pictures(pictures, start), self._sounds(sounds, start), key=order):
                    end = max(end, due(take))
                    yield take
                end = max([end, *(timeline.end for timeline in self._timelines.values())])
            if not self._settings.loop:
                return
            start = end

    def _restarts(self) -> Iterator[Odd]:
        for kind, timeline in self._timelines.items():
            if timeline.restarts > self._told.get(kind, 0):
                yield Odd(fault=Fault.CLOCK, why=f"the file's {kind} starts again: it goes on behind what was there")
            self._told[kind] = timeline.restarts

    def _pictures(self, container: Any, start: Micros) -> Iterator[Take]:
        if (stream := self._video(container)) is None:
            return
        select, timeline = Selector(self._settings.fps), Timeline(container, stream, start)
        self._timelines["video"] = timeline
        for frame in decoded(container, stream):
            at = timeline.at(frame)
            if select.want(at):
                yield Picture(at=at, rgb=scaled(frame, self._settings.width))
            elif progress := select.progress(at):
                yield progress

    def _sounds(self, container: Any, start: Micros) -> Iterator[Take]:
        if (stream := self._audio(container)) is None:
            return
        chunks, timeline = Chunker(), Timeline(container, stream, start)
        self._timelines["audio"] = timeline
        for at, samples in heard(container, stream, timeline):
            yield from chunks.push(at, samples)
        yield from chunks.flush()

    def _video(self, container: Any) -> Any:
        return container.streams.video[0] if self._settings.video and container.streams.video else None

    def _audio(self, container: Any) -> Any:
        return container.streams.audio[0] if self._settings.audio and container.streams.audio else None
