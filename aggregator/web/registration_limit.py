"""How often clients may register. A registration is stored nowhere, so what it costs us is the time to seal it.

The limits stop a loop gone wild and a flood, not a team: behind a reverse proxy
everybody shares one address, since `X-Forwarded-For` is whatever its sender
wrote and counts for nothing here. They are per process and forgotten with it.
"""

from __future__ import annotations

import ipaddress
import math

from ..errors import Refusal
from ..upstream.rate_limit import RateLimit

# Two hundred people behind one proxy whose clients all register within a minute, and one more client a second.
ADDRESS_BURST, ADDRESS_INTERVAL = 200, 1.0
# From everywhere together. Sealing takes 0.05 ms; it is the HTTP around it, about a millisecond, that adds up.
TOTAL_BURST, TOTAL_INTERVAL = 1000, 0.02
MAX_ADDRESSES = 10_000  # remembered; some 1.5 MB


class RegistrationLimit:
    """Counts by the address that a connection comes from."""

    def __init__(self) -> None:
        self._by_address = RateLimit(ADDRESS_BURST, ADDRESS_INTERVAL, keys=MAX_ADDRESSES)
        self._in_total = RateLimit(TOTAL_BURST, TOTAL_INTERVAL)

    def admit(self, peer: str, now: float) -> None:
        """One more registration. `now` is of a clock that does not jump.

        Raises:
            Refusal: 429 with ``Retry-After``.
        """
        network = network_of(peer)
        delay = max(self._by_address.delay(network, now), self._in_total.delay("", now))
        if delay > 0:
            raise Refusal(
                429,
                "temporarily_unavailable",
                "Too many clients have registered lately; keep the client id that you were given, or try again later.",
                headers=(("retry-after", str(math.ceil(delay))),),
            )
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
