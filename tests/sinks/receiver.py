"""A real HTTP receiver on loopback that verifies signatures, keys by webhook-id, and answers what the test asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

SECRET = "whsec_" + "c2VjcmV0LW9mLXRoZS10ZXN0cw=="


@dataclass
class Receiver:
    """`answers` are given first (status, headers), one per request; then 200. `accepted` counts each id's 2xx."""

    answers: list[tuple[int, Mapping[str, str]]] = field(default_factory=list)
    accepted: dict[str, int] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    forged: int = 0
    broken: int = 0
    hold: asyncio.Event | None = None
    port: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def __aenter__(self) -> Receiver:
        app = web.Application()
        app.add_routes([web.post("/hook", self._take)])
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body, key = await request.read(), request.headers["webhook-id"]
        self.requests.append(key)
        try:
            Webhook(SECRET).verify(body, dict(request.headers))
        except WebhookVerificationError:
            self.forged += 1
            return web.Response(status=401)
        if self.hold:
            await self.hold.wait()
        if self.answers:
            status, headers = self.answers.pop(0)
            if status == 0:
                self.broken += 1
                assert request.transport
                request.transport.abort()
            return web.Response(status=status or 500, headers=dict(headers))
        self.accepted[key] = self.accepted.get(key, 0) + 1
        self.bodies[key] = body
        return web.Response(status=200)
