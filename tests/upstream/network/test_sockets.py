"""What the system says about a connection reaches whoever has to mend it."""

from __future__ import annotations

import socket
import ssl

import httpcore2
import pytest
import trio

from aggregator.upstream.network.sockets import Refused, TrioNetwork, reason

from ...parts.processes import free_port


def caused(outer: BaseException, inner: BaseException) -> BaseException:
    outer.__cause__ = inner
    return outer


REFUSED = ConnectionRefusedError(111, "Error connecting to ('127.0.0.1', 9): Connection refused")
UNREACHABLE = OSError(101, "Network is unreachable")


@pytest.mark.parametrize(
    ("exc", "words"),
    [
        (REFUSED, "Connection refused"),
        (caused(OSError("all attempts failed"), ExceptionGroup("", [REFUSED])), "Connection refused"),
        (ExceptionGroup("", [UNREACHABLE, REFUSED, REFUSED]), "Network is unreachable, Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (caused(trio.BrokenResourceError("x"), ConnectionResetError(104, "reset")), "Connection reset by peer"),
        (caused(ValueError("x"), httpcore2.ConnectError(REFUSED)), "Connection refused"),
        (ssl.SSLEOFError(8, "EOF occurred in violation of protocol"), "EOF occurred in violation of protocol"),
        (trio.ClosedResourceError("this socket was already closed"), "this socket was already closed"),
        (trio.ClosedResourceError(), "ClosedResourceError"),
    ],
)
def test_the_innermost_reason_counts_and_each_is_said_once(exc: BaseException, words: str) -> None:
    assert reason(exc) == words


def test_a_reason_is_short() -> None:
    assert len(reason(ValueError("x" * 1000))) == 160


@pytest.mark.live
async def test_a_port_where_nobody_listens_is_named() -> None:
    port = free_port()
    with pytest.raises(Refused, match=f"^127.0.0.1:{port}: Connection refused$"):
        await TrioNetwork().connect_tcp("127.0.0.1", port)
