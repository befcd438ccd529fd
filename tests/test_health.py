"""What a role says of itself over HTTP, and to whom."""

from __future__ import annotations

import psutil
import pytest
from aiohttp import ClientSession

from streamer.config import HealthSettings
from streamer.errors import ConfigError
from streamer.health import Health, HealthServer
from streamer.metrics import Metrics

ANY_PORT = HealthSettings(port=0)


async def get(port: int, path: str, **headers: str) -> tuple[int, str, str]:
    """Status, text and content type of one answer."""
    async with ClientSession() as client, client.get(f"http://127.0.0.1:{port}{path}", headers=headers) as answer:
        return answer.status, await answer.text(), answer.headers["Content-Type"]


async def test_a_role_lives_before_it_is_ready_and_says_why_it_is_not() -> None:
    health = Health()
    async with HealthServer(ANY_PORT, health=health, metrics=Metrics("align")) as server:
        assert (await get(server.port, "/livez"))[:2] == (200, "ok\n")
        assert (await get(server.port, "/readyz"))[:2] == (503, "not ready: starting\n")
        health.ready()
        assert (await get(server.port, "/readyz"))[:2] == (200, "ok\n")
        health.not_ready("no broker")
        assert (await get(server.port, "/readyz"))[:2] == (503, "not ready: no broker\n")
        assert (await get(server.port, "/livez"))[0] == 200


async def test_metrics_come_in_the_format_that_was_asked_for() -> None:
    metrics = Metrics("align")
    metrics.read.labels("align", "frames").inc(3)
    async with HealthServer(ANY_PORT, health=Health(), metrics=metrics) as server:
        _, plain, kind = await get(server.port, "/metrics")
        assert kind.startswith("text/plain")
        assert 'streamer_records_read_total{stage="align",topic="frames"} 3.0' in plain
        _, text, kind = await get(server.port, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert kind.startswith("application/openmetrics-text")
        assert text.endswith("# EOF\n")


async def test_it_listens_on_loopback_only() -> None:
    async with HealthServer(ANY_PORT, health=Health(), metrics=Metrics("align")) as server:
        listening = [c.laddr for c in psutil.Process().net_connections("tcp") if c.status == psutil.CONN_LISTEN]
        assert {address.ip for address in listening if address.port == server.port} == {"127.0.0.1"}


async def test_roles_on_one_machine_listen_on_neighbouring_ports() -> None:
    settings = HealthSettings(port=20_000)
    assert [HealthServer(settings, health=Health(), metrics=Metrics("align"), index=n).port for n in (0, 1, 5)] == [20_000, 20_001, 20_005]


async def test_a_taken_port_is_our_configuration_and_named() -> None:
    async with HealthServer(ANY_PORT, health=Health(), metrics=Metrics("align")) as first:
        settings = HealthSettings(port=first.port - 5)
        with pytest.raises(ConfigError, match=f"port {first.port}: it is taken"):
            async with HealthServer(settings, health=Health(), metrics=Metrics("deliver"), index=5):
                pass


async def test_a_host_that_is_not_ours_is_our_configuration() -> None:
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        async with HealthServer(HealthSettings(host="192.0.2.1"), health=Health(), metrics=Metrics("align")):
            pass
