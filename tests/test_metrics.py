"""What a scrape shows of a role's readiness."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from streamer.config import HealthSettings
from streamer.health import Health, HealthServer
from streamer.metrics import Metrics, observe_all


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


@given(st.lists(st.sampled_from([0.0, 0.1, 0.25, 1.0, 1.5, 1e9]) | st.floats(0, 4), max_size=20))
def test_many_observations_at_once_are_what_they_are_one_by_one(amounts: Sequence[float]) -> None:
    registries = CollectorRegistry(), CollectorRegistry()
    together, alone = (Histogram("took", "Seconds.", buckets=(0.1, 0.25, 1.0, 2.0), registry=registry) for registry in registries)
    observe_all(together, amounts)
    for amount in amounts:
        alone.observe(amount)
    ours, plain = (
        {(sample.name, sample.labels.get("le")): sample.value for one in registry.collect() for sample in one.samples}
        for registry in registries
    )
    del ours["took_created", None], plain["took_created", None]
    assert ours.pop(("took_sum", None)) == pytest.approx(plain.pop(("took_sum", None)))
    assert ours == plain
