"""Which addresses alerts may be sent to, however they are written or wrapped."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.sinks.address import literal, means_this_machine, trouble, unwrapped

V4 = st.integers(0, 2**32 - 1).map(IPv4Address)


def allowed(text: str, *, private: bool) -> bool:
    return trouble(ip_address(text), private=private, local=False) is None


@pytest.mark.parametrize("text", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_a_public_address_is_allowed(text: str) -> None:
    assert allowed(text, private=False)


@pytest.mark.parametrize(
    "text", ["10.0.0.7", "172.16.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "::1", "fd00::7", "fec0::1", "64:ff9b::7f00:1"]
)
def test_an_address_that_is_not_public_is_allowed_on_request_only(text: str) -> None:
    assert not allowed(text, private=False)
    assert allowed(text, private=True)


@pytest.mark.parametrize(
    "text",
    [
        "169.254.169.254", "fe80::1", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192",
        "224.0.0.1", "239.1.2.3", "ff02::1", "0.0.0.0", "0.1.2.3", "::", "255.255.255.255", "240.0.0.1",
        "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "::169.254.169.254", "::ffff:169.254.169.254", "2002:a9fe:a9fe::1",
        "2001:0:4136:e378:8000:63bf:5601:5601", "64:ff9b::e000:1",
    ],
)  # fmt: skip
def test_these_addresses_are_never_allowed(text: str) -> None:
    assert not allowed(text, private=True)
    assert trouble(ip_address(text), private=True, local=True) is not None


@given(V4)
def test_every_way_to_write_or_wrap_an_address_is_that_address(address: IPv4Address) -> None:
    number = int(address)
    assert {literal(str(number)), literal(hex(number)), literal(f"[::ffff:{address}]")} <= {address, IPv6Address(f"::ffff:{address}")}
    for prefix in ("::ffff:0:0", "64:ff9b::"):
        assert unwrapped(IPv6Address(int(IPv6Address(prefix)) + number)) == address
    assert unwrapped(IPv6Address((0x2002 << 112) + (number << 80) + 1)) == address


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.1", "::1", "[::1]", "2130706433"])
def test_these_hosts_mean_this_machine(host: str) -> None:
    assert means_this_machine(host)


@pytest.mark.parametrize("host", ["localhost.example", "10.0.0.7", "desk.example", "1.localhost.example", ""])
def test_these_hosts_mean_another(host: str) -> None:
    assert not means_this_machine(host)
