"""Gauges of running roles that alerts rest on: how far behind the watermarks are, and how many sources should deliver."""

from __future__ import annotations

import asyncio
from pathlib import Path

from streamer.agents import ingest
from streamer.config import KafkaSettings
from streamer.events import SECOND, Micros, SessionId
from tests.agents.test_align import a_frame, aligning, now
from tests.agents.test_ingest import RECORDED, config, metric, runtime
from tests.sources.media import film


async def test_align_tells_how_far_behind_a_modality_is_and_how_late_its_events_came(tansu: KafkaSettings) -> None:
    async with aligning(tansu) as (producer, _, role):
        await producer.send([a_frame(SessionId("gate"), Micros(now() - 2 * SECOND))])
        async with asyncio.timeout(20):
            while metric(role, "streamer_watermark_delay_seconds", modality="frames") < 2.3:  # two seconds and the bound
                await asyncio.sleep(0.05)
        assert metric(role, "streamer_watermark_delay_seconds", modality="audio") == 0
        assert 1.9 < metric(role, "streamer_arrival_delay_seconds_sum", modality="frames") < 5


async def test_a_recording_that_is_over_is_not_missed_and_one_that_failed_is(tansu: KafkaSettings, tmp_path: Path) -> None:
    good, bad = film(tmp_path / "good.mp4"), film(tmp_path / "bad.mp4")
    sources = [{"name": "good", "url": str(good), **RECORDED}, {"name": "bad", "url": str(bad), **RECORDED}]
    role = runtime(config(tansu, yard=sources))
    jobs = ingest.plan(role.config, {}, Micros(0))
    bad.unlink()  # gone between the check and the reading
    feeds = [ingest.Feed(ingest.partial(ingest.items, job), limit=ingest.WAITING, lossy=False, name=job.settings.name) for job in jobs]
    await ingest.serve(role, jobs, feeds)
    assert (metric(role, "streamer_sources_up"), metric(role, "streamer_sources_configured")) == (0, 1)
