"""Which addresses alerts may be sent to. Judged where the connection is made, whatever name or spelling led there.

Never: link-local, the metadata services of clouds, multicast, unspecified and reserved addresses. On request: what is not
public. An address inside an IPv6 address counts as itself: `ipaddress` calls a NAT64 loopback, and multicast, global.
"""

from __future__ import annotations

import ipaddress
import socket

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

METADATA = frozenset(
    map(ipaddress.ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"))
)  # of AWS, Google, Alibaba, Azure and Oracle, where they are not link-local
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NEVER = tuple(map(ipaddress.ip_network, ("0.0.0.0/8", "240.0.0.0/4", "64:ff9b:1::/48")))  # this network, reserved, translated at will


def literal(host: str) -> Address | None:
    """The address that a host's text is: dotted, IPv6, or an old spelling that resolvers still take (2852039166, 0xa9.254.43518)."""
    bare = host.strip("[]").partition("%")[0]
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(bare))
    except OSError:
        return None


def unwrapped(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one (mapped, compatible, 6to4, Teredo, NAT64), or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
    low = int(address) & 0xFFFFFFFF
    if address in _NAT64 or (int(address) == low and low > 1):
        inner = ipaddress.IPv4Address(low)
    return inner or address


def means_this_machine(host: str) -> bool:
    """Whether a url's host says loopback: `localhost`, or a literal address of it."""
    address = literal(host)
    return unwrapped(address).is_loopback if address else host == "localhost" or host.endswith(".localhost")


def trouble(address: Address, *, private: bool, local: bool) -> str | None:
    """Why nothing may be sent there, or None. `private`: the settings allow what is not public; `local`: the url says loopback."""
    inner = unwrapped(address)
    never = inner.is_link_local or inner.is_multicast or inner.is_unspecified or any(inner in network for network in _NEVER)
    if never or inner in METADATA:
        return f"{address} is no place to send alerts to"
    if local:
        return None if inner.is_loopback else f"{address} is not this machine, though the url says so"
    public = inner.is_global and not (isinstance(inner, ipaddress.IPv6Address) and inner.is_site_local)
    return None if public or private else f"{address} is not public; if the receiver stands there, set allow_private: true"
