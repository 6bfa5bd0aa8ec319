"""An HTTP client for an ASGI application, in memory: streaming, slow bodies, disconnects.

It keeps a real server's contract towards the application and checks the
application's towards it: one start, bodies after it, nothing after the end;
`receive` gives the body once and then waits for the disconnect; what is sent
to a client that has gone disappears.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import trio

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]


class Received:
    """A response, as far as it has come."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.raw_headers: RawHeaders = []
        self.parts: list[bytes] = []
        self.ended = False
        self._changed = trio.Event()

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    @property
    def headers(self) -> dict[str, str]:
        return {key.decode(): value.decode("latin-1") for key, value in self.raw_headers}

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type") == "text/event-stream"

    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json"
        return json.loads(self.body)

    def messages(self) -> list[Any]:
        """Every JSON-RPC message so far, whether the response is a stream or not."""
        if not self.is_stream:
            return [self.json()]
        found = []
        for event in self.body.decode().split("\n\n")[:-1]:
            if event.startswith(":"):
                continue  # a comment, to keep the connection alive
            fields = dict(line.split(":", 1) for line in event.split("\n"))
            if data := fields["data"].strip():
                assert fields["event"] == " message"
                found.append(json.loads(data))
        return found

    def event_ids(self) -> list[str]:
        """The id of every event so far that has one."""
        return [line[4:] for line in self.body.decode().splitlines() if line.startswith("id: ")]

    async def wait_messages(self, count: int) -> list[Any]:
        while not (self.status and (self.is_stream or self.ended)) or len(self.messages()) < count:
            await self._changed.wait()
        return self.messages()

    async def wait_ended(self) -> None:
        """Until the response has ended; the application may go on."""
        while not self.ended:
            await self._changed.wait()

    async def events(self) -> AsyncIterator[Any]:
        """Every message as it comes, to the end of the response."""
        seen = 0
        while True:
            while not (self.status and (self.is_stream or self.ended)):
                await self._changed.wait()
            messages = self.messages()
            for message in messages[seen:]:
                yield message
            if len(messages) == seen and self.ended:
                return
            if len(messages) == seen:
                await self._changed.wait()
            seen = len(messages)

    def take(self, message: Message) -> None:
        assert not self.ended, f"{message['type']} after the end of the response"
        if message["type"] == "http.response.start":
            assert self.status is None, "the response was started twice"
            self.status = message["status"]
            self.raw_headers = list(message["headers"])
        else:
            assert self.status is not None, "a body before the start of the response"
            self.parts.append(message.get("body", b""))
            self.ended = not message.get("more_body", False)
        self._changed.set()
        self._changed = trio.Event()


class Ongoing(Received):
    """A request on its way. `done` is set when the application returned."""

    def __init__(self, body: Iterable[bytes], *, endless: bool = False) -> None:
        super().__init__()
        self.done = trio.Event()
        self.gone = trio.Event()
        self.reads = 0
        self.stalls = False  # it no longer reads what is sent
        self._body = list(body) or [b""]
        self._endless = endless

    def disconnect(self) -> None:
        self.gone.set()

    async def receive(self) -> Message:
        await trio.lowlevel.checkpoint()
        self.reads += 1
        if self._body and not self.gone.is_set():
            chunk = self._body.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(self._body) or self._endless}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()
        if self.stalls:
            await self.gone.wait()
        if not self.gone.is_set():
            self.take(message)


class Browser:
    """Sends requests to `app`. `app` is called with an HTTP scope as Hypercorn would make it."""

    def __init__(self, app: App, host: str = "mcp.example.com") -> None:
        self._app = app
        self._host = host

    async def request(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        *,
        host: str | None = None,
    ) -> Received:
        """One request to its end; None as the application's answer fails."""
        ongoing = Ongoing([body])
        await self._run(ongoing, method, path, headers, host)
        assert ongoing.ended, "the application returned without an answer"
        return ongoing

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        headers: Iterable[tuple[str, str]] = (),
        body: Iterable[bytes] = (b"",),
        *,
        endless: bool = False,
    ) -> AsyncIterator[Ongoing]:
        """A request in the background. Leaving the block disconnects and waits for the application."""
        ongoing = Ongoing(body, endless=endless)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run, ongoing, method, path, headers, None)
            try:
                yield ongoing
            finally:
                ongoing.disconnect()

    def start(
        self, nursery: trio.Nursery, method: str, path: str, headers: Iterable[tuple[str, str]], body: bytes = b""
    ) -> Ongoing:
        """A request in the background of `nursery`. Nobody waits for the application when the client disconnects."""
        ongoing = Ongoing([body])
        nursery.start_soon(self._run, ongoing, method, path, headers, None)
        return ongoing

    async def _run(
        self, ongoing: Ongoing, method: str, path: str, headers: Iterable[tuple[str, str]], host: str | None
    ) -> None:
        raw = [(key.lower().encode(), value.encode("latin-1")) for key, value in headers]
        path, _, query = path.partition("?")
        scope: Message = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(b"host", (self._host if host is None else host).encode()), *raw],
            "client": ("192.0.2.1", 50000),
            "server": ("192.0.2.2", 3000),
        }
        if host == "":
            del scope["headers"][0]
        try:
            await self._app(scope, ongoing.receive, ongoing.send)
        finally:
            ongoing.done.set()
