"""``listen.transport: stdio``: our application for the one client that started us.

Where accounts are connected in a browser, its pages are served on a loopback
port; nobody calls tools there. This file must not know MCP.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from urllib.parse import urlsplit

import trio

from ..config.model import LocalConfig
from ..serving import Application
from ..web.hypercorn.guard import Receive, Scope, Send
from ..web.reply import send_whole
from .bridge import Bridge
from .own_endpoint import OwnEndpoint


async def attend(
    app: Application,
    config: LocalConfig,
    lines: AsyncIterable[bytes],
    write: Callable[[bytes], Awaitable[None]],
    *,
    shutdown: trio.Event | None = None,
) -> None:
    """Serve `app` to one client until it has no more to say, or `shutdown` is set."""
    async with trio.open_nursery() as nursery:
        endpoint = OwnEndpoint(app, urlsplit(config.issuer_url).netloc, _path(config), nursery)
        bridge = Bridge(endpoint, write)

        async def obey(shutdown: trio.Event) -> None:
            await shutdown.wait()
            bridge.stop()

        if shutdown is not None:
            nursery.start_soon(obey, shutdown)
        await bridge.run(lines)
        app.start_draining()
        nursery.cancel_scope.cancel("the client has ended")


def needs_pages(config: LocalConfig) -> bool:
    """Whether accounts are to be connected in a browser."""
    return any(upstream.enabled and upstream.auth_type == "oauth" for upstream in config.upstreams)


class PagesOnly:
    """`app` without its MCP endpoint: whoever else is on this machine has not started us."""

    def __init__(self, app: Application, config: LocalConfig) -> None:
        self._app = app
        self._mcp_path = _path(config)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == self._mcp_path:
            await send_whole(send, 404, [(b"content-type", b"text/plain")], b"MCP is spoken over stdio here.\n")
        else:
            await self._app(scope, receive, send)

    def start_draining(self) -> None:
        """The front drains the application itself."""


def _path(config: LocalConfig) -> str:
    return urlsplit(config.issuer_url).path + config.listen.path
