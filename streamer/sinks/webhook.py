"""Signed POST (Standard Webhooks). The body is the alert as it stands in the topic; neither it nor the secret is logged.

The address comes from the operator's own file, so the rule is short: https, or http on loopback (elsewhere only with
`allow_http`); no login inside; no literal address that is link-local (cloud metadata), multicast or unspecified,
however it is wrapped in IPv6. Redirects are not followed; proxies and .netrc of the environment are not used.
"""

from __future__ import annotations

import binascii
import ipaddress
from datetime import UTC, datetime

import httpx
from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook

from streamer.config import WebhookSinkSettings
from streamer.errors import BadRecord, ConfigError, Reason
from streamer.events import SECOND, Micros
from streamer.sinks.sink import Delivery, Later
from streamer.stages.deliver import Answer, answer, retry_after

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class WebhookSink:
    """Use as `async with`. Raises ConfigError for an address or a secret that cannot be used."""

    def __init__(self, settings: WebhookSinkSettings, secret: str | None) -> None:
        self._url = checked_url(settings)
        self._signer = _signer(settings, secret)
        self._client = httpx.AsyncClient(timeout=settings.timeout / SECOND, follow_redirects=False, trust_env=False)

    async def __aenter__(self) -> WebhookSink:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def send(self, delivery: Delivery) -> None:
        """POST it. The answer's body is never read."""
        now = datetime.now(tz=UTC)
        headers = {
            "content-type": "application/json",
            "user-agent": "streamer",
            "webhook-id": delivery.key,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(delivery.key, now, delivery.body.decode()),
        }
        try:
            async with self._client.stream("POST", self._url, content=delivery.body, headers=headers) as response:
                status, wait = response.status_code, response.headers.get("retry-after")
        except httpx.TransportError as exc:
            raise Later(f"no answer: {type(exc).__name__}") from exc
        meaning = answer(status)
        if meaning is Answer.LATER:
            raise Later(f"answered {status}", after=retry_after(wait, Micros(round(now.timestamp() * SECOND))))
        if meaning is Answer.NEVER:
            raise BadRecord(Reason.REFUSED, f"the receiver answered {status}")


def checked_url(settings: WebhookSinkSettings) -> httpx.URL:
    """The address, if the rule above allows it. Raises ConfigError, which names the sink but shows no login."""
    where = f"deliver.sinks {settings.name}: url"
    try:
        url = httpx.URL(settings.url)
    except httpx.InvalidURL as exc:
        raise ConfigError(f"{where}: {exc}") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigError(f"{where}: must begin with https:// (or http:// on this machine) and name a host")
    if url.userinfo:
        raise ConfigError(f"{where}: must not hold a login")
    address = _address(url.host)
    if address and (address.is_link_local or address.is_multicast or address.is_unspecified):
        raise ConfigError(f"{where}: {address} is no place to send alerts to")
    local = address.is_loopback if address else url.host == "localhost"
    if url.scheme == "http" and not local and not settings.allow_http:
        raise ConfigError(f"{where}: plain http leaves this machine; use https, or set allow_http: true")
    return url


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """A literal address, unwrapped: `ipaddress` calls a NAT64 loopback global."""
    try:
        found = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        return inner or found
    return found


def _signer(settings: WebhookSinkSettings, secret: str | None) -> Webhook:
    where = f"deliver.sinks {settings.name}: the variable {settings.secret_env}"
    if not secret:
        raise ConfigError(f"{where} is not set; it holds the secret, whsec_...")
    try:
        return Webhook(secret)
    except (binascii.Error, ValueError, RuntimeError, EmptyWebhookSecretError):
        raise ConfigError(f"{where} does not hold a secret of Standard Webhooks (whsec_ and base64)") from None
