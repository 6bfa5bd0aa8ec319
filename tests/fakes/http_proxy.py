"""An HTTP proxy on loopback: tunnels (CONNECT) and forwarded requests, to hosts that the test has put somewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import trio


@dataclass
class HttpProxy:
    """`hosts` says where ``name:port`` really is. `heads` are the requests it got.

    With `authorization` it lets in who says so. `answer`, if set, is all that it says.
    """

    port: int
    hosts: Mapping[str, int] = field(default_factory=dict)
    authorization: str | None = None
    answer: bytes | None = None
    heads: list[str] = field(default_factory=list)
    open: int = 0

    @property
    def targets(self) -> list[str]:
        return [head.split()[1] for head in self.heads]

    async def serve(self, client: trio.SocketStream) -> None:
        self.open += 1
        try:
            async with client:
                await self._serve(client)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.open -= 1

    async def _serve(self, client: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            more = await client.receive_some(65536)
            if not more:
                return
            head += more
        text, _, rest = head.decode("latin-1").partition("\r\n\r\n")
        self.heads.append(text)
        if self.answer is not None:
            await client.send_all(self.answer)
            return
        if self.authorization is not None and f"proxy-authorization: {self.authorization}" not in text:
            await client.send_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
            return
        method, target, _ = text.split("\r\n")[0].split(" ")
        port = self.hosts.get(target if method == "CONNECT" else urlsplit(target).netloc)
        if port is None:
            await client.send_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n")
            return
        async with await trio.open_tcp_stream("127.0.0.1", port) as server:
            if method == "CONNECT":
                await client.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = urlsplit(target).path
                await server.send_all(f"{text.replace(target, path, 1)}\r\n\r\n{rest}".encode("latin-1"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._copy, client, server, nursery.cancel_scope)
                nursery.start_soon(self._copy, server, client, nursery.cancel_scope)

    async def _copy(self, one: trio.SocketStream, other: trio.SocketStream, scope: trio.CancelScope) -> None:
        try:
            async for data in one:
                await other.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel()


@asynccontextmanager
async def open_http_proxy(hosts: Mapping[str, int] | None = None) -> AsyncIterator[HttpProxy]:
    """On 127.0.0.1, at a port of its own."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    proxy = HttpProxy(listeners[0].socket.getsockname()[1], hosts or {})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, proxy.serve, listeners)
        yield proxy
        nursery.cancel_scope.cancel()
