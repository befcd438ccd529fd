"""`/metrics`, `/livez` and `/readyz` on 127.0.0.1. Liveness never depends on the broker; readiness says what is missing."""

from __future__ import annotations

import errno

from aiohttp import web
from prometheus_client import exposition

from streamer.config import HealthSettings
from streamer.errors import ConfigError
from streamer.metrics import Metrics


class Health:
    """What this process says of itself. Not ready until `ready()`; `not_ready(why)` takes it back, with the reason."""

    def __init__(self) -> None:
        self.why: str | None = "starting"

    def ready(self) -> None:
        """The process does its work."""
        self.why = None

    def not_ready(self, why: str) -> None:
        """The process cannot do its work for now: `why` is what `/readyz` answers with 503."""
        self.why = why

    def tell(self, why: str | None) -> None:
        """`ready()` for None, else `not_ready(why)`."""
        self.why = why


class HealthServer:
    """The only listener of a role. Use as `async with`; `port` is the one it really has. Raises ConfigError where it cannot listen."""

    def __init__(self, settings: HealthSettings, *, health: Health, metrics: Metrics, index: int = 0) -> None:
        self._settings, self._health, self._metrics = settings, health, metrics
        metrics.ready.labels(metrics.stage).set_function(lambda: health.why is None)
        self.port = settings.port + index if settings.port else 0
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> HealthServer:
        app = web.Application()
        app.add_routes([web.get("/metrics", self._serve_metrics), web.get("/livez", self._livez), web.get("/readyz", self._readyz)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._settings.host, self.port).start()
        except OSError as exc:
            await self._runner.cleanup()
            raise ConfigError(self._refused(exc)) from exc
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner:
            await self._runner.cleanup()

    def _refused(self, exc: OSError) -> str:
        where = f"health: cannot listen on {self._settings.host} port {self.port}"
        if exc.errno == errno.EADDRINUSE:
            return f"{where}: it is taken, perhaps by another streamer; choose another health.port (role number n has port + n)"
        return f"{where}: {exc.strerror}"

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        render, content_type = exposition.choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=render(self._metrics.registry), headers={"Content-Type": content_type})

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        if self._health.why is None:
            return web.Response(text="ok\n")
        return web.Response(status=503, text=f"not ready: {self._health.why}\n")
