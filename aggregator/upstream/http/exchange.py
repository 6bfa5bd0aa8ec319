"""One POST to an MCP server and what comes back, message by message.

Here foreign errors become ours, and bytes become JSON-RPC messages. Redirects
are never followed, cookies neither sent nor kept (the pool has no jar), and a
body we did not ask to be compressed is refused when it is. Deadlines are the
caller's cancel scopes; cancellation closes the connection, which is how a
2026-07-28 server is told. This file does not know sessions or revisions.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Protocol
from urllib.parse import urlsplit

import httpcore2
import trio

from ...errors import UpstreamLost, UpstreamRefused
from ...protocol.jsonrpc import Failure, Message, Success, Unreadable, parse_loose
from ...protocol.sse import EventReader, EventTooLarge
from ..network.proxy import ProxiedNetwork, Proxy
from ..network.sockets import Refused, TrioNetwork, TrioNetworkStream

MAX_BODY = 16 * 2**20  # bytes of one JSON answer
# Seconds. Node, behind most MCP servers, drops idle connections after 5; we must be the first to let go.
KEEP_ALIVE = 4.0
END_OF_STREAM = 0.02  # seconds to wait for the end after the answer came, so that the connection can be used again

_SECONDS = re.compile(r"[0-9]{1,6}")  # Retry-After in its usual form; a date is not worth a parser

Headers = list[tuple[bytes, bytes]]
OnMessage = Callable[[Message], Awaitable[None]]

_LOST: dict[type[Exception], tuple[str, bool]] = {  # in words, and whether the request may have been executed
    httpcore2.ConnectError: ("cannot connect", False),
    httpcore2.ConnectTimeout: ("cannot connect in time", False),
    httpcore2.PoolTimeout: ("too many requests at once", False),
    httpcore2.UnsupportedProtocol: ("not an http(s) URL", False),
    httpcore2.RemoteProtocolError: ("broke off or does not speak HTTP", True),
    httpcore2.ReadError: ("connection lost", True),
    httpcore2.WriteError: ("connection lost while sending", True),
    httpcore2.LocalProtocolError: ("cannot be asked this over HTTP", False),
}
_LOST_KINDS = tuple(_LOST)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response whose head has arrived."""

    status: int
    headers: dict[str, str]
    chunks: AsyncIterator[bytes]


class Interrupted(UpstreamLost):
    """A stream that ended without the answer, and said how it can be taken up again (2025-11-25, resumability).

    `last_event` is the id of the last event that came; `retry` is in seconds, None if the upstream named none. With
    `is_closed` the upstream ended the stream in order: it wants to be asked again later (SEP-1699).
    """

    def __init__(self, message: str, last_event: str, retry: float | None, *, is_closed: bool) -> None:
        super().__init__(message)
        self.last_event = last_event
        self.retry = retry
        self.is_closed = is_closed


class Exchange(Protocol):
    """How requests reach one upstream."""

    def send(self, method: str, headers: Headers, body: bytes) -> AbstractAsyncContextManager[Answer]: ...


class HttpExchange:
    """An upstream behind a URL. Opened by `open_exchange`."""

    def __init__(self, url: str, pool: httpcore2.AsyncConnectionPool, forward: Proxy | None = None) -> None:
        self._url = self._asked = httpcore2.URL(url)
        self._added: Headers = []
        if forward is not None:  # RFC 9112 3.2.2: to a proxy, the whole URL stands in the request line
            self._asked = httpcore2.URL(scheme="http", host=forward.host, port=forward.port, target=bytes(self._url))
            self._added = forward.headers
        port = b"" if self._url.port is None else b":%d" % self._url.port
        host = self._url.host if b":" not in self._url.host else b"[%s]" % self._url.host
        self._host = (b"host", host + port)
        self._pool = pool

    def __repr__(self) -> str:
        return f"<HttpExchange {self._url!r}>"

    def send(self, method: str, headers: Headers, body: bytes) -> AbstractAsyncContextManager[Answer]:
        """Raises, when entered and left:
        UpstreamLost: if no head arrives, or (from within the block) the body breaks off.
        """
        length = (b"content-length", b"%d" % len(body))
        request = httpcore2.Request(
            method,
            self._asked,
            headers=[self._host, (b"accept-encoding", b"identity"), length, *self._added, *headers],
            content=body,
        )
        return _Sending(self._pool, request)

    async def let_go(self) -> None:
        """Close what has not been used of late. The pool itself looks for it when the next request comes, which may be
        tomorrow; one that is just being taken finds another."""
        for connection in self._pool.connections:
            if connection.is_idle() and connection.has_expired():
                await connection.aclose()


class _Sending(AbstractAsyncContextManager[Answer]):
    """One request on its way. A class, not a generator: it stands on the way of every call."""

    __slots__ = ("_chunks", "_pool", "_request", "_response")

    def __init__(self, pool: httpcore2.AsyncConnectionPool, request: httpcore2.Request) -> None:
        self._pool = pool
        self._request = request

    async def __aenter__(self) -> Answer:
        try:
            response = self._response = await self._pool.handle_async_request(self._request)
            self._chunks = response.aiter_stream()
            try:
                _refuse_unasked(response)
                return Answer(response.status, _fields(response.headers), self._chunks)
            except BaseException:
                await self._end()
                raise
        except _LOST_KINDS as exc:
            raise _lost(exc) from exc

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._end()
        except _LOST_KINDS as lost:
            raise _lost(lost) from lost
        if isinstance(exc, _LOST_KINDS):
            raise _lost(exc) from exc

    async def _end(self) -> None:
        await self._response.aclose()
        await _unwind(self._chunks)


def _lost(exc: BaseException) -> UpstreamLost:
    words, executed = _words(exc)
    return UpstreamLost(f"{words} ({_detail(exc)})", executed=executed, absent=isinstance(exc, Refused))


def _fields(raw: Headers) -> dict[str, str]:
    """Headers by name; of several of one name the last counts, except challenges, which add up (RFC 9110 11.6.1)."""
    fields: dict[str, str] = {}
    for key, value in raw:
        name, text = key.lower().decode("latin-1"), value.decode("latin-1")
        fields[name] = f"{fields[name]}, {text}" if name == "www-authenticate" and name in fields else text
    return fields


async def _unwind(chunks: AsyncIterator[bytes]) -> None:
    """Let the pool's nested generators end by reading on where nothing can be read any more; otherwise those of a
    body that was left early are the garbage collector's to end, some time, in a task of its own."""
    try:
        async for _ in chunks:
            pass
    except _LOST_KINDS:
        pass


def _refuse_unasked(response: httpcore2.Response) -> None:
    """Bytes behind an answer would be read as the answer to the next request on the connection, which is another
    person's; httpcore looks for them in the socket, and not in its own buffer. The connection ends with the refusal.

    Raises:
        UpstreamLost: if the answer was there before the request. The upstream may have executed it.
    """
    stream = response.extensions["network_stream"]
    if isinstance(stream, TrioNetworkStream) and not stream.has_read:
        raise UpstreamLost("sent an answer that nobody had asked for; the connection is closed")


@asynccontextmanager
async def open_exchange(
    url: str, context: ssl.SSLContext, proxy: Proxy | None = None, *, connections: int
) -> AsyncIterator[HttpExchange]:
    """A pool of HTTP/1.1 connections to one upstream, so many at once at most; closes them on exit.

    Through `proxy`, unless the upstream is on this computer: https in a tunnel, plain http as a request to the proxy.

    HTTP/2 is off: the pool cannot reset a stream, so a cancelled call would run on at the upstream.
    """
    via = proxy if proxy is not None and proxy.is_for(urlsplit(url).hostname or "") else None
    tunnelled = via is not None and url.startswith("https:")
    async with httpcore2.AsyncConnectionPool(
        ssl_context=context,
        max_connections=connections,
        keepalive_expiry=KEEP_ALIVE,
        http2=False,
        network_backend=ProxiedNetwork(via) if via is not None and tunnelled else TrioNetwork(),
    ) as pool:
        yield HttpExchange(url, pool, None if tunnelled else via)


async def converse(
    exchange: Exchange, headers: Headers, body: bytes, id: str, on_message: OnMessage
) -> Success | Failure:
    """POST the request with `id` and return its answer. Raises as `Exchange.send` and `read_outcome` do."""
    async with exchange.send("POST", headers, body) as answer:
        return await read_outcome(answer, id, on_message)


async def read_outcome(answer: Answer, id: str, on_message: OnMessage) -> Success | Failure:
    """The answer to request `id`; whatever the upstream says before it goes to `on_message`.

    Raises:
        UpstreamLost: if the answer never comes or is not MCP.
        UpstreamRefused: for a status of 300 or more whose body is not a JSON-RPC error to this request.
    """
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise UpstreamLost(f"answered with content-encoding {answer.headers['content-encoding'][:40]!r}, unasked")
    if answer.status >= 300:
        return await _refusal(answer, kind, id)
    if kind == "text/event-stream":
        return await _from_events(answer, id, on_message)
    if kind != "application/json":
        raise UpstreamLost(f"answered with content type {kind[:60]!r}, not MCP (HTTP {answer.status})")
    return await _from_messages(_parse(await read_body(answer)), id, on_message)


async def read_body(answer: Answer, limit: int = MAX_BODY) -> bytes:
    """Raises:
    UpstreamLost: beyond `limit` bytes.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in answer.chunks:
        size += len(chunk)
        if size > limit:
            raise UpstreamLost(f"answered with more than {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


async def _from_events(answer: Answer, id: str, on_message: OnMessage) -> Success | Failure:
    reader = EventReader()
    found: Success | Failure | None = None
    how, is_closed = "ended the stream without an answer", True
    try:
        async for chunk in answer.chunks:
            try:
                events = reader.feed(chunk)
            except EventTooLarge as exc:
                raise UpstreamLost(str(exc)) from exc
            for data in events:
                if not data:
                    continue  # 2025-11-25: a stream may begin with an event of empty data
                found = await _find(_parse(data), id, on_message)
                if found is not None:
                    break
            if found is not None:
                with trio.move_on_after(END_OF_STREAM):
                    async for _ in answer.chunks:
                        pass
                return found
    except tuple(_LOST) as exc:
        how, is_closed = f"{_words(exc)[0]} ({_detail(exc)})", False
    if reader.last_id:
        retry = None if reader.retry is None else reader.retry / 1000
        raise Interrupted(how, reader.last_id, retry, is_closed=is_closed)
    raise UpstreamLost(how)


async def read_stream(answer: Answer, on_message: OnMessage) -> None:
    """Every message of an event stream that answers nothing (2025-11-25, the GET stream), until it ends.

    Raises:
        UpstreamLost: if it breaks, or is not MCP.
        UpstreamRefused: for a status of 300 or more.
    """
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if answer.status >= 300:
        await _refusal(answer, "", "")
    if kind != "text/event-stream":
        raise UpstreamLost(f"answered with content type {kind[:60]!r}, not a stream (HTTP {answer.status})")
    reader = EventReader()
    async for chunk in answer.chunks:
        try:
            events = reader.feed(chunk)
        except EventTooLarge as exc:
            raise UpstreamLost(str(exc)) from exc
        for data in events:
            for message in _parse(data) if data else ():
                await on_message(message)


async def _refusal(answer: Answer, kind: str, id: str) -> Failure:
    """A JSON-RPC error with a status of its own (2026-07-28), or else the refusal as such. A body is never shown.

    Its id is None if it may be about something else than the request, such as its session."""
    if answer.status not in (401, 403) and kind == "application/json":
        try:
            message = parse_loose(await read_body(answer, 64 * 1024))[0]
        except (Unreadable, UpstreamLost):
            message = None
        if isinstance(message, Failure) and message.id == id:
            return message
        # Without an id, 404 is not about this request but about its session (2025-11-25, session management 3).
        if isinstance(message, Failure) and message.id is None and answer.status != 404:
            return message
    phrase = HTTPStatus(answer.status).phrase if answer.status in set(HTTPStatus) else "unknown status"
    if answer.status < 400:
        raise UpstreamRefused(answer.status, f"HTTP {answer.status} {phrase}: it redirects; configure the final URL")
    retry = answer.headers.get("retry-after", "")
    raise UpstreamRefused(
        answer.status,
        f"HTTP {answer.status} {phrase}",
        retry_after=float(retry) if _SECONDS.fullmatch(retry) else None,
        challenge=answer.headers.get("www-authenticate", ""),
    )


async def _from_messages(messages: tuple[Message, ...], id: str, on_message: OnMessage) -> Success | Failure:
    if (found := await _find(messages, id, on_message)) is not None:
        return found
    match messages[-1]:
        case Failure(None, error):
            return Failure(id, error)
        case Success() | Failure():
            raise UpstreamLost("answered a request that it was never asked")
        case _:
            raise UpstreamLost("answered with something that is no answer")


async def _find(messages: tuple[Message, ...], id: str, on_message: OnMessage) -> Success | Failure | None:
    """The answer to request `id`; what stands before it is passed on, answers to other requests are dropped."""
    for message in messages:
        if not isinstance(message, Success | Failure):
            await on_message(message)
        elif message.id == id:
            return message
    return None


def _parse(data: bytes) -> tuple[Message, ...]:
    try:
        return parse_loose(data)
    except Unreadable as exc:
        raise UpstreamLost(f"answered with what is not MCP: {exc}") from exc


def _words(exc: BaseException) -> tuple[str, bool]:
    return next(_LOST[kind] for kind in type(exc).__mro__ if kind in _LOST)


def _detail(exc: BaseException) -> str:
    return (str(exc) or type(exc).__name__)[:160]
