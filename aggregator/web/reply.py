"""One answer to one POST: JSON if it stays a single message, an event stream as soon as there is a second.

Notices may come from several tasks, the end from one. This file knows bytes and statuses, not methods.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import trio

from ..protocol.jsonrpc import Call, Failure, Notice, Success, render
from ..protocol.revisions import http_status
from ..protocol.sse import render_event
from .pulse import SILENCE

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
RawHeaders = list[tuple[bytes, bytes]]

COMMENT = b": keep-alive\n\n"

EVENT_HEADERS: RawHeaders = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),  # nginx would otherwise hold progress back until its buffer is full
]


class Reply:
    """The response to one request. `headers` go out with the head, whichever form it takes."""

    def __init__(self, send: Send, revision: str, headers: RawHeaders) -> None:
        self._send = send
        self._revision = revision
        self._headers = headers
        self._streaming = False
        self._finished = False
        self.due_at = trio.current_time() + SILENCE  # see `Pulse`
        self._closed = False  # it can be written to no more: it has ended, or a send was cancelled half-way
        self.on_break: Callable[[], None] = _ignore  # told when a send was cancelled half-way
        self._writing = trio.Lock()  # the calls of a batch share one stream

    @property
    def has_begun(self) -> bool:
        """Whether the client has been sent anything."""
        return self._streaming or self._finished

    async def begin(self) -> None:
        """Become a stream now, if the client wants one whatever comes."""

    async def close(self) -> None:
        """Whatever was answered, nothing more comes."""

    async def poll(self, retry: float | None) -> None:
        """SEP-1699: have the client come back after `retry` seconds instead of waiting here, if it can: not to this."""

    async def notice(self, message: Notice | Call) -> None:
        """Send a notification, or a question of ours, on its way now; the answer follows as an event too."""
        await self.pass_on(render_event(render(message)))

    async def keep_alive(self) -> None:
        """Send bytes that mean nothing, so that nobody on the way takes a long silence for the end."""
        await self.pass_on(COMMENT)

    async def pass_on(self, events: bytes) -> None:
        """Send events that are rendered already."""
        if not self._finished:
            await self._write(events)

    async def _write(self, events: bytes, *, is_last: bool = False) -> None:
        async with self._writing:
            if self._closed or (self._finished and not is_last):
                return
            self._closed = True
            self.due_at = trio.current_time() + SILENCE
            try:
                if not self._streaming:
                    self._streaming = True
                    await self._send(
                        {"type": "http.response.start", "status": 200, "headers": [*EVENT_HEADERS, *self._headers]}
                    )
                await self._send({"type": "http.response.body", "body": events, "more_body": not is_last})
                self._closed = is_last
            except BaseException:
                self.on_break()
                raise

    async def end(self) -> None:
        """End a stream that answers nothing."""
        self._finished = True
        if self._streaming:
            await self._write(b"", is_last=True)

    async def finish(self, outcome: Success | Failure) -> None:
        status = http_status(outcome.code, self._revision) if isinstance(outcome, Failure) else 200
        await self.finish_rendered(render(outcome), status=status)

    async def finish_rendered(self, *pieces: bytes, status: int = 200) -> None:
        """`finish` for an answer that is JSON already. A broken stream stays unfinished: the server then closes it."""
        self._finished = True
        if self._streaming:
            await self._write(render_event(b"".join(pieces)), is_last=True)
        else:  # and nothing will begin to
            await send_whole(self._send, status, [(b"content-type", b"application/json"), *self._headers], *pieces)


def _ignore() -> None:
    """Nobody wants to know."""


async def send_whole(send: Send, status: int, headers: RawHeaders, *pieces: bytes) -> None:
    """An answer whose body is these pieces, of which there is one at least."""
    length = (b"content-length", b"%d" % sum(map(len, pieces)))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    for piece in pieces[:-1]:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": pieces[-1], "more_body": False})
