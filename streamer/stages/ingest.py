"""Raw media to events: which pictures are kept, how sound is cut, and what time each has.

Laws
1. A track's times rise: no event starts before the one before it, whatever the camera's clock does.
2. Chunks lie on a grid of one second from the track's first sample; a gap starts a new grid; only a track's (or a grid's)
   last chunk is shorter.
3. No sample is lost and none is repeated, except where time steps back.
4. A picture is kept by its capture time alone, one per slot of 1/fps from the first: jitter and drops shift no other.
5. The same media with the same start give the same events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamer.errors import ConfigError
from streamer.events import MILLISECOND, SECOND, Micros, Modality
from streamer.stages.times import format_time, parse_time

Rgb = NDArray[np.uint8]
Sound = NDArray[np.float32]

RATE = 16_000  # samples per second
CHUNK = RATE  # samples: 1 s
GAP = Micros(100 * MILLISECOND)  # sound further from its place than this starts a new grid
SILENT = Micros(500 * MILLISECOND)  # a camera whose pictures are not wanted says at this pace that it lives
JUMP = Micros(2 * SECOND)  # a clock that is further ahead than this was set anew
ROUNDING = Micros(1 * MILLISECOND)  # containers count in milliseconds: 499 ms is the slot of 500 ms


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """One captured picture; `rgb` is height x width x 3."""

    at: Micros
    rgb: Rgb


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pcm:
    """A stretch of sound: mono, 16 kHz, -1..1."""

    start: Micros
    samples: Sound

    @property
    def end(self) -> Micros:
        """When its last sample is over."""
        return after(self.start, len(self.samples))


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Nothing more of this modality before `until`."""

    modality: Modality
    until: Micros


Take = Picture | Pcm | Progress


def due(take: Take) -> Micros:
    """When a take can exist: a picture at its capture, sound once it is over."""
    match take:
        case Picture():
            return take.at
        case Pcm():
            return take.end
        case Progress():
            return take.until


def after(start: Micros, samples: int) -> Micros:
    """The time `samples` after `start`."""
    return Micros(start + samples * SECOND // RATE)


def start_of(setting: str, *, now: Micros, hop: Micros) -> Micros:
    """A source's `start`: an RFC 3339 time, or `now` rounded up to a hop, so that two runs cut the same windows."""
    if setting == "now":
        return Micros(-(-now // hop) * hop)
    try:
        return parse_time(setting.encode())
    except ValueError as exc:
        raise ConfigError(f'start={setting} {exc}, and not "now"') from exc


def check_live(start: Micros, *, now: Micros, horizon: Micros, skew: Micros, hop: Micros) -> None:
    """At live pace everything from before the horizon would be late; far ahead, nothing would come. Raises ConfigError.

    `now` rounded up to a hop is always near enough: the source waits for it.
    """
    if not now - horizon <= start <= now + max(skew, hop):
        raise ConfigError(
            f"start={format_time(start)} at pace live is {abs(now - start) / SECOND:.0f} s {'before' if start < now else 'after'} now"
            f" (horizon {horizon / SECOND:.0f} s, skew {skew / SECOND:.0f} s): use start: now, or pace: recorded"
        )


class Selector:
    """Which pictures of a track are kept (law 4)."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._first: Micros | None = None
        self._slot = -1
        self._said = Micros(0)

    def want(self, at: Micros) -> bool:
        """Whether the picture captured at `at` is the first of its slot."""
        if self._first is None:
            self._first = at
        slot = int((at - self._first + ROUNDING) * self._fps / SECOND)
        if slot <= self._slot:
            return False
        self._slot, self._said = slot, at
        return True

    def progress(self, at: Micros) -> Progress | None:
        """What an unwanted picture still says: the track lives, and nothing comes before it."""
        if at - self._said < SILENT:
            return None
        self._said = at
        return Progress(modality=Modality.FRAMES, until=at)


class Chunker:
    """Sound in blocks of any length to chunks of one second (laws 2 and 3)."""

    def __init__(self) -> None:
        self._grid: Micros | None = None
        self._done = 0  # samples given out since the grid's start
        self._held = np.empty(0, np.float32)
        self._end: Micros | None = None  # of what was given out: no grid starts before it

    def push(self, start: Micros, samples: Sound) -> Iterator[Pcm]:
        """One block that begins at `start`; deviations up to `GAP` are the clock's, not the sound's."""
        if self._grid is not None and abs(start - self._expected) > GAP:
            yield from self.flush()
        if self._grid is None:
            samples = self._without_past(start, samples)
            if not len(samples):
                return
            self._grid = start if self._end is None else max(start, self._end)
        self._held = np.concatenate([self._held, samples])
        while len(self._held) >= CHUNK:
            yield self._cut(CHUNK)

    def flush(self) -> Iterator[Pcm]:
        """The rest, at the end or before a gap."""
        if len(self._held):
            yield self._cut(len(self._held))
        self._grid, self._done = None, 0

    @property
    def _expected(self) -> Micros:
        return after(self._grid or Micros(0), self._done + len(self._held))

    def _without_past(self, start: Micros, samples: Sound) -> Sound:
        """Where time stepped back: only what is not yet covered."""
        past = 0 if self._end is None else self._end - start
        return samples[max(0, past * RATE // SECOND) :]

    def _cut(self, samples: int) -> Pcm:
        start = after(self._grid or Micros(0), self._done)
        sound, self._held = self._held[:samples], self._held[samples:]
        self._done += samples
        piece = Pcm(start=start, samples=sound)
        self._end = piece.end
        return piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When something came: on our wall clock, which may be set, and on one that only ever goes on."""

    wall: Micros
    steady: Micros

    def earlier(self, by: int) -> Moment:
        """The moment `by` microseconds before."""
        return Moment(wall=Micros(self.wall - by), steady=Micros(self.steady - by))


class CaptureClock:
    """A live source's own time to ours (law 1).

    The packet that travelled fastest tells the true distance between the two clocks, so the distance follows the earliest
    arrivals: quickly down, slowly up (the source's clock may run slow). So neither jitter of arrival nor a network that stands
    still and then gives all at once reaches event time. They are compared anew only where the source's own time jumps: back, or
    further forward than our steady clock went on. Our wall clock set forward is followed at once; set back, slowly: time rises.
    """

    DOWN, UP = 0.02, 0.001  # how fast the distance may change, per unit of time: pictures keep their order

    def __init__(self, *, newer_than: Micros) -> None:
        self.resets = 0  # times that a clock, the source's or ours, was set anew
        self._distance: int | None = None  # our steady clock minus the source's
        self._wall = 0  # our wall clock minus our steady one
        self._before = (Micros(0), Micros(0))
        self._last = newer_than

    def at(self, pts: Micros, came: Moment) -> Micros:
        """Event time of what carries `pts` and came at `came`."""
        passed = max(0, pts - self._before[0])
        distance, wall = came.steady - pts, came.wall - came.steady
        if self._distance is None:
            self._distance, self._wall = distance, wall
        elif self._jumped(pts, came, self._distance):
            self._distance = distance
            self.resets += 1
        else:
            self._distance += _within(distance - self._distance, -self.DOWN * passed, self.UP * passed)
        self._follow(wall, passed)
        self._before = pts, came.steady
        self._last = Micros(max(self._last + 1, pts + self._distance + self._wall))
        return self._last

    def _jumped(self, pts: Micros, came: Moment, distance: int) -> bool:
        """Whether the source's own time went back, or forward further than time did: what comes late is no jump."""
        went, passed = pts - self._before[0], came.steady - self._before[1]
        early = distance - (came.steady - pts)
        return went < -GAP or (went - passed > JUMP and early > JUMP)

    def _follow(self, wall: int, passed: int) -> None:
        off = wall - self._wall
        if off > JUMP:
            self._wall = wall
            self.resets += 1
        else:
            self._wall += _within(off, -self.DOWN * passed, self.DOWN * passed)


def _within(value: int, low: float, high: float) -> int:
    return round(max(low, min(high, value)))
