"""The sockets below the connection pool: trio's own, with nothing between.

The pool's stock backend opens a cancel scope per read and write for time-outs
that we never set (deadlines are the callers' scopes), and writes a request's
head and body apart. Both cost CPU on every call. This file knows bytes only.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn

import httpcore2
import trio

HEAD_END = b"\r\n\r\n"


class TrioNetwork(httpcore2.AsyncNetworkBackend):
    """Connects over TCP. The `timeout` parameters of the interface are the pool's, which has none to give."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        try:
            return TrioNetworkStream(await trio.open_tcp_stream(host, port))
        except OSError as exc:
            nobody_listens = all(isinstance(leaf, ConnectionRefusedError) for leaf in _leaves(exc))
            kind = Refused if nobody_listens else httpcore2.ConnectError
            raise kind(f"{host}:{port}: {reason(exc)}") from exc


class Refused(httpcore2.ConnectError):
    """The host is there, and nobody listens: the server has ended, or has not begun."""


class TrioNetworkStream(httpcore2.AsyncNetworkStream):
    """One connection. The head of a request is held back until its body, or until an answer is waited for."""

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self._head = b""
        self.has_read = False  # since the last request began; what is answered without came before it was asked

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self.has_read = True
        if self._head:
            await self._send(b"")
        try:
            return bytes(await self._stream.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise httpcore2.ReadError(reason(exc)) from exc

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.has_read = False
        if buffer.endswith(HEAD_END) and not self._head:
            self._head = buffer
        elif buffer:
            await self._send(buffer)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        assert isinstance(self._stream, trio.SocketStream)
        stream = trio.SSLStream(self._stream, ssl_context, server_hostname=server_hostname, https_compatible=True)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError as exc:
            await trio.aclose_forcefully(stream)
            _refuse_tls(exc)
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return TrioNetworkStream(stream)

    def get_extra_info(self, info: str) -> Any:
        """What the pool asks: whether an idle connection has been closed by the other side (it then is readable)."""
        match info, self._stream:
            case "is_readable", trio.SSLStream():
                return self._stream.transport_stream.socket.is_readable()
            case "is_readable", _:
                return self._stream.socket.is_readable()
            case "ssl_object", trio.SSLStream():
                return self._stream._ssl_object  # trio#542: reached by __getattr__
            case _:
                return None

    async def _send(self, buffer: bytes) -> None:
        data, self._head = self._head + buffer, b""
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise httpcore2.WriteError(reason(exc)) from exc


def _refuse_tls(exc: trio.BrokenResourceError) -> NoReturn:
    """Why a certificate was refused is what the operator needs; trio keeps it as the cause."""
    cause = exc.__cause__
    if isinstance(cause, ssl.SSLCertVerificationError):
        raise httpcore2.ConnectError(f"TLS certificate refused: {cause.verify_message}") from exc
    raise httpcore2.ConnectError(f"TLS handshake failed: {reason(cause or exc)}") from exc


def reason(exc: BaseException) -> str:
    """Why the system did not connect or gave a connection up, in its words; trio keeps them in a group's leaves."""
    return ", ".join(dict.fromkeys(map(_reason, _leaves(exc))))[:160]


def _leaves(exc: BaseException) -> Iterator[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        for inner in exc.exceptions:
            yield from _leaves(inner)
    elif (cause := exc.__cause__) is not None:
        yield from _leaves(cause)
    elif exc.args and isinstance(exc.args[0], BaseException):  # as httpcore2 wraps what it maps
        yield from _leaves(exc.args[0])
    else:
        yield exc


def _reason(exc: BaseException) -> str:
    if isinstance(exc, ssl.SSLError):  # an OSError whose number is OpenSSL's
        return exc.strerror or str(exc)
    if isinstance(exc, OSError) and exc.errno is not None:
        return os.strerror(exc.errno) if exc.errno > 0 else str(exc.strerror)  # negative: name resolution
    return str(exc) or type(exc).__name__
