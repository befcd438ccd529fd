"""RTSP over TCP: reconnects for ever with back-off and jitter, notices a stream that stalls, never shows a login.

Laws
1. Event time is capture time: the stream's own clock, held against ours by `CaptureClock`, never the moment of arrival. Sound is
   there once it is over. After a reconnect the clocks are compared anew, and time still rises.
2. A stream that says nothing for `stall` (either of its tracks) is opened again; so is one that fails in any other way.
3. Neither a url's login, nor its query, nor a text that FFmpeg made of them reaches a log or an error.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import av

from streamer.config import SourceSettings
from streamer.errors import ConfigError, Transient
from streamer.events import MILLISECOND, SECOND, Micros
from streamer.sources.feed import Down, Fault, Odd, State, Up, moment
from streamer.sources.frames import Mono, duration, frames_of, media_time, scaled
from streamer.sources.urls import host, redact, with_login
from streamer.stages.ingest import CaptureClock, Chunker, Moment, Pcm, Picture, Selector, Take

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds
FRESH = Micros(20 * MILLISECOND)  # a packet that had to be waited for so long was not in a buffer
OPENING = Micros(3 * SECOND)  # packets that FFmpeg gathered while it looked at the stream come in a burst no longer than this
_OPTIONS = {"rtsp_transport": "tcp", "analyzeduration": "1000000", "fflags": "nobuffer"}


class RtspSource:
    """One camera or microphone."""

    def __init__(self, settings: SourceSettings, *, password: str | None = None) -> None:
        self._settings = settings
        self._address = with_login(settings.url, settings.username, password)
        self._select, self._chunks = Selector(settings.fps), Chunker()
        self._newest = {"video": Micros(0), "audio": Micros(0)}

    def check(self) -> None:
        """Raises ConfigError: no host in the url. Whether the camera is there is not a matter of settings."""
        if not host(self._settings.url):
            raise ConfigError(f"source {self._settings.name}: {redact(self._settings.url)} names no host")

    def read(self, stop: threading.Event) -> Iterator[Take | State]:
        """Pictures, chunks and progress as they come, and what becomes of the connection; until `stop`."""
        pause, again = FIRST_PAUSE, False
        while not stop.is_set():
            why, up = "the stream ended", False
            try:
                for take in self._connection(stop):
                    if not up:
                        yield Up(again=again)
                        up, again, pause = True, True, FIRST_PAUSE
                    yield take
            except (av.FFmpegError, OSError) as exc:
                why = f"{type(exc).__name__}: {exc.strerror}"  # never str(exc): it holds the url
            except Transient as exc:
                why = str(exc)
            except Exception as exc:  # a camera is there again tomorrow, whatever its stream did to a library today
                why = type(exc).__name__
            yield from self._chunks.flush()
            if stop.is_set():
                return
            yield Down(why=f"{redact(self._settings.url)}: {why}")
            stop.wait(pause * random.SystemRandom().uniform(0.5, 1))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _connection(self, stop: threading.Event) -> Iterator[Take | Odd]:
        stall = self._settings.stall / SECOND
        av.logging.set_level(None)  # FFmpeg's own messages hold the url
        with av.open(self._address, options=_OPTIONS, timeout=(stall, stall)) as container:
            streams = self._wanted(container)
            clocks = {s.index: CaptureClock(newer_than=self._newest[s.type]) for s in streams}
            convert, opened = Mono(), moment().steady
            heard_at = {s.index: opened for s in streams}
            for packet, came in received_at(container.demux(streams)):
                if stop.is_set():
                    return
                heard_at[packet.stream_index] = came.steady
                if (silent := came.steady - min(heard_at.values())) > self._settings.stall:
                    raise Transient(f"one of its tracks said nothing for {silent / SECOND:.1f} s")
                yield from self._takes(packet, came, clocks[packet.stream_index], convert)

    def _takes(self, packet: Any, came: Moment, clock: CaptureClock, convert: Mono) -> Iterator[Take | Odd]:
        for frame in frames_of(packet):
            if frame.pts is None:
                continue  # an RTP packet has a time; what a decoder made up has no place
            length, resets = duration(frame), clock.resets
            over = self._newest[packet.stream.type] = clock.at(Micros(media_time(frame) + length), came)
            if clock.resets > resets:
                yield Odd(fault=Fault.CLOCK, why=f"the clock of its {packet.stream.type}, or ours, was set anew")
            yield from self._sound(frame, Micros(over - length), convert) if length else self._picture(frame, over)

    def _wanted(self, container: Any) -> list[Any]:
        video = container.streams.video[:1] if self._settings.video else ()
        audio = container.streams.audio[:1] if self._settings.audio else ()
        if not (wanted := [*video, *audio]):
            raise Transient("it carries neither the pictures nor the sound that are wanted")
        return wanted

    def _picture(self, frame: Any, at: Micros) -> Iterator[Take]:
        if self._select.want(at):
            yield Picture(at=at, rgb=scaled(frame, self._settings.width))
        elif progress := self._select.progress(at):
            yield progress

    def _sound(self, frame: Any, at: Micros, convert: Mono) -> Iterator[Pcm]:
        for block in convert.push(frame):
            yield from self._chunks.push(at, block)


def received_at(packets: Iterable[Any]) -> Iterator[tuple[Any, Moment]]:
    """Packets with the time they came. Those that had been gathered while the stream was opened get the time they would have come."""
    opened = before = moment().steady
    held: list[Any] | None = []
    for packet in packets:
        if packet.pts is None:
            continue
        came = moment()
        if held is None:
            yield packet, came
        elif came.steady - before < FRESH and came.steady - opened < OPENING:
            held.append(packet)
            before = came.steady
        else:
            yield from _spread([*held, packet], came)
            held = None
    if held:
        yield from _spread(held, moment())


def _spread(packets: list[Any], now: Moment) -> Iterator[tuple[Any, Moment]]:
    times = [(packet.stream_index, media_time(packet)) for packet in packets]
    newest = dict(sorted(times))  # the last of each stream wins
    for packet, (index, at) in zip(packets, times, strict=True):
        yield packet, now.earlier(newest[index] - at)
