"""Signed webhooks against a real receiver."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.config import WebhookSinkSettings
from streamer.errors import BadRecord, ConfigError, Reason
from streamer.events import MILLISECOND, Micros
from streamer.sinks.sink import Later
from streamer.sinks.webhook import WebhookSink, checked_url
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


async def test_a_wrong_secret_is_refused_by_the_receiver_and_never_tried_again() -> None:
    async with Receiver() as receiver, WebhookSink(settings(receiver.url), "whsec_d3Jvbmc=") as sink:
        with pytest.raises(BadRecord) as raised:
            await sink.send(delivery())
    assert raised.value.reason is Reason.REFUSED and "401" in raised.value.detail and receiver.forged == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 599])
async def test_these_answers_mean_later(status: int) -> None:
    async with Receiver(answers=[(status, {"retry-after": "7"})]) as receiver, WebhookSink(settings(receiver.url), SECRET) as sink:
        with pytest.raises(Later) as raised:
            await sink.send(delivery())
    assert raised.value.after == 7


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308, 400, 401, 403, 404, 410, 413, 422])
async def test_these_answers_mean_never_and_no_redirect_is_followed(status: int) -> None:
    async with Receiver() as receiver, WebhookSink(settings(receiver.url), SECRET) as sink:
        receiver.answers.append((status, {"location": receiver.url}))
        with pytest.raises(BadRecord, match=str(status)):
            await sink.send(delivery())
        assert len(receiver.requests) == 1


async def test_no_answer_means_later() -> None:
    async with Receiver(answers=[(0, {})]) as receiver, WebhookSink(settings(receiver.url), SECRET) as sink:
        with pytest.raises(Later, match="no answer"):
            await sink.send(delivery())
    async with WebhookSink(settings(receiver.url), SECRET) as sink:
        with pytest.raises(Later, match="ConnectError"):
            await sink.send(delivery())


async def test_a_receiver_that_does_not_answer_in_time_means_later() -> None:
    async with Receiver(hold=asyncio.Event()) as receiver:
        async with WebhookSink(settings(receiver.url, timeout="100ms"), SECRET) as sink:
            with pytest.raises(Later, match="ReadTimeout"):
                await sink.send(delivery())
        assert receiver.hold
        receiver.hold.set()


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://example.org/x", "plain http"),
        ("http://10.0.0.7/x", "plain http"),
        ("ftp://example.org/x", "https"),
        ("https://", "host"),
        ("no address", "https"),
        ("https://user:pass@example.org/", "login"),
        ("https://169.254.169.254/latest/meta-data", "no place"),
        ("https://[fe80::1]/", "no place"),
        ("https://[64:ff9b::a9fe:a9fe]/", "no place"),
        ("https://[::ffff:169.254.169.254]/", "no place"),
        ("https://0.0.0.0/", "no place"),
        ("https://239.1.2.3/", "no place"),
        ("http://[64:ff9b::8.8.8.8]/", "plain http"),
    ],
)
def test_an_address_that_is_not_allowed_is_refused_at_the_start(url: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as raised:
        checked_url(settings(url))
    assert "pass@" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["https://example.org/x", "https://10.0.0.7:8443/x", "http://127.0.0.1:1/x", "http://[::1]:1/", "http://localhost/"]
)
def test_an_address_that_is_allowed(url: str) -> None:
    assert str(checked_url(settings(url))) == url


def test_plain_http_elsewhere_is_allowed_on_request() -> None:
    assert checked_url(settings("http://example.org/x", allow_http=True)).host == "example.org"


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
