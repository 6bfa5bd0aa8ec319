"""An identity provider that is broken on the wire: real sockets, real HTTP, one deadline above all."""

from __future__ import annotations

import gc
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from aggregator.config.model import Auth
from aggregator.errors import IdentityProviderUnavailable
from aggregator.upstream.identity.provider import open_identity_provider
from tests.parts.processes import PATIENCE

pytestmark = pytest.mark.live

Serve = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    """A server on a loopback port that does `serve` with each connection."""

    async def connected(stream: trio.SocketStream) -> None:
        try:
            await serve(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the other side had enough

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, connected, 0, host="127.0.0.1"))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel("test over")


async def reset(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


async def close(stream: trio.SocketStream) -> None:
    await stream.receive_some()


async def close_in_body(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"iss')


async def speak_otherwise(stream: trio.SocketStream) -> None:
    await stream.send_all(b"220 mail.example.com ESMTP\r\n" * 10)
    await trio.sleep(1)


async def flood(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while True:
        await stream.send_all(b" " * 65536)


async def flood_headers(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 200 OK\r\n")
    while True:
        await stream.send_all(b"X-Filler: " + b"x" * 1000 + b"\r\n")


async def bad_chunks(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n")


async def redirect(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 302 Found\r\nLocation: http://[bad\r\nContent-Length: 0\r\n\r\n")


async def bomb(stream: trio.SocketStream) -> None:
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00")


@pytest.mark.requirement("AF4")
@pytest.mark.parametrize(
    "serve", [reset, close, close_in_body, speak_otherwise, flood, flood_headers, bad_chunks, redirect, bomb]
)
async def test_a_broken_provider_is_named_at_once_and_nothing_is_left_over(serve: Serve) -> None:
    async with listening(serve) as port:
        issuer = f"http://127.0.0.1:{port}"
        with trio.fail_after(PATIENCE):
            async with open_identity_provider(Auth(issuer), "http://127.0.0.1:9/callback") as provider:
                with pytest.raises(IdentityProviderUnavailable, match=f"identity provider {issuer}: "):
                    await provider.authorization_url(state="s", nonce="n", code_verifier="v" * 43)
    gc.collect()  # a half-read body that nobody closed would warn here


async def test_a_provider_that_trickles_is_left_at_the_deadline() -> None:
    """A byte now and then keeps every timeout of a single read happy; the deadline is for the whole."""

    async def trickle(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send_all(b" ")
            await trio.sleep(0.2)

    async with listening(trickle) as port:
        issuer = f"http://127.0.0.1:{port}"
        async with open_identity_provider(Auth(issuer), "http://127.0.0.1:9/callback") as provider:
            with trio.fail_after(PATIENCE), pytest.raises(IdentityProviderUnavailable, match="within 5 seconds"):
                await provider.authorization_url(state="s", nonce="n", code_verifier="v" * 43)
    gc.collect()


async def test_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    async def shake_hands(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"\x15\x03\x01\x00\x02\x02\x28")  # a TLS alert: handshake failure

    async with listening(shake_hands) as port:
        issuer = f"https://127.0.0.1:{port}"
        context = ssl.create_default_context()
        async with open_identity_provider(Auth(issuer), "http://127.0.0.1:9/callback", ssl_context=context) as provider:
            with trio.fail_after(PATIENCE), pytest.raises(IdentityProviderUnavailable, match="cannot be reached"):
                await provider.authorization_url(state="s", nonce="n", code_verifier="v" * 43)


@pytest.mark.requirement("AF4")
async def test_a_name_that_does_not_exist_is_named() -> None:
    issuer = "https://no-such-host.invalid"
    async with open_identity_provider(Auth(issuer), "http://127.0.0.1:9/callback") as provider:
        with trio.fail_after(PATIENCE), pytest.raises(IdentityProviderUnavailable, match=r"no-such-host\.invalid"):
            await provider.authorization_url(state="s", nonce="n", code_verifier="v" * 43)
