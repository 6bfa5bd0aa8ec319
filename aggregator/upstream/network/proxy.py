"""An HTTP proxy on the way out: which hosts are behind it, and tunnels through it (CONNECT, RFC 9110 9.3.6).

A tunnel is made below the connection pool, so that the pool sees a connection
like any other: TLS, the name it is for and its end are the same. This file knows
nothing of MCP; what a proxy says when it refuses is told, its credentials never.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import httpcore2
import httpx2
import trio

from ...config.model import Secret
from .sockets import HEAD_END, TrioNetwork, TrioNetworkStream, reason

MAX_ANSWER = 16 * 1024  # bytes of the head of a proxy's answer

_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: ([ -~]*))?\r\n")


@dataclass(frozen=True, slots=True)
class Proxy:
    """`authorization` is the value of Proxy-Authorization, empty without a user."""

    host: str
    port: int
    authorization: bytes = field(default=b"", repr=False)

    @property
    def name(self) -> str:
        return f"outbound.proxy {_netloc(self.host, self.port)}"

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"proxy-authorization", self.authorization)] if self.authorization else []

    def is_for(self, host: str) -> bool:
        """Whether a host is beyond the proxy: all are but this computer, of which a proxy has another."""
        host = host.strip("[]").rstrip(".").lower()
        if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 6.3
            return False
        try:
            return not ipaddress.ip_address(host).is_loopback
        except ValueError:
            return True


def parse_proxy(url: Secret | None) -> Proxy | None:
    """The proxy of a configuration, in which it was checked."""
    if url is None:
        return None
    parts = urlsplit(url.reveal())
    assert parts.hostname is not None
    assert parts.port is not None
    authorization = b""
    if parts.username is not None:
        userpass = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = b"Basic " + base64.b64encode(userpass.encode())
    return Proxy(parts.hostname, parts.port, authorization)


async def open_tunnel(proxy: Proxy, host: str, port: int) -> trio.SocketStream:
    """A connection to `host` through `proxy`.

    Raises:
        ConnectError: if the proxy cannot be reached or refuses; the text names it.
    """
    try:
        stream = await trio.open_tcp_stream(proxy.host, proxy.port)
    except OSError as exc:
        raise httpcore2.ConnectError(f"{proxy.name}: {reason(exc)}") from exc
    try:
        target = _netloc(host, port).encode()
        fields = [(b"host", target), *proxy.headers]
        head = b"".join(b"%b: %b\r\n" % header for header in fields)
        await stream.send_all(b"CONNECT %b HTTP/1.1\r\n%b\r\n" % (target, head))
        _check(await _read_head(stream), proxy, target.decode())
    except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
        await trio.aclose_forcefully(stream)
        raise httpcore2.ConnectError(f"{proxy.name}: {reason(exc)}") from exc
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return stream


async def _read_head(stream: trio.SocketStream) -> bytes:
    """Up to the end of the head and no byte further, or as far as it goes."""
    head = bytearray()
    while HEAD_END not in head and len(head) < MAX_ANSWER:
        more = await stream.receive_some(MAX_ANSWER - len(head))
        if not more:
            break
        head += more
    return bytes(head)


def _check(head: bytes, proxy: Proxy, target: str) -> None:
    """
    Raises:
        ConnectError: if this is not the beginning of a tunnel.
    """
    line = _STATUS.match(head)
    if line is None or HEAD_END not in head:
        raise httpcore2.ConnectError(f"{proxy.name} does not answer as an HTTP proxy")
    status, phrase = int(line[1]), (line[2] or b"").decode()[:60]
    if status == 407:
        given = "refuses the user and password it was given" if proxy.authorization else "wants a user and password"
        raise httpcore2.ConnectError(f"{proxy.name} {given} (407)")
    if not 200 <= status < 300:
        raise httpcore2.ConnectError(f"{proxy.name} does not connect to {target}: {status} {phrase}".rstrip())
    # Whoever is there speaks TLS or HTTP, in which the client begins.
    if head.index(HEAD_END) + len(HEAD_END) != len(head):
        raise httpcore2.ConnectError(f"{proxy.name}: something spoke before it was asked")


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class ProxiedNetwork(httpcore2.AsyncNetworkBackend):
    """Sockets through a proxy, and directly to this computer. Its `timeout` is the pool's, see `TrioNetwork`."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._direct = TrioNetwork()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        if not self._proxy.is_for(host):
            return await self._direct.connect_tcp(host, port, timeout, local_address, socket_options)
        return TrioNetworkStream(await open_tunnel(self._proxy, host, port))


def proxied_transport(proxy: Proxy, context: ssl.SSLContext, connections: int) -> httpx2.AsyncBaseTransport:
    """What an `httpx2.AsyncClient` takes in place of its own; no connection is used twice.

    Its own way through proxies keeps a slot of its pool for ever when TLS fails behind the proxy, or when the caller
    gives up meanwhile: a hundred of those, and nobody logs in any more.
    """
    transport = httpx2.AsyncHTTPTransport(verify=context, trust_env=False)
    transport._pool = httpcore2.AsyncConnectionPool(
        ssl_context=context,
        max_connections=connections,
        max_keepalive_connections=0,
        http2=False,
        network_backend=ProxiedNetwork(proxy),
    )
    return transport
