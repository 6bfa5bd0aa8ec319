"""Our own application as the bridge's endpoint, in this process. This file must not know what is sent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from ..web.hypercorn.guard import ASGIApp
from .endpoint import Answer, EndpointLost

EVENTS = 16  # parts of an answer that wait for the client to read


@dataclass(frozen=True, slots=True)
class _OwnAnswer:
    status: int
    headers: Mapping[str, str]
    events: trio.MemoryReceiveChannel[MutableMapping[str, Any]]

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        async for event in self.events:
            yield event.get("body", b"")
            if not event.get("more_body", False):
                return
        raise EndpointLost("the answer broke off", sent=True)


class OwnEndpoint:
    """`path` is the MCP endpoint's, `host` a Host that the application takes for its own; `nursery` has the requests.

    A request outlives its block where the application does not take a disconnect for a cancellation.
    """

    def __init__(self, app: ASGIApp, host: str, path: str, nursery: trio.Nursery) -> None:
        self._app = app
        self._nursery = nursery
        self._host = host
        self._path = path

    @asynccontextmanager
    async def send(self, method: str, headers: Mapping[str, str], body: bytes) -> AsyncIterator[Answer]:
        """See `Endpoint.send`. Leaving the block is the disconnect."""
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": self._path,
            "raw_path": self._path.encode(),
            "query_string": b"",
            "headers": [
                (b"host", self._host.encode()),
                *((name.encode(), value.encode("latin-1")) for name, value in headers.items()),
            ],
            "client": None,
            "server": None,
        }
        left, is_read = trio.Event(), False
        sender, events = trio.open_memory_channel[MutableMapping[str, Any]](EVENTS)

        async def receive() -> MutableMapping[str, Any]:
            nonlocal is_read
            if not is_read:
                is_read = True
                return {"type": "http.request", "body": body, "more_body": False}
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            if not left.is_set():
                try:
                    await sender.send(message)
                except trio.BrokenResourceError:
                    pass

        async def answer() -> None:
            with sender:
                await self._app(scope, receive, send)

        self._nursery.start_soon(answer)
        try:
            try:
                head = await events.receive()
            except trio.EndOfChannel:
                raise EndpointLost("there was no answer", sent=True) from None
            said = {name.decode().lower(): value.decode("latin-1") for name, value in head["headers"]}
            yield _OwnAnswer(head["status"], said, events)
        finally:
            left.set()
            events.close()
