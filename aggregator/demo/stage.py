"""The demo's pieces, put together: identity provider, two MCP servers and the aggregator, all on loopback ports.

This file owns who listens where and who trusts whom. It must not know what
anybody does with it.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio

from ..config.model import Auth, Config, Secret, Upstream
from ..config.secrets import new_secret
from ..server import open_aggregator
from ..serving import Application, CannotListen, listen, serve_application, url_of
from .identity_provider import DemoIdentityProvider
from .upstreams import demo_server, notes_server, open_server

HOST = "127.0.0.1"  # and not localhost: a name may stand for an address that nobody listens on
DEFAULT_PORT = 8765
CLIENT_ID = "mcp-aggregator-demo"
DRAIN = 3.0  # seconds; at the demo's end nobody waits for long


def listen_for_demo(port: int | None) -> socket.socket:
    """The aggregator's socket: on `port`, or without one on the demo's own port, or on a free one if that is taken.

    Raises:
        CannotListen: if `port` was asked for and cannot be had.
    """
    try:
        (listener,) = listen(HOST, DEFAULT_PORT if port is None else port)
    except CannotListen as error:
        if port is not None or error.errno != errno.EADDRINUSE:
            raise
        (listener,) = listen(HOST, 0)
    return listener


def demo_config(url: str, issuer: str, demo_url: str, notes_url: str) -> Config:
    """The configuration that an operator would write for this, with a secret that nobody needs again."""
    return Config(
        auth=Auth(issuer=issuer, client_id=CLIENT_ID, scopes=("openid", "profile", "email")),
        upstreams=(
            Upstream("demo", f"{demo_url}/mcp", "demo", display_name="Demo", auth_type="none"),
            Upstream("notes", f"{notes_url}/mcp", "notes", display_name="Notes", auth_type="none"),
        ),
        issuer_url=url,
        storage="memory",
        host=HOST,
        port=int(url.rpartition(":")[2]),
        secret=Secret(new_secret()),
        drain=DRAIN,
        client_documents=False,  # a demo works where nothing but this machine can be reached
    )


@asynccontextmanager
async def open_demo(listener: socket.socket, *, shutdown: trio.Event | None = None) -> AsyncIterator[str]:
    """Serve everything for the block; the aggregator's URL.

    With `shutdown` set, the end of the block waits for the aggregator's drain; else it cuts the requests off.
    """
    (provider_socket,), (demo_socket,), (notes_socket,) = (listen(HOST, 0) for _ in range(3))
    url, issuer = url_of(listener), url_of(provider_socket)
    provider = DemoIdentityProvider(issuer, client_id=CLIENT_ID, redirect_uri=f"{url}/callback")
    config = demo_config(url, issuer, url_of(demo_socket), url_of(notes_socket))
    demo_port, notes_port = demo_socket.getsockname()[1], notes_socket.getsockname()[1]
    async with (
        trio.open_nursery() as behind,
        open_server(demo_server(), port=demo_port) as demo,
        open_server(notes_server(), port=notes_port, older_only=True) as notes,
    ):
        for app, its_socket in ((provider, provider_socket), (demo, demo_socket), (notes, notes_socket)):
            await behind.start(partial(_serve, app, its_socket))
        async with open_aggregator(config) as aggregator, trio.open_nursery() as front:
            await front.start(partial(_serve, aggregator, listener, shutdown))
            yield url
            if shutdown is None or not shutdown.is_set():
                front.cancel_scope.cancel("demo closed")
        behind.cancel_scope.cancel("demo closed")


async def _serve(
    app: Application,
    its_socket: socket.socket,
    shutdown: trio.Event | None = None,
    *,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    await serve_application(
        app, host=HOST, port=0, drain=DRAIN, shutdown=shutdown, sockets=(its_socket,), task_status=task_status
    )
