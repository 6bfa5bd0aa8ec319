"""Upstreams as they break: each a listener on loopback for the length of a block."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial

import trio

Behaviour = Callable[[trio.SocketStream], Awaitable[None]]


async def be_silent(stream: trio.SocketStream) -> None:
    """Accepts, reads, and never answers."""
    while await stream.receive_some():
        pass


async def be_stuck(stream: trio.SocketStream) -> None:
    """Begins an event stream that says nothing."""
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
    await be_silent(stream)


async def hang_up(stream: trio.SocketStream) -> None:
    await stream.receive_some()


async def babble(stream: trio.SocketStream) -> None:
    """What speaks is no web server."""
    await stream.receive_some()
    await stream.send_all(b"220 mail.example.test ESMTP\r\n")


def answer(status: str, *headers: str, body: str = "") -> Behaviour:
    """One canned answer to everything."""
    head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", "connection: close", *headers]
    return partial(_answer, ("\r\n".join(head) + "\r\n\r\n" + body).encode())


async def _answer(whole: bytes, stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(whole)


@asynccontextmanager
async def open_faulty(behaviours: Mapping[str, Behaviour]) -> AsyncIterator[dict[str, str]]:
    """The URL of each. A visitor that leaves early is nothing to them."""
    async with trio.open_nursery() as nursery:
        urls = {}
        for name, behaviour in behaviours.items():
            visit = partial(_visit, behaviour)
            listeners = await nursery.start(partial(trio.serve_tcp, visit, 0, host="127.0.0.1"))
            urls[name] = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}/mcp"
        yield urls
        nursery.cancel_scope.cancel()


async def _visit(behaviour: Behaviour, stream: trio.SocketStream) -> None:
    try:
        await behaviour(stream)
    except trio.BrokenResourceError:
        pass
