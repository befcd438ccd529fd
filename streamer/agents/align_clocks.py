"""What the aligner's worker tells of its sources' clocks: gauges of the worst, and a line in the log for each that goes astray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from streamer.config import AlignSettings
from streamer.events import SECOND, Event, Micros, Modality, Track
from streamer.metrics import Metrics
from streamer.stages.clocks import Clocks, Estimate, Limits, Look

MOST_LINES = 10  # at once: where the broker's clock is wrong, every source's seems to be

log = structlog.get_logger()


def clocks_of(settings: AlignSettings) -> Clocks:
    """An estimator with the limits of the configuration."""
    return Clocks(Limits(offset=Micros(settings.clock_offset), drift=settings.clock_drift_ppm))


@dataclass(slots=True)
class ClockWatch:
    """`see` is the estimator's own: it is called for every event."""

    settings: AlignSettings
    metrics: Metrics
    see: Callable[[Event], None] = field(init=False)
    _clocks: Clocks = field(init=False)
    _steps: dict[Modality, int] = field(init=False)

    def __post_init__(self) -> None:
        self.drop()

    @property
    def clocks(self) -> Clocks:
        """The estimator."""
        return self._clocks

    def drop(self) -> None:
        """Forget every source."""
        self._clocks = clocks_of(self.settings)
        self._steps = dict.fromkeys(Modality, 0)
        self.see = self._clocks.see

    def gauge(self, now: Micros) -> None:
        """Every second, say; little is done more often than there is something new."""
        if look := self._clocks.look(now):
            self._show(look)
            for track, estimate, beyond in look.changed[:MOST_LINES]:
                _tell(track, estimate, beyond)
            if more := look.changed[MOST_LINES:]:
                log.warning("and more clocks went astray or came back: see `streamer align inspect`", clocks=len(more))

    def _show(self, look: Look) -> None:
        for modality, worst in look.worst.items():
            self.metrics.clock_offset.labels(modality.value).set(worst.offset / SECOND)
            self.metrics.clock_drift.labels(modality.value).set(worst.drift)
            self.metrics.clocks_off.labels(modality.value).set(worst.beyond)
            self.metrics.clock_steps.labels(modality.value).inc(max(0, worst.steps - self._steps[modality]))
            self._steps[modality] = worst.steps


def _tell(track: Track, estimate: Estimate, beyond: bool) -> None:
    drift = None if estimate.drift is None else round(estimate.drift)
    tell, what = (log.warning, "a sensor clock is off") if beyond else (log.info, "a sensor clock is back")
    ahead = round(estimate.offset / SECOND, 3)
    tell(what, session=track.session, modality=track.modality.value, source=track.source, ahead_s=ahead, drift_ppm=drift)
