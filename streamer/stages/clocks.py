"""Sensor clocks: how far a source's clock is from the broker's, and how fast it runs away, from arrival against event time.

Laws:
1. Nothing is ever applied: no event, window or alert depends on what is estimated here. What is known of a clock is for the
   configuration to say (`offsets`, see `offsets.py`).
2. A function of the log: of (arrival, end) of each record, not of when it is read. Reading again changes nothing.
3. A record can only come later than the network allows, never earlier: of each `INTERVAL` of arrival the smallest delay
   counts, so queues of less than an interval leave no trace.
4. Drift is the median slope of pairs that lie half the kept stretch apart (Theil's incomplete method); a quarter of the
   intervals may say anything.
5. An interval that is off the line by more than `STEP` does not count, until `AGREE` in a row say the same: then the clock
   was set (or the path changed for good: from one end of it nobody can tell which), and learning begins anew.
6. Memory is bounded: `POINTS` a track, `MOST_TRACKS` tracks, none that has been silent for `SPAN`.

An offset is told against the typical delay of the worker's tracks of one modality: their median, but nothing outside of
0 to `TYPICAL`. So a lone source whose clock is an hour off is found, one that is half a second off is not told from its path.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from streamer.events import MILLISECOND, SECOND, Event, Micros, Modality, Pace, Track

INTERVAL = Micros(30 * SECOND)
POINTS = 30
SPAN = Micros(POINTS * INTERVAL)  # 15 min
ENOUGH = 10  # intervals before drift is told: 5 min
STEP = Micros(500 * MILLISECOND)
NEAR = Micros(200 * MILLISECOND)  # intervals that are no further apart than this say the same
AGREE = 3  # also the intervals before an offset is told
TYPICAL = Micros(1 * SECOND)
MOST_TRACKS = 65_536
PPM = 1_000_000
NEVER = Micros(1 << 62)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Beyond which a clock is reported. It is taken back below half of them."""

    offset: Micros
    drift: float  # ppm


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """One source's clock. `offset` > 0: it is ahead; `drift` > 0, in ppm: it runs fast; None: too early to tell.

    `delay`: the least that its records need from their end to their arrival, which holds both path and clock.
    """

    delay: Micros
    offset: Micros
    drift: float | None
    steps: int
    beyond: bool
    """`beyond`: beyond the limits, or it was and is not back within half of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worst:
    """One modality: the offset and the drift that are furthest from 0, how many clocks are beyond the limits, and steps since the start."""

    offset: Micros
    drift: float
    beyond: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a look at all clocks found. `changed`: those that went beyond the limits, or came back, since the look before."""

    worst: dict[Modality, Worst]
    changed: tuple[tuple[Track, Estimate, bool], ...]


class SourceClock:
    """One track. `low`, `at`: the smallest delay of the interval that ends at `until`, and its arrival."""

    __slots__ = ("_ats", "_lows", "_odd", "at", "delay", "drift", "low", "reported", "steps", "until")

    def __init__(self, until: Micros, low: int, at: Micros) -> None:
        self.until, self.low, self.at = until, low, at
        self.delay: int | None = None
        self.drift: float | None = None  # us of delay per us
        self.steps = 0
        self.reported = False
        self._ats, self._lows = array("q"), array("q")
        self._odd: list[tuple[Micros, int]] = []

    def turn(self, delay: int, arrival: Micros) -> None:
        """A record of a later interval: the one before is complete."""
        self._learn(self.at, self.low)
        self.until, self.low, self.at = _until(arrival), delay, arrival

    def _learn(self, at: Micros, low: int) -> None:
        expected = self._expected(at)
        if expected is not None and abs(low - expected) > STEP:
            if self._odd and abs(low - self._odd[-1][1]) > NEAR:
                self._odd.clear()
            self._odd.append((at, low))
            if len(self._odd) < AGREE:
                return
            self.steps += 1
            self._ats, self._lows = array("q", (at for at, _ in self._odd)), array("q", (low for _, low in self._odd))
        else:
            self._ats.append(at)
            self._lows.append(low)
        self._odd.clear()
        old = sum(1 for then in self._ats if then <= at - SPAN)
        del self._ats[:old], self._lows[:old]
        self._fit()

    def _expected(self, at: Micros) -> float | None:
        """Where the line is at `at`: law 5."""
        if not self._lows:
            return None
        return sorted(self._lows[-3:])[len(self._lows[-3:]) // 2] + (self.drift or 0.0) * (at - self._ats[-1])

    def _fit(self) -> None:
        ats, lows, half = self._ats, self._lows, len(self._ats) // 2
        if len(ats) >= ENOUGH:
            slopes = sorted((lows[i + half] - lows[i]) / (ats[i + half] - ats[i]) for i in range(len(ats) - half))
            self.drift = slopes[len(slopes) // 2]
        else:
            self.drift = None
        if len(ats) >= AGREE:
            slope, newest = self.drift or 0.0, ats[-1]
            self.delay = round(sorted(low + slope * (newest - at) for at, low in zip(ats, lows, strict=True))[len(ats) // 4])


@dataclass(slots=True)
class _Tally:
    """`Worst` in the making."""

    steps: int
    offset: int = 0
    drift: float = 0.0
    beyond: int = 0

    def add(self, offset: int, drift: float, clock: SourceClock) -> None:
        if abs(offset) > abs(self.offset):
            self.offset = offset
        if abs(drift) > abs(self.drift):
            self.drift = drift
        self.beyond += clock.reported
        self.steps += clock.steps

    @property
    def worst(self) -> Worst:
        return Worst(offset=Micros(self.offset), drift=self.drift, beyond=self.beyond, steps=self.steps)


UNWATCHED = SourceClock(NEVER, -NEVER, NEVER)
"""Stands for tracks without a clock of their own: recordings, and transcripts, whose times are those of their sound."""


class Clocks:
    """The clocks of all live cameras and microphones of one worker. See the laws above."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._clocks: dict[Track, SourceClock] = {}
        self._steps = dict.fromkeys(Modality, 0)  # of tracks that were forgotten
        self._looked = -NEVER

    def see(self, event: Event) -> None:
        """One record, whatever becomes of it. For every record: so as little as can be."""
        clock = self._clocks.get(event.track) or self._begin(event)
        delay = event.arrival - event.end
        if event.arrival >= clock.until:
            clock.turn(delay, event.arrival)
        elif delay < clock.low:
            clock.low, clock.at = delay, event.arrival

    def look(self, now: Micros) -> Look | None:
        """What there is to show; None while the look before is younger than an interval, since so little can have changed."""
        if now - self._looked < INTERVAL:
            return None
        self._looked = now
        self._forget()
        tallies = {modality: _Tally(steps=self._steps[modality]) for modality in Modality}
        changed = []
        for track, clock, offset in self._known():
            beyond = self._beyond(clock, offset)
            if clock.reported is not beyond:
                clock.reported = beyond
                changed.append((track, self._estimate(clock, offset), beyond))
            tallies[track.modality].add(offset, _ppm(clock.drift) or 0.0, clock)
        return Look(worst={modality: tally.worst for modality, tally in tallies.items()}, changed=tuple(changed))

    def estimates(self) -> Iterator[tuple[Track, Estimate]]:
        """Every clock of which something is known."""
        for track, clock, offset in self._known():
            yield track, self._estimate(clock, offset)

    def _beyond(self, clock: SourceClock, offset: int) -> bool:
        share = 0.5 if clock.reported else 1.0
        return abs(offset) > share * self.limits.offset or abs(_ppm(clock.drift) or 0.0) > share * self.limits.drift

    def _estimate(self, clock: SourceClock, offset: int) -> Estimate:
        delay, drift, beyond = Micros(clock.delay or 0), _ppm(clock.drift), self._beyond(clock, offset)
        return Estimate(delay=delay, offset=Micros(offset), drift=drift, steps=clock.steps, beyond=beyond)

    def _known(self) -> Iterator[tuple[Track, SourceClock, int]]:
        """Each with its offset: what is typical less what it needs."""
        known = [(track, clock, clock.delay) for track, clock in self._clocks.items() if clock.delay is not None]
        typical = {modality: _typical([delay for track, _, delay in known if track.modality is modality]) for modality in Modality}
        for track, clock, delay in known:
            yield track, clock, typical[track.modality] - delay

    def _begin(self, event: Event) -> SourceClock:
        track = event.track
        if event.pace is not Pace.LIVE or track.modality is Modality.TRANSCRIPTS or len(self._clocks) >= MOST_TRACKS:
            return UNWATCHED
        clock = self._clocks[track] = SourceClock(_until(event.arrival), event.arrival - event.end, event.arrival)
        return clock

    def _forget(self) -> None:
        """Silence is judged in arrival time, as everywhere."""
        oldest = max((clock.until for clock in self._clocks.values()), default=NEVER) - SPAN
        for track, clock in list(self._clocks.items()):
            if clock.until <= oldest:
                self._steps[track.modality] += clock.steps
                del self._clocks[track]


def _ppm(slope: float | None) -> float | None:
    """A clock that runs fast makes delays shrink."""
    return None if slope is None else -slope * PPM


def _until(arrival: Micros) -> Micros:
    return Micros((arrival // INTERVAL + 1) * INTERVAL)


def _typical(delays: list[int]) -> int:
    """The lower median, as far as a path can explain it."""
    return min(max(sorted(delays)[(len(delays) - 1) // 2], 0), TYPICAL) if delays else 0
