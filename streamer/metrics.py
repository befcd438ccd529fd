"""Every metric, declared once, with its unit and meaning. Labels come from closed sets: never a session, camera or id.

Who sets what of the families that carry a stage:

* read, read_bytes, lag: each stage that reads a topic. Ingest reads none: its input are `sources_*`.
* written, written_bytes: every stage; deliver's are dead letters only: what it sends to the world is `deliveries`.
* batch, latency: transcribe, align, decide and deliver for each batch that they read; infer for each encoder call (batch) and
  each window (latency). Ingest reads no records, so it has neither.
* checkpoint_age: align, decide and transcribe, which keep checkpoints; infer for its commit of `windows`.
* dead, retries: whoever puts a record aside, or tries again. Both exist from the start on, at 0: the first one is an increase.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streamer import __version__
from streamer.errors import Reason

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SLOW = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 120.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """All metric families of one process, on a registry of its own. Built once by the command line, then handed on."""

    def __init__(self, stage: str, *, registry: CollectorRegistry | None = None) -> None:
        self.registry = r = registry or CollectorRegistry()
        self.stage = stage
        self.build = Gauge("streamer_build_info", "Always 1; the labels say what runs.", ["version", "stage"], registry=r)
        self.build.labels(__version__, stage).set(1)
        self.ready = Gauge("streamer_ready", "1 while /readyz says yes, else 0.", ["stage"], registry=r)
        # several stages: see above
        self.read = Counter("streamer_records_read", "Records read.", ["stage", "topic"], registry=r)
        self.read_bytes = Counter("streamer_read_bytes", "Payload bytes read.", ["stage", "topic"], registry=r)
        self.written = Counter("streamer_records_written", "Records acknowledged by the broker.", ["stage", "topic"], registry=r)
        self.written_bytes = Counter("streamer_written_bytes", "Payload bytes acknowledged.", ["stage", "topic"], registry=r)
        self.dead = Counter("streamer_deadletters", "Records that this stage could not use.", ["stage", "reason"], registry=r)
        self.lag = Gauge("streamer_lag_records", "Records between position and end.", ["stage", "topic"], registry=r)
        self.batch = Histogram("streamer_batch_records", "Records handled together.", ["stage"], buckets=_SIZES, registry=r)
        self.latency = Histogram("streamer_latency_seconds", "Time to handle one batch.", ["stage"], buckets=_FAST, registry=r)
        self.retries = Counter("streamer_retries", "Steps tried again because the world was wrong.", ["stage"], registry=r)
        self.lost = Counter("streamer_lost_records", "Records that retention took before they were read.", ["stage", "topic"], registry=r)
        self.checkpoint_age = Gauge(
            "streamer_checkpoint_age_seconds",
            "Since the last checkpoint was acknowledged, or since partitions came that have none yet.",
            ["stage"],
            registry=r,
        )
        self._ingest(r)
        self._align(r)
        self._infer(r)
        self._decide(r)
        self._begin()

    def _ingest(self, r: CollectorRegistry) -> None:
        """And transcribe."""
        self.reconnects = Counter("streamer_source_reconnects", "Times a camera or microphone was opened again.", registry=r)
        self.sources_configured = Gauge(
            "streamer_sources_configured", "Sources that should deliver now: a recording until its end.", registry=r
        )
        self.sources_up = Gauge("streamer_sources_up", "Sources that deliver now.", registry=r)
        self.source_dropped = Counter("streamer_source_dropped", "Frames and chunks lost because a live source could not wait.", registry=r)
        self.source_faults = Counter("streamer_source_faults", "What was wrong with a source that went on.", ["fault"], registry=r)
        self.segments = Counter("streamer_speech_segments", "Segments by what became of them.", ["outcome"], registry=r)

    def _align(self, r: CollectorRegistry) -> None:
        self.arrival_delay = Histogram(
            "streamer_arrival_delay_seconds", "Arrival of an event minus its end.", ["modality"], buckets=_SLOW, registry=r
        )
        self.watermark_delay = Gauge(
            "streamer_watermark_delay_seconds",
            "How far the slowest active track's watermark is behind its topic's clock, which is now once caught up; 0: no track is active.",
            ["modality"],
            registry=r,
        )
        self.reread = Gauge(
            "streamer_reread_seconds",
            "Arrival time from the oldest record that a restart would read again to the newest that was read; the worst topic.",
            registry=r,
        )
        self.late = Counter("streamer_late_records", "Records beyond the horizon.", ["modality"], registry=r)
        self.duplicates = Counter("streamer_duplicate_records", "Records whose identity was already there.", ["modality"], registry=r)
        self.marks = Counter("streamer_mark_records", "Progress and end marks.", ["modality"], registry=r)
        self.windows = Counter("streamer_windows", "First revisions, by what closed the window.", ["closed_by"], registry=r)
        self.revisions = Counter("streamer_revisions", "Later revisions of windows.", registry=r)
        self.open_windows = Gauge("streamer_open_windows", "Windows not yet out.", registry=r)
        self.held_events = Gauge("streamer_held_events", "References held by the aligner.", registry=r)
        self.clock_offset = Gauge(
            "streamer_clock_offset_seconds",
            "How far the sensor clock that is furthest off is ahead (or behind, below 0). `streamer align inspect` names it.",
            ["modality"],
            registry=r,
        )
        self.clock_drift = Gauge("streamer_clock_drift_ppm", "The sensor clock that runs fastest or slowest.", ["modality"], registry=r)
        self.clocks_off = Gauge("streamer_clocks_off", "Sensor clocks beyond the limits of the configuration.", ["modality"], registry=r)
        self.clock_steps = Counter("streamer_clock_steps", "Sensor clocks that were set, or paths that changed.", ["modality"], registry=r)

    def _infer(self, r: CollectorRegistry) -> None:
        self.scores = Counter("streamer_scores", "Scores written.", registry=r)
        self.added = Histogram(
            "streamer_added_latency_seconds",
            "Append time of the score minus append time of the record that let the watermark pass.",
            buckets=_FAST,
            registry=r,
        )
        self.encoded = Counter("streamer_encoded_events", "Events through an encoder.", ["modality"], registry=r)
        self.encode_seconds = Histogram("streamer_encode_seconds", "One encoder call.", ["modality"], buckets=_FAST, registry=r)
        self.refetched = Counter("streamer_refetched_events", "Events that the cache lacked.", ["modality"], registry=r)
        self.shed = Counter("streamer_frames_shed", "Frames left out because infer was overloaded.", registry=r)
        self.shed_level = Gauge(
            "streamer_shedding_level", "0: every frame is encoded; each level more keeps half as many of a fast camera's.", registry=r
        )
        self.cached = Gauge("streamer_cached_features", "Events whose features are held.", registry=r)

    def _decide(self, r: CollectorRegistry) -> None:
        """And deliver."""
        self.frozen_early = Counter(
            "streamer_frozen_early_windows", "Windows that decide froze before their time: a session's state had no room.", registry=r
        )
        self.ignored_scores = Counter("streamer_ignored_scores", "Scores that came after their window was frozen.", registry=r)
        self.alerts = Counter("streamer_alerts", "Alert revisions.", ["rule", "severity", "state"], registry=r)
        self.deliveries = Counter("streamer_deliveries", "Alerts by sink and outcome.", ["sink", "outcome"], registry=r)

    def _begin(self) -> None:
        """Counters that alerts watch, at 0: Prometheus sees no increase in a series that begins with 1."""
        self.retries.labels(self.stage)
        for reason in Reason:
            self.dead.labels(self.stage, reason.value)


def observe_all(histogram: Histogram, amounts: Sequence[float]) -> None:
    """Each of `amounts`. One at a time they cost as much as reading the records that they come from, and the library has no other way."""
    found = Tally(bisect_left(histogram._upper_bounds, amount) for amount in amounts)
    for at, count in found.items():
        histogram._buckets[at].inc(count)
    histogram._sum.inc(sum(amounts))
