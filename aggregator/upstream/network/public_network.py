"""Sockets to hosts that nobody configured: the one place that resolves their names and connects to them.

A name is resolved once, every address is checked (`protocol.addresses`), and the
connection goes to an address that was checked, so a second answer of the name
server changes nothing (DNS rebinding). TLS above still speaks to the name. This
file knows neither HTTP nor URLs.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any

import httpcore2
import trio

from ...protocol.addresses import Address, first_inside
from .proxy import Proxy, open_tunnel
from .sockets import TrioNetworkStream, reason

CONNECT_DEADLINE = 5.0  # seconds for resolving and connecting
ATTEMPT_DEADLINE = 2.0  # seconds for one address, so that one that swallows packets does not use up the others' time
MAX_ATTEMPTS = 4  # addresses tried
# Threads that may wait for name servers. A name's owner chooses how slow those are, up to half a minute with most
# resolvers; with one new name a second (`client_documents`) these many leave room for everybody else's.
MAX_RESOLVERS = 100

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class PublicNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to public addresses only.

    With `allow_loopback` the names of this computer, spelled as such, may be connected to as well: for a deployment
    that itself lives on loopback. Another name that resolves to loopback is refused even then.
    Through `proxy` go connections to the addresses that were checked, not to names: it might resolve them otherwise.
    """

    def __init__(
        self, *, allow_loopback: bool = False, resolve: Resolve | None = None, proxy: Proxy | None = None
    ) -> None:
        self._proxy = proxy
        self._allow_loopback = allow_loopback
        self._resolve = resolve or SystemResolver()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Raises:
        ConnectError: for a name without addresses, with one inside, or where nobody answers; the text says which.
        """
        with trio.move_on_after(CONNECT_DEADLINE):
            addresses = await self._checked_addresses(host, port)
            return TrioNetworkStream(await self._connect(addresses[:MAX_ATTEMPTS], port))
        raise httpcore2.ConnectError(f"no connection within {CONNECT_DEADLINE:g} seconds")

    async def _checked_addresses(self, host: str, port: int) -> list[Address]:
        try:
            addresses = [ipaddress.ip_address(text) for text in await self._resolve(host, port)]
        except (OSError, UnicodeError, ValueError) as exc:
            raise httpcore2.ConnectError(f"{host} cannot be resolved: {exc}") from exc
        if not addresses:
            raise httpcore2.ConnectError(f"{host} has no address")
        if self._allow_loopback and host in _LOOPBACK and all(address.is_loopback for address in addresses):
            return addresses
        if (found := first_inside(addresses)) is not None:
            raise httpcore2.ConnectError(f"{host} is {found[0]}, which is not on the public internet ({found[1]})")
        return addresses

    async def _connect(self, addresses: Sequence[Address], port: int) -> trio.SocketStream:
        failure = "no answer in time"
        for address in addresses:
            with trio.move_on_after(ATTEMPT_DEADLINE):
                try:
                    if self._proxy is not None and self._proxy.is_for(str(address)):
                        return await open_tunnel(self._proxy, str(address), port)
                    return await trio.open_tcp_stream(str(address), port)
                except OSError as exc:
                    failure = reason(exc)
                except httpcore2.ConnectError as exc:
                    failure = str(exc)
        raise httpcore2.ConnectError(f"nobody answers: {failure}")


class SystemResolver:
    """The system's name resolution, in threads of its own so that slow name servers hold up nobody else's."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(MAX_RESOLVERS)

    async def __call__(self, host: str, port: int) -> list[str]:
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        # Abandoned when cancelled: the thread ends with the resolver's own time-out, and changes nothing.
        found = await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=self._limiter)
        return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
