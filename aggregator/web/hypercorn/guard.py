"""Hypercorn 0.18's trio worker, made safe to stand on the internet.

This file owns everything we know about Hypercorn's insides: which of its defects
let one client kill, stall or leak the process, and the smallest replacement of
each. It must not know our endpoints. docs/decisions/2026-11-21-guarding-hypercorn.md
tells the story; tests/live/test_hypercorn_*.py show each defect on the bare server.

    H1  an exception in one connection's task ends the whole server
    H2  a write to a client that does not read can never be cancelled
    H3  the last send wakes whoever waits for the disconnect, and is cancelled by it
    H4  a response that ends before the request's body is read stalls for ever
    H5  a crash behind the ASGI lifespan is logged and survived (contained by serving.py and asgi.py)
    H6  a connection that its client has closed is kept for the whole keep-alive time
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, MutableMapping
from importlib.metadata import version
from math import inf
from typing import Any

import h11
import hypercorn.protocol
import hypercorn.trio.run
import trio
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.events import Body, EndBody, Request, StreamClosed
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.h11 import STREAM_ID, H11Protocol
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer

from .worker import IdleTimer, Worker

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

HEAD_TIMEOUT = 10.0  # from the first byte of a request's head to its last; nginx and Apache give 60 and 20 to 40 s
LINGER_TIMEOUT = 5.0  # how long we listen to a client that still sends after we have answered; nginx lingering_timeout
LINGER_BYTES = 16 * 2**20  # and how much of it; four times the largest body we would have taken
MAX_COPIED = 32 * 1024  # bytes; to copy more, so that they go with what stands before, costs more than a second write

LOG = logging.getLogger(__name__)


def install() -> None:
    """Replace, in this process, the parts of Hypercorn that need it. Harmless when called again.

    Only the 0.18 line is touched: these classes are written against its insides.
    """
    if not version("hypercorn").startswith("0.18."):
        return
    hypercorn.trio.run.TCPServer = _Connection  # type: ignore[assignment, attr-defined]
    hypercorn.trio.run.WorkerContext = Worker  # type: ignore[attr-defined]
    hypercorn.protocol.H11Protocol = _Protocol  # type: ignore[attr-defined]


# Every path of ours is made of these characters, so a path with an escape, an empty or a dot segment is either a
# mistake or an attempt to be read differently by us and by a proxy in front: absolute-form targets ("http://evil/"),
# "//", "/../", "%2f", "%5c", "%00" and backslashes all fail to match.
_PLAIN_PATH = re.compile(rb"/|(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~!$&'()*+,;=:@-]+)+/?")


def guarded(app: ASGIApp) -> ASGIApp:
    """`app` behind a check that only plain HTTP requests for plain paths reach it; it belongs outermost."""

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            if _PLAIN_PATH.fullmatch(scope.get("raw_path") or scope["path"].encode()):
                await app(scope, receive, send)
            else:
                await _refuse_path(send)
        elif kind == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        else:
            await app(scope, receive, send)

    return guard


async def _refuse_path(send: Send) -> None:
    body = b"The request target must be a plain path: no escapes, no empty or dot segments, no scheme or host.\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def refused_head(request: h11.Request, limit: int) -> tuple[int, str] | None:
    """The status and sentence for a request head that HTTP/1.1 lets pass and we do not, else None."""
    if request.http_version not in (b"1.1", b"1.0"):
        return 505, "This port speaks HTTP/1.1 only."
    framings: list[bytes] = []
    size = len(request.target)
    for name, value in request.headers:
        size += len(name) + len(value)
        if name == b"content-length" or name == b"transfer-encoding":
            framings.append(name)
        elif name == b"expect" and value.lower() != b"100-continue":
            # RFC 9110 10.1.1: "MAY respond with a 417 (Expectation Failed)" to what is not 100-continue
            return 417, "The only expectation this server knows is 100-continue."
    if size > limit:  # h11 limits what arrives in pieces only
        return 431, _head_too_large(limit)
    if b"transfer-encoding" in framings:
        if len(framings) > 1:
            # RFC 9112 6.1: a message with both "might indicate an attempt to perform request smuggling [...] and
            # ought to be handled as an error"
            return 400, "Content-Length and Transfer-Encoding exclude each other; send one of them."
        if request.http_version == b"1.0":
            # RFC 9112 6.1: "MUST treat the message as if the framing is faulty"
            return 400, "HTTP/1.0 has no Transfer-Encoding."
    return None


def _head_too_large(limit: int) -> str:
    return f"The request's head must not exceed {limit} bytes."


class _Stream(HTTPStream):
    """H3 and H4: the end of a response is neither cancelled nor does it wait for a reader that is not there."""

    _over = False  # the application will not read any more of the body
    _puts: tuple[trio.CancelScope, ...] = ()  # what waits for room in the application's queue

    async def handle(self, event: StreamEvent) -> None:
        if isinstance(event, Body | EndBody):
            await self._put(super().handle, event)
        elif isinstance(event, StreamClosed):
            if not self.closed:
                self.closed = True
                self._announce_disconnect()
        else:
            await super().handle(event)

    def _announce_disconnect(self) -> None:
        """Never blocks: who calls may be the application itself, in a send, and nobody else empties its queue."""
        disconnect = {"type": "http.disconnect"}
        try:
            self.app_put.__self__.send_nowait(disconnect)  # type: ignore[attr-defined]
        except trio.WouldBlock:
            self.task_group.spawn(self._put, self.app_put, disconnect)

    async def _put(self, put: Callable[[Any], Awaitable[None]], event: Any) -> None:
        if self._over:
            return
        scope = trio.CancelScope()
        self._puts += (scope,)
        with scope:
            await put(event)
        self._puts = tuple(other for other in self._puts if other is not scope)

    async def app_send(self, message: Any) -> None:
        if message is None:  # the application's task has ended, however
            self._release_reader()
        await super().app_send(message)

    async def _send_closed(self) -> None:
        self._release_reader()
        # H3: in here the disconnect is announced, and a task that watches for it cancels the one that sends.
        with trio.CancelScope(shield=True):
            await super()._send_closed()

    def _release_reader(self) -> None:
        self._over = True
        for put in self._puts:
            put.cancel()


class _Protocol(H11Protocol):
    """HTTP/1.1 and nothing else: no h2c upgrade, no HTTP/2 by prior knowledge, no WebSocket, one framing per body."""

    _begun = b""  # of an answer of known length: its head, and what has come of its body, while that is little
    _owed = 0  # bytes of that body which have not come yet

    async def _check_protocol(self, event: h11.Request) -> None:
        """An offer to upgrade is ignored, as RFC 9110 7.8 allows: Java's client makes one with each first request."""

    async def _create_stream(self, request: h11.Request) -> None:
        refused = refused_head(request, self.config.h11_max_incomplete_size)
        if refused is not None:
            await self.refuse(*refused)
            return
        # h11 would pause after this request until the offer to upgrade is answered, and a paused connection does not
        # see its client leave.
        self.connection._cstate.pending_switch_proposals.clear()  # type: ignore[union-attr]
        self.stream = _Stream(
            self.app,
            self.config,
            self.context,
            self.task_group,
            self.ssl,
            self.client,
            self.server,
            self.stream_send,
            STREAM_ID,
        )
        await self.stream.handle(
            Request(
                stream_id=STREAM_ID,
                headers=list(request.headers),
                http_version=request.http_version.decode(),
                method=request.method.decode("ascii"),
                raw_path=request.target,
                state=self.connection_state,
            )
        )
        self.keep_alive_requests += 1
        await self.context.mark_request()

    async def _send_h11_event(self, event: Any) -> None:
        """One write per answer where Hypercorn makes three: a head that announces its body's length waits for it, and
        what is long is not copied for that. The head of a stream has no length and leaves at once.
        """
        if isinstance(event, h11.Response) and self.request_unread and b"connection" not in dict(event.headers):
            # RFC 9112 9.6: an answer behind which we close has to say so. Without it a client whose request's body came
            # after our refusal would send its next request, and get no answer.
            event = h11.Response(
                status_code=event.status_code, headers=[*event.headers, (b"connection", b"close")], reason=event.reason
            )
        try:
            data = self.connection.send(event)
        except h11.LocalProtocolError:
            if self.connection.their_state != h11.ERROR:
                raise
            return
        if isinstance(event, h11.Response):
            length = next((value for name, value in event.headers if name == b"content-length"), None)
            if length is not None:
                self._begun, self._owed = data, int(length)
                return
        self._owed -= len(data)
        begun, self._begun = self._begun, b""
        if len(begun) + len(data) > MAX_COPIED:
            if begun:
                await self.send(RawData(begun))
            await self.send(RawData(data))
        elif begun and self._owed > 0 and isinstance(event, h11.Data):
            self._begun = begun + data
        elif begun or data:
            await self.send(RawData(begun + data))

    async def refuse(self, status: int, sentence: str) -> None:
        """Answer for the application and end the connection."""
        await self._send_error_response(status, sentence)
        await self.send(Closed())

    async def _send_error_response(self, status_code: int, sentence: str = "") -> None:
        if status_code == 431:
            sentence = _head_too_large(self.config.h11_max_incomplete_size)
        body = f"{sentence or 'This is not a request that HTTP/1.1 allows.'}\n".encode()
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        headers += self.config.response_headers("h11")
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())

    @property
    def head_begun(self) -> bool:
        """Part of a request's head has arrived and its end has not."""
        return self.stream is None and bool(self.connection.trailing_data[0])

    @property
    def request_unread(self) -> bool:
        """The client may still be sending what it began."""
        return self.connection.their_state not in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED)


class _Connection(TCPServer):
    """H1, H2 and H6: a connection that fails is alone in failing, a client that does not read is left, and a client
    that has left is not waited for."""

    context: Worker

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.context.config = self.config
        self.idle_task: IdleTimer = IdleTimer(self.context.terminated, self.config.keep_alive_timeout)
        self._reading, self._receiving = trio.CancelScope(), trio.CancelScope()
        self._head_until = inf
        self._linger_until = inf
        self._ended = False  # nothing will come any more

    async def run(self) -> None:
        try:
            await super().run()
        except* Exception:  # whatever it is, the other connections have nothing to do with it
            LOG.exception("a connection's task crashed; only this connection is lost")

    async def _idle_timeout(self) -> None:
        """What `IdleTimer` does when the time is over."""
        await self._initiate_server_close()

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, RawData):
            async with self.send_lock:
                try:
                    if await self.context.write(self.stream, event.data):
                        return
                    await trio.aclose_forcefully(self.stream)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass
                await self.protocol.handle(Closed())
                # Behind a request that has not been answered, a next one pauses h11: its reader would wait for ever.
                self._reading.cancel()
        elif isinstance(event, Closed):
            await self._close_or_linger()
            await self.protocol.handle(Closed())
        elif not self._ended:  # H6: else there is no next request to be idle for
            await super().protocol_send(event)

    async def _read_data(self) -> None:
        lingered = 0
        with self._reading:
            while True:
                with trio.CancelScope(deadline=self._read_deadline()) as self._receiving:
                    try:
                        data = bytes(await self.stream.receive_some(MAX_RECV))
                    except (trio.ClosedResourceError, trio.BrokenResourceError):
                        break
                if self._linger_until < inf:
                    lingered += len(data)
                    if self._receiving.cancelled_caught or not data or lingered > LINGER_BYTES:
                        break
                elif not self._receiving.cancelled_caught:
                    await self.protocol.handle(RawData(data))
                    if not data:
                        break
                    self._head_until = self._next_head_deadline()
                elif self._head_until < inf:
                    self._head_until = inf
                    await self._h11.refuse(408, f"The request's head did not arrive within {HEAD_TIMEOUT:.0f} s.")
                else:
                    break
        self._ended = True
        self.idle_task.end()
        await self.protocol.handle(Closed())

    def _read_deadline(self) -> float:
        silence = trio.current_time() + self.config.read_timeout if self.config.read_timeout else inf
        return min(self._linger_until, self._head_until, silence)

    def _next_head_deadline(self) -> float:
        if not (isinstance(self.protocol.protocol, _Protocol) and self._h11.head_begun):
            return inf
        return min(self._head_until, trio.current_time() + HEAD_TIMEOUT)

    @property
    def _h11(self) -> _Protocol:
        assert isinstance(self.protocol.protocol, _Protocol)
        return self.protocol.protocol

    async def _close_or_linger(self) -> None:
        """RFC 9112 9.6: a server that closes at once while the client still sends makes TCP throw the answer away; it
        closes its own direction first and "continues to read from the connection" for a while."""
        stream: trio.abc.Stream = self.stream
        unread = isinstance(self.protocol.protocol, _Protocol) and self._h11.request_unread
        if not (unread and isinstance(stream, trio.abc.HalfCloseableStream | trio.SSLStream)):
            await self._close()
        elif self._linger_until == inf:
            self._linger_until = self._receiving.deadline = trio.current_time() + LINGER_TIMEOUT
            try:
                if isinstance(stream, trio.abc.HalfCloseableStream):  # TLS has no half: the client hears us out
                    await stream.send_eof()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async def _close(self) -> None:
        try:
            await super()._close()
        finally:
            await trio.aclose_forcefully(self.stream)  # hypercorn#106: a cancelled send_eof skipped it
