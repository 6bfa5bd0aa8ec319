"""Clients that take and do not give: connections of every unpleasant kind, held for the length of a block."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

Kind = Callable[[trio.SocketStream], Awaitable[None]]
SLOWNESS = 0.5  # seconds between the bytes of a slow one

_HOST = b"host: 127.0.0.1\r\n"
_ASK = b"GET /healthz HTTP/1.1\r\n" + _HOST + b"\r\n"


async def idle(stream: trio.SocketStream) -> None:
    """Connects and says nothing."""
    await trio.sleep_forever()


async def sated(stream: trio.SocketStream) -> None:
    """Asks once, and keeps the connection."""
    await stream.send_all(_ASK)
    await stream.receive_some()
    await trio.sleep_forever()


async def slow_head(stream: trio.SocketStream) -> None:
    await _drip(stream, b"GET /healthz HTTP/1.1\r\n" + _HOST + b"x-long: ")


def slow_body(path: str, *headers: str) -> Kind:
    """Announces a body and lets it drip."""
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1", "content-length: 100000", *headers, "", ""]
    return partial(_drip_to, "\r\n".join(lines).encode())


async def _drip_to(head: bytes, stream: trio.SocketStream) -> None:
    await _drip(stream, head)


async def stalled_reader(stream: trio.SocketStream) -> None:
    """Asks for far more than its window takes, and never reads."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await stream.send_all(b"GET / HTTP/1.1\r\n" + _HOST + b"\r\n")
    await trio.sleep(1)
    await stream.send_all((b"GET / HTTP/1.1\r\n" + _HOST + b"\r\n") * 300)
    await trio.sleep_forever()


async def pipelining(stream: trio.SocketStream) -> None:
    """Asks again and again without waiting for answers, and reads them all."""
    while True:
        await stream.send_all(_ASK * 20)
        seen = 0
        while seen < 20:
            data = await stream.receive_some()
            if not data:
                return
            seen += data.count(b"HTTP/1.1 200")
        await trio.sleep(SLOWNESS)


async def _drip(stream: trio.SocketStream, beginning: bytes) -> None:
    await stream.send_all(beginning)
    while True:
        await trio.sleep(SLOWNESS)
        await stream.send_all(b"x")


@asynccontextmanager
async def open_flood(port: int, kinds: dict[Kind, int]) -> AsyncIterator[None]:
    """So many connections of each kind, all of them made when the block begins; closed at its end."""
    async with trio.open_nursery() as nursery:
        for kind, count in kinds.items():
            for _ in range(count):
                stream = await trio.open_tcp_stream("127.0.0.1", port)
                nursery.start_soon(_hold, kind, stream)
        yield
        nursery.cancel_scope.cancel()


async def _hold(kind: Kind, stream: trio.SocketStream) -> None:
    """A server that has had enough of one hangs up; that is its right."""
    async with stream:
        try:
            await kind(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
