"""Signed webhooks against a real receiver."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st

from streamer.config import WebhookSinkSettings
from streamer.errors import BadRecord, ConfigError, Reason
from streamer.events import MILLISECOND, Micros
from streamer.sinks.sink import Later
from streamer.sinks.webhook import WebhookSink, checked_url, shown_url
from streamer.stages.deliver import LONGEST_WAIT, Answer, answer, retry_after
from tests.sinks.receiver import SECRET, Receiver
from tests.sinks.test_contract import delivery


def settings(url: str, **more: object) -> WebhookSinkSettings:
    return WebhookSinkSettings.model_validate({"name": "hook", "url": url, "secret_env": "HOOK_SECRET"} | more)


async def test_the_body_is_the_alert_as_it_stands_in_the_topic_under_its_key() -> None:
    async with Receiver() as receiver, WebhookSink(settings(receiver.url), SECRET) as sink:
        sent = delivery(revision=3)
        await sink.send(sent)
    assert receiver.bodies == {f"{sent.alert.id}.3": sent.body} and receiver.forged == 0


async def test_a_wrong_secret_waits_for_the_operator_and_loses_no_alert() -> None:
    async with Receiver() as receiver, WebhookSink(settings(receiver.url), "whsec_d3Jvbmc=") as sink:
        with pytest.raises(Later, match="401") as raised:
            await sink.send(delivery())
    assert raised.value.after == LONGEST_WAIT and receiver.forged == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 599])
async def test_these_answers_mean_later(status: int) -> None:
    async with Receiver(answers=[(status, {"retry-after": "7"})]) as receiver, WebhookSink(settings(receiver.url), SECRET) as sink:
        with pytest.raises(Later) as raised:
            await sink.send(delivery())
    assert raised.value.after == 7


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 401, 403, 404])
async def test_a_wrong_address_or_secret_means_as_late_as_may_be_and_no_redirect_is_followed(status: int) -> None:
    async with Receiver() as receiver, WebhookSink(settings(receiver.url), SECRET) as sink:
        receiver.answers.append((status, {"location": receiver.url, "retry-after": "1"}))
        with pytest.raises(Later, match=str(status)) as raised:
            await sink.send(delivery())
        assert len(receiver.requests) == 1 and raised.value.after == LONGEST_WAIT


@pytest.mark.parametrize("status", [400, 409, 410, 413, 422])
async def test_these_answers_mean_never(status: int) -> None:
    async with Receiver(answers=[(status, {})]) as receiver, WebhookSink(settings(receiver.url), SECRET) as sink:
        with pytest.raises(BadRecord, match=str(status)) as raised:
            await sink.send(delivery())
    assert raised.value.reason is Reason.REFUSED


async def test_no_answer_means_later() -> None:
    async with Receiver(answers=[(0, {})]) as receiver, WebhookSink(settings(receiver.url), SECRET) as sink:
        with pytest.raises(Later, match="no answer"):
            await sink.send(delivery())
    async with WebhookSink(settings(receiver.url), SECRET) as sink:
        with pytest.raises(Later, match="Connect call failed"):
            await sink.send(delivery())


async def test_a_receiver_that_does_not_answer_in_time_means_later() -> None:
    async with Receiver(hold=asyncio.Event()) as receiver:
        async with WebhookSink(settings(receiver.url, timeout="100ms"), SECRET) as sink:
            with pytest.raises(Later, match="TimeoutError"):
                await sink.send(delivery())
        assert receiver.hold
        receiver.hold.set()


async def test_a_receiver_that_drips_its_headers_does_not_hold_the_sink_past_its_timeout() -> None:
    dripped = 0

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dripped
        writer.write(b"HTTP/1.1 200 OK\r\n")
        with suppress(OSError):
            while True:
                writer.write(b"x-drip: %d\r\n" % dripped)
                await writer.drain()
                dripped += 1
                await asyncio.sleep(0.02)

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with asyncio.timeout(3), WebhookSink(settings(url, timeout="300ms"), SECRET) as sink:
            with pytest.raises(Later, match="TimeoutError"):
                await sink.send(delivery())
        server.close()
    assert dripped > 3


class Names(AbstractResolver):
    """A name server that says `address` whatever it is asked."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        kind = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        return [ResolveResult(hostname=host, host=self.address, port=port, family=kind, proto=0, flags=0)]

    async def close(self) -> None:
        pass


async def test_a_name_that_leads_to_a_private_address_is_not_connected_to_unless_allowed() -> None:
    async with Receiver() as receiver:
        url = f"http://desk.example:{receiver.port}/hook"
        async with WebhookSink(settings(url, allow_http=True), SECRET, resolver=Names("127.0.0.1")) as sink:
            with pytest.raises(Later, match="allow_private"):
                await sink.send(delivery())
        assert receiver.requests == []
        async with WebhookSink(settings(url, allow_http=True, allow_private=True), SECRET, resolver=Names("127.0.0.1")) as sink:
            await sink.send(delivery())
        assert len(receiver.accepted) == 1


@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "64:ff9b::a9fe:a9fe", "0.0.0.0", "ff02::1", "fd00:ec2::254"])
async def test_a_name_that_leads_to_a_forbidden_address_is_never_connected_to(address: str) -> None:
    async with WebhookSink(settings("https://desk.example/", allow_private=True), SECRET, resolver=Names(address)) as sink:
        with pytest.raises(Later, match="no place"):
            await sink.send(delivery())


async def test_plain_http_to_localhost_does_not_leave_this_machine_whatever_the_name_says() -> None:
    async with WebhookSink(settings("http://localhost:1/", allow_private=True), SECRET, resolver=Names("10.0.0.7")) as sink:
        with pytest.raises(Later, match="not this machine"):
            await sink.send(delivery())


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://example.org/x", "plain http"),
        ("https://user:pass@/word@example.org/", "login|host"),
        ("https://example.org:pass@/", "login|host"),
        ("https://10.0.0.7/x", "allow_private: true"),
        ("https://[fd00::7]/x", "allow_private: true"),
        ("ftp://example.org/x", "https"),
        ("https://", "host"),
        ("no address", "https"),
        ("https://user:pass@example.org/", "login"),
        ("https://169.254.169.254/latest/meta-data", "no place"),
        ("https://[fe80::1]/", "no place"),
        ("https://[64:ff9b::a9fe:a9fe]/", "no place"),
        ("https://[::ffff:169.254.169.254]/", "no place"),
        ("https://0.0.0.0/", "no place"),
        ("https://2852039166/", "no place"),
        ("https://0xa9fea9fe/", "no place"),
        ("https://0251.0376.0251.0376/", "no place"),
        ("http://2130706434.example.org/", "plain http"),
        ("https://239.1.2.3/", "no place"),
        ("http://[64:ff9b::8.8.8.8]/", "plain http"),
    ],
)
def test_an_address_that_is_not_allowed_is_refused_at_the_start(url: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as raised:
        checked_url(settings(url))
    assert "pass@" not in str(raised.value)


@pytest.mark.parametrize("url", ["https://example.org/x", "http://127.0.0.1:1/x", "http://[::1]:1/", "http://localhost/"])
def test_an_address_that_is_allowed(url: str) -> None:
    assert str(checked_url(settings(url))) == url


def test_plain_http_elsewhere_is_allowed_on_request() -> None:
    assert checked_url(settings("http://example.org/x", allow_http=True)).host == "example.org"


def test_a_receiver_on_a_private_network_is_allowed_on_request() -> None:
    assert checked_url(settings("https://10.0.0.7:8443/x", allow_private=True)).host == "10.0.0.7"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://desk.example/T0K3N?token=T0K3N", "https://desk.example/..."),
        ("https://desk.example:8443/T0K3N#T0K3N", "https://desk.example:8443/..."),
        ("https://viewer:T0K3N@desk.example/", "https://..."),
        ("https://viewer:12/T0K3N@desk.example/", "https://..."),
        ("https://viewer:T0/K3N@desk.example/", "..."),
        ("https://[::1]:1/T0K3N", "https://[::1]:1/..."),
        ("T0K3N", "..."),
        ("https://", "https://..."),
    ],
)
def test_of_a_url_only_scheme_and_host_are_shown(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize("secret", [None, "", "whsec_", "whsec_!", "§"])
def test_a_secret_that_cannot_sign_is_refused_and_not_shown(secret: str | None) -> None:
    with pytest.raises(ConfigError, match="HOOK_SECRET") as raised:
        WebhookSink(settings("https://example.org/"), secret)
    assert not secret or secret not in str(raised.value).replace("(whsec_ and", "").replace("whsec_...", "")


@given(st.integers(100, 599))
def test_only_2xx_is_yes(status: int) -> None:
    assert (answer(status) is Answer.YES) == (200 <= status <= 299)


@given(st.one_of(st.none(), st.text(max_size=40), st.integers(0, 10**12).map(str)))
def test_a_retry_after_header_gives_seconds_within_bounds_or_nothing(value: str | None) -> None:
    wait = retry_after(value, Micros(1_795_000_000_000 * MILLISECOND))
    assert wait is None or 0 <= wait <= LONGEST_WAIT


def test_a_retry_after_date_counts_from_now() -> None:
    now = Micros(1_445_412_480 * 1_000_000)
    assert retry_after("Wed, 21 Oct 2015 07:28:10 GMT", now) == 10
