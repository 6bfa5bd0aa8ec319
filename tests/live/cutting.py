"""A way to the aggregator on which a connection breaks in the middle of an answer, as networks and proxies do it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

MARK = 1024  # bytes: no mark is longer


class Cutting:
    """Cuts the connection of every response that `marks` come on, each mark once, right behind the event it came in."""

    def __init__(self, port: int, marks: list[bytes]) -> None:
        self.cut = 0
        self.port = 0
        self._port = port
        self._marks = list(marks)

    async def visit(self, client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream("127.0.0.1", self._port)
        async with client, server, trio.open_nursery() as nursery:
            nursery.start_soon(self._copy, client, server, nursery.cancel_scope)
            await self._copy_answers(server, client)
            nursery.cancel_scope.cancel()

    async def _copy(self, source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope) -> None:
        try:
            while data := await source.receive_some():
                # Host names this place; the aggregator answers to its own name only.
                await sink.send_all(data.replace(b"127.0.0.1:%d" % self.port, b"127.0.0.1:%d" % self._port))
        except trio.BrokenResourceError:
            pass
        scope.cancel()

    async def _copy_answers(self, source: trio.SocketStream, sink: trio.SocketStream) -> None:
        passed = bytearray()
        try:
            while data := await source.receive_some():
                # However many events come in one piece, and wherever it ends.
                begins, seen = len(passed), passed + data
                if self._marks and (at := seen.find(self._marks[0])) >= 0:
                    end = seen.find(b"\n\n", at)  # of the event; others may follow in the same chunk
                    await sink.send_all(seen[begins:] if end < 0 else seen[begins : max(begins, end + 2)])
                    del self._marks[0]
                    self.cut += 1
                    return
                await sink.send_all(data)
                passed = seen[-MARK:]
        except trio.BrokenResourceError:
            pass


@asynccontextmanager
async def open_cutting(url: str, *marks: bytes) -> AsyncIterator[tuple[str, Cutting]]:
    """Another URL of the endpoint at `url`; its connections break behind the first of `marks`, then the second."""
    head, _, path = url.removeprefix("http://").partition("/")
    cutting = Cutting(int(head.rpartition(":")[2]), list(marks))
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, cutting.visit, 0, host="127.0.0.1"))
        cutting.port = listeners[0].socket.getsockname()[1]
        yield f"http://127.0.0.1:{cutting.port}/{path}", cutting
        nursery.cancel_scope.cancel()
