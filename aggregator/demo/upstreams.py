"""Two small MCP servers, real ones on the SDK, for the demo to aggregate.

`demo` speaks every revision; `notes` only those before 2026-07-28, as most
servers still do, so that the demo shows both kinds behind one endpoint. They
must not know that there is an aggregator.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import trio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.transport_security import TransportSecuritySettings

from ..web.hypercorn.guard import ASGIApp, Receive, Scope, Send
from ..web.reply import send_whole

MAX_NOTES = 100
MAX_SECONDS = 60.0


def demo_server() -> MCPServer:
    """echo, add, now, slow, fail."""
    server = MCPServer("demo", title="Demo", version="1", instructions="Small tools to try a connection with.")

    @server.tool(title="Echo")
    async def echo(text: str) -> str:
        """Say it back."""
        return text

    @server.tool(title="Add")
    async def add(a: float, b: float) -> float:
        """The sum of two numbers."""
        return a + b

    @server.tool(title="Now")
    async def now() -> str:
        """The time here, in UTC."""
        return datetime.now(UTC).isoformat(timespec="seconds")

    @server.tool(title="Slow")
    async def slow(context: Context, seconds: float = 3.0, steps: int = 3) -> str:
        """Take a while, with progress and log messages on the way; cancel it to see it end at once."""
        seconds, steps = min(max(seconds, 0.0), MAX_SECONDS), min(max(steps, 1), 100)
        for step in range(steps):
            await context.report_progress(step, steps, f"step {step + 1} of {steps}")
            await context.info(f"step {step + 1} begins")
            await trio.sleep(seconds / steps)
        return f"done after {seconds:g} s"

    @server.tool(title="Fail")
    async def fail(reason: str = "because you asked for it") -> str:
        """Fail, to see what a failing tool looks like."""
        raise ValueError(reason)

    return server


def notes_server() -> MCPServer:
    """add_note, list_notes; everybody shares one pad, in memory."""
    server = MCPServer("notes", title="Notes", version="1")
    notes: list[str] = []

    @server.tool(title="Add a note")
    async def add_note(text: str) -> str:
        """Write a note on the shared pad; the oldest goes when there are more than a hundred."""
        notes.append(text)
        del notes[:-MAX_NOTES]
        return f"{len(notes)} notes"

    @server.tool(title="List the notes")
    async def list_notes() -> list[str]:
        """All notes, the oldest first."""
        return list(notes)

    return server


class ServedServer:
    """An MCP server as an application to serve; it stops answering with the block it came from."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def start_draining(self) -> None:
        """It has no readiness."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


@asynccontextmanager
async def open_server(server: MCPServer, *, port: int, older_only: bool = False) -> AsyncIterator[ServedServer]:
    """`server` at ``/mcp`` of a loopback port, for its block."""
    hosts = TransportSecuritySettings(allowed_hosts=[f"127.0.0.1:{port}"], allowed_origins=[])
    app: ASGIApp = server.streamable_http_app(transport_security=hosts)
    async with server.session_manager.run():
        yield ServedServer(_before_2026(app) if older_only else app)


def _before_2026(app: ASGIApp) -> ASGIApp:
    """`app` as a server that has never heard of 2026-07-28: its transport refuses the unknown version."""

    async def older(scope: Scope, receive: Receive, send: Send) -> None:
        if (b"mcp-protocol-version", b"2026-07-28") in scope["headers"]:
            told = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Unsupported protocol version"}}'
            await send_whole(send, 400, [(b"content-type", b"application/json")], told)
        else:
            await app(scope, receive, send)

    return older
