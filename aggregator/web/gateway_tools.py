"""The aggregator's own tools: what is behind the endpoint and how it is doing.

Their names begin with `gateway__`. They show a person only what concerns them,
and never a token (rule 1).
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from ..config.model import Upstream
from ..protocol.jsonrpc import Json
from ..protocol.names import STATUS_TOOL, UNAUTH_TOOL
from ..protocol.principal import Principal
from ..protocol.translate import text_result, tool_error
from ..store import Store
from ..upstream.listings import Listings, UpstreamStatus

TOOLS: tuple[Json, ...] = (
    {
        "name": STATUS_TOOL,
        "title": "Gateway Status",
        "description": "Show every upstream MCP server behind this gateway: whether it answers, how many tools it "
        "offers, which protocol revision it speaks, its latency and its last error.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "server": {"type": "string", "description": "Optional: name of a specific upstream server to check"}
            },
        },
        "annotations": {"title": "Gateway Status", "readOnlyHint": True, "openWorldHint": True},
    },
    {
        "name": UNAUTH_TOOL,
        "title": "Disconnect Server",
        "description": "Remove stored authentication for an upstream MCP server, so you can re-authenticate or "
        "disconnect it.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "server": {"type": "string", "description": "The name of the upstream server to deauthenticate"}
            },
            "required": ["server"],
        },
        "annotations": {
            "title": "Disconnect Server",
            "readOnlyHint": False,
            "destructiveHint": True,
            "idempotentHint": True,
            "openWorldHint": False,
        },
    },
)


class GatewayTools:
    """Runs the tools of `TOOLS`."""

    def __init__(self, listings: Listings, store: Store) -> None:
        self._listings = listings
        self._store = store

    async def call(self, name: str, arguments: Json, principal: Principal, revision: str) -> Json:
        """The result of one of our tools; a bad argument is a tool error that names the right ones."""
        server = arguments.get("server")
        if server is not None and not isinstance(server, str):
            return tool_error("The argument 'server' must be a string.", revision)
        if name == STATUS_TOOL:
            return await self._status(server, revision)
        return await self._unauth(server, principal, revision)

    async def _status(self, server: str | None, revision: str) -> Json:
        await self._listings.catalog()
        rows = [row for row in self._listings.status() if server in (None, row.name)]
        if server is not None and not rows:
            return self._unknown(server, revision)
        return text_result(json.dumps({"servers": [_row(row) for row in rows]}, indent=2, ensure_ascii=False), revision)

    async def _unauth(self, server: str | None, principal: Principal, revision: str) -> Json:
        if server is None:
            return tool_error("Missing required argument: server", revision)
        if server not in self._listings.upstreams():
            return self._unknown(server, revision)
        if await self._store.forget_upstream_token(principal, server):
            return text_result(f"Successfully removed authentication for {server}", revision)
        return text_result(f"No authentication is stored for {server}; there was nothing to remove.", revision)

    def _unknown(self, server: str, revision: str) -> Json:
        known = ", ".join(self._listings.upstreams())
        return tool_error(f"Unknown upstream: {server}. Configured: {known}", revision)


def instructions(upstreams: Iterable[Upstream]) -> str | None:
    """What a client should know before the first call, or None if the operator described nothing."""
    described = [
        f"- {upstream.prefix}__*: {upstream.description}" if upstream.prefix else f"- {upstream.description}"
        for upstream in upstreams
        if upstream.description
    ]
    if not described:
        return None
    return "\n".join(["Tools are namespaced as <upstream>__<tool>, aggregated from these servers:", *described])


def _row(status: UpstreamStatus) -> Json:
    row: Json = {
        "name": status.name,
        "authenticated": status.state in ("connected", "connecting"),
        "state": status.state,
        "tools": status.tools,
        "revision": status.revision,
        "latencyMs": None if status.latency is None else round(status.latency * 1000, 1),
        "lastError": status.error,
    }
    if status.stale:
        row["stale"] = True
    if status.left_out:
        row["leftOut"] = list(status.left_out)
    return row
