"""How often something may be asked for, by the address that a connection comes from and in total.

Behind a reverse proxy everybody shares one address, since `X-Forwarded-For` is
whatever its sender wrote and counts for nothing here: a limit stops a loop gone
wild and a flood, not a team. It is per process and forgotten with it.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass

from ..errors import Refusal
from ..upstream.rate_limit import RateLimit

MAX_ADDRESSES = 10_000  # remembered; some 1.5 MB


@dataclass(frozen=True, slots=True)
class Rate:
    """So many at once, then one every `interval` seconds."""

    burst: int
    interval: float


class AddressLimit:
    """`told` is what somebody who comes too often reads."""

    def __init__(self, *, address: Rate, total: Rate, told: str) -> None:
        self._by_address = RateLimit(address.burst, address.interval, keys=MAX_ADDRESSES)
        self._in_total = RateLimit(total.burst, total.interval)
        self._told = told

    def admit(self, peer: str, now: float) -> None:
        """Once more. `now` is of a clock that does not jump.

        Raises:
            Refusal: 429 with ``Retry-After``.
        """
        network = network_of(peer)
        delay = max(self._by_address.delay(network, now), self._in_total.delay("", now))
        if delay > 0:
            raise Refusal(429, "temporarily_unavailable", self._told, headers=(("retry-after", str(math.ceil(delay))),))
        self._by_address.count(network, now)
        self._in_total.count("", now)


def network_of(peer: str) -> str:
    """Whom an address belongs to: an IPv6 site has at least a /64 to choose from (RFC 6177), an IPv4 one an address."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return peer  # a Unix socket has no address: whoever comes through it is one peer
    if isinstance(address, ipaddress.IPv4Address):
        return peer
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
