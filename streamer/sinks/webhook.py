"""Signed POST (Standard Webhooks). The body is the alert as it stands in the topic; neither it nor the secret is logged.

The url comes from the operator's own file, so the rule is short: https, or http on loopback (elsewhere only with
`allow_http`); no login inside; and `address.py` says which addresses may be reached, asked again for every connection, so
that a name may change its mind. Redirects are not followed; proxies, cookies and .netrc are not used.
"""

from __future__ import annotations

import asyncio
import binascii
import socket
from datetime import UTC, datetime

import aiohttp
from aiohttp.abc import AbstractResolver
from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook
from yarl import URL

from streamer.config import WebhookSinkSettings
from streamer.errors import BadRecord, ConfigError, Reason
from streamer.events import SECOND, Micros
from streamer.sinks.address import literal, means_this_machine, trouble
from streamer.sinks.sink import Delivery, Later
from streamer.stages.deliver import Answer, answer, wait_for


class WebhookSink:
    """Use as `async with`. Raises ConfigError for a url or a secret that cannot be used. `resolver` looks up names (the system's)."""

    def __init__(self, settings: WebhookSinkSettings, secret: str | None, *, resolver: AbstractResolver | None = None) -> None:
        self._url = checked_url(settings)
        self._signer = signer(settings, secret)
        self._settings, self._resolver = settings, resolver
        self._local = means_this_machine(self._url.host or "")
        self._client: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> WebhookSink:
        connector = aiohttp.TCPConnector(socket_factory=self._socket, resolver=self._resolver)
        self._client = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=None), trust_env=False
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client:
            await self._client.close()

    async def send(self, delivery: Delivery) -> None:
        """POST it. The answer's body is never read."""
        now = datetime.now(tz=UTC)
        try:
            async with asyncio.timeout(self._settings.timeout / SECOND):
                status, wait = await self._post(delivery, now)
        except (aiohttp.ClientError, OSError) as exc:  # TimeoutError is an OSError
            why = f": {exc.__cause__}" if isinstance(exc, aiohttp.ClientConnectorError) else ""
            raise Later(f"no answer: {type(exc).__name__}{why}") from exc
        meaning = answer(status)
        if meaning is Answer.LATER:
            raise Later(f"answered {status}", after=wait_for(status, wait, Micros(round(now.timestamp() * SECOND))))
        if meaning is Answer.NEVER:
            raise BadRecord(Reason.REFUSED, f"the receiver answered {status}")

    async def _post(self, delivery: Delivery, now: datetime) -> tuple[int, str | None]:
        """The answer's status and its Retry-After."""
        if self._client is None:
            raise RuntimeError("use WebhookSink as `async with`")
        headers = {
            "content-type": "application/json",
            "user-agent": "streamer",
            "webhook-id": delivery.key,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(delivery.key, now, delivery.body.decode()),
        }
        async with self._client.post(self._url, data=delivery.body, headers=headers, allow_redirects=False) as response:
            return response.status, response.headers.get("retry-after")

    def _socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """A socket for an address that a name led to. Raises OSError for one that may not be reached: the next is tried."""
        family, kind, protocol, _, place = info
        found = literal(str(place[0]))
        if found is None or (why := trouble(found, private=self._settings.allow_private, local=self._local)):
            raise OSError(why if found else f"{place[0]} is no address")
        return socket.socket(family, kind, protocol)


def checked_url(settings: WebhookSinkSettings) -> URL:
    """The url, if the rule above allows it. Raises ConfigError, which names the sink but shows no login and no path."""
    where = f"deliver.sinks {settings.name}: url"
    try:
        url = URL(settings.url)
    except ValueError:
        raise ConfigError(f"{where}: must be https://HOST[:PORT]/PATH (or http:// on this machine) and name a host") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"{where}: must begin with https:// (or http:// on this machine) and name a host")
    if url.user is not None or url.password is not None:
        raise ConfigError(f"{where}: must not hold a login")
    local = means_this_machine(url.host)
    if (address := literal(url.host)) and (why := trouble(address, private=settings.allow_private, local=local)):
        raise ConfigError(f"{where}: {why}")
    if url.scheme == "http" and not local and not settings.allow_http:
        raise ConfigError(f"{where}: plain http leaves this machine; use https, or set allow_http: true")
    return url


def shown_url(url: str) -> str:
    """Scheme and host: a path or a query may be the receiver's secret, and where there is an @, a part before it may be a login."""
    try:
        parts = URL(url)
        host = parts.host_port_subcomponent
    except ValueError:
        return "..."
    if not host or "@" in url:
        return f"{parts.scheme}://..." if parts.scheme in ("http", "https") else "..."
    return f"{parts.scheme}://{host}/..."


def signer(settings: WebhookSinkSettings, secret: str | None) -> Webhook:
    """What signs with the secret. Raises ConfigError, which names the variable that should hold it."""
    where = f"deliver.sinks {settings.name}: the variable {settings.secret_env}"
    if not secret:
        raise ConfigError(f"{where} is not set; it holds the secret, whsec_...")
    try:
        return Webhook(secret)
    except (binascii.Error, ValueError, RuntimeError, EmptyWebhookSecretError):
        raise ConfigError(f"{where} does not hold a secret of Standard Webhooks (whsec_ and base64)") from None
