"""IP addresses that may be connected to for a URL that somebody else gave us.

A stranger's URL must not make us knock inside our own network, at a cloud's
metadata service or at ourselves. This file owns which addresses are outside;
it must not know names, URLs or sockets.

The tables are our own. `ipaddress.is_global` differs between patch releases of
Python and calls multicast, site-local and NAT64's local prefix global in some.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# IANA's IPv4 Special-Purpose Address Registry (RFC 6890), all that is not globally reachable, and what is no unicast.
_INSIDE_V4 = {
    ipaddress.IPv4Network(network): what
    for network, what in {
        "0.0.0.0/8": "this network",
        "10.0.0.0/8": "private",
        "100.64.0.0/10": "shared by a carrier's customers",  # RFC 6598; Alibaba's metadata service is 100.100.100.200
        "127.0.0.0/8": "loopback",
        "168.63.129.16/32": "Azure's host service",  # a public address that every Azure machine reaches inside
        "169.254.0.0/16": "link-local",  # the metadata services of most clouds are 169.254.169.254
        "172.16.0.0/12": "private",
        "192.0.0.0/24": "IETF protocols",  # Oracle's metadata service was 192.0.0.192
        "192.0.2.0/24": "documentation",
        "192.88.99.0/24": "6to4 relays",  # RFC 7526
        "192.168.0.0/16": "private",
        "198.18.0.0/15": "benchmarks",
        "198.51.100.0/24": "documentation",
        "203.0.113.0/24": "documentation",
        "224.0.0.0/4": "multicast",
        "240.0.0.0/4": "reserved",  # 255.255.255.255 as well
    }.items()
}
# RFC 4291 2.4: global unicast addresses are assigned from here alone. Loopback, mapped and compatible IPv4, unique
# local (fd00:ec2::254 is a metadata service), link-local, site-local and multicast addresses are all outside of it.
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
_INSIDE_V6 = {
    ipaddress.IPv6Network(network): what
    for network, what in {
        "2001::/23": "IETF protocols",  # Teredo (2001::/32), benchmarks and ORCHID among them
        "2001:db8::/32": "documentation",
        "2002::/16": "6to4",  # it holds an IPv4 address; nobody serves documents there since RFC 7526
        "3fff::/20": "documentation",
    }.items()
}
# RFC 6052 2.1: hosts with IPv6 alone reach all of IPv4 through here. The local-use prefix 64:ff9b:1::/48 (RFC 8215) is
# not globally reachable, and where in it the IPv4 address stands is a network's own affair.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_ISATAP = (0x00005EFE, 0x02005EFE)  # RFC 5214 6.1: the upper half of an interface identifier; the lower is the address
_LOW_32 = 0xFFFFFFFF


def why_inside(address: Address) -> str | None:
    """Why a stranger's URL must not lead to `address`; None for an address of the public internet."""
    if isinstance(address, ipaddress.IPv4Address):
        return next((what for network, what in _INSIDE_V4.items() if address in network), None)
    if address.scope_id is not None:
        return "bound to one interface"
    number = int(address)
    if address in _NAT64:
        return _embedded(number)
    if address not in _GLOBAL_V6:
        return "loopback" if address.is_loopback else "not global unicast"
    for network, what in _INSIDE_V6.items():
        if address in network:
            return what
    return _embedded(number) if number >> 32 & _LOW_32 in _ISATAP else None


def first_inside(addresses: Iterable[Address]) -> tuple[Address, str] | None:
    """The first of `addresses` that is inside, with the reason.

    One is enough to refuse them all: whoever answers for a name chooses which of its addresses we try.
    """
    for address in addresses:
        if (why := why_inside(address)) is not None:
            return address, why
    return None


def _embedded(number: int) -> str | None:
    why = why_inside(ipaddress.IPv4Address(number & _LOW_32))
    return None if why is None else f"a way to IPv4: {why}"
