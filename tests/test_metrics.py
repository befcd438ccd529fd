"""What a scrape shows of a role's readiness."""

from __future__ import annotations

from streamer.config import HealthSettings
from streamer.health import Health, HealthServer
from streamer.metrics import Metrics


def test_a_scrape_says_whether_the_role_is_ready() -> None:
    health, metrics = Health(), Metrics("align")
    HealthServer(HealthSettings(port=0), health=health, metrics=metrics)

    def shown() -> float | None:
        return metrics.registry.get_sample_value("streamer_ready", {"stage": "align"})

    assert shown() == 0
    health.ready()
    assert shown() == 1
    health.not_ready("no broker")
    assert shown() == 0
