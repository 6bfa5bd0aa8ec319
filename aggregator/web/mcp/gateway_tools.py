"""The aggregator's own tools: what is behind the endpoint, how it is doing, and which logins are missing.

Their names begin with `gateway__`. They show a person only what concerns them,
and never a token: the URLs they name hold an upstream's name and nothing else
(rule 1). This file must not know how an account is connected.
"""

from __future__ import annotations

import datetime
import json
from typing import Any, Protocol

from ...protocol.jsonrpc import Json
from ...protocol.names import AUTH_TOOL, STATUS_TOOL, UNAUTH_TOOL, auth_tool, is_gateway_name
from ...protocol.oauth.site import Site
from ...protocol.principal import Principal
from ...protocol.translate import text_result, tool_error
from ...upstream.listings import Listings, UpstreamStatus, View

_SERVER = {"type": "string", "description": "Optional: name of a specific upstream server to check or authenticate"}
_STATUS: Json = {
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
}
_UNAUTH: Json = {
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
}
_ALL_CONNECTED = (
    "Show authentication status for upstream MCP servers. "
    'Pass the "server" argument to check a single server. All servers are currently connected.'
)


def gateway_tools(needing: tuple[str, ...]) -> tuple[Json, ...]:
    """Our tools for a person whose login is missing at the upstreams `needing`, in the order of the list."""
    return (_auth(needing), *(_auth_of(name) for name in needing), _STATUS, _UNAUTH)


# Models have no browser: what they are given has to say what it is for.
_NEXT = (
    "An authUrl is a page that the person opens in a browser to connect their own account; it opens for them alone. "
    "Show them the link. When they have connected, the server's tools are listed and can be called."
)
_BEHIND = (
    "Renewed logins cannot be stored at the moment. If this server is restarted now, some accounts have to be "
    "connected again; tell the people who run it."
)


class Disconnecting(Protocol):
    """Forgetting a person's account at an upstream."""

    @property
    def is_behind(self) -> bool:
        """Whether the store lacks tokens that were renewed here."""
        ...

    async def disconnect(self, principal: Principal, upstream: str) -> bool:
        """Revoke what the upstream's authorization server lets us revoke, and delete. False if nothing was stored.

        Raises:
            StoreUnavailable: if it cannot be deleted now.
        """
        ...


class GatewayTools:
    """Runs the tools of `gateway_tools`."""

    def __init__(self, site: Site, listings: Listings, connections: Disconnecting) -> None:
        self._site = site
        self._listings = listings
        self._connections = connections

    def runs(self, name: str) -> bool:
        """Whether `name` is one of ours, shown to this person or not: an account may have been connected since."""
        return is_gateway_name(name) and (
            name in (STATUS_TOOL, UNAUTH_TOOL, AUTH_TOOL) or self._upstream_of(name) is not None
        )

    async def call(self, name: str, arguments: Json, view: View, revision: str) -> Json:
        """The result of one of our tools; a bad argument is a tool error that names the right ones.

        Raises:
            StoreUnavailable: if the store is not there.
        """
        server = arguments.get("server")
        if server is not None and not isinstance(server, str):
            return tool_error("The argument 'server' must be a string.", revision)
        if name == UNAUTH_TOOL:
            return await self._unauth(server, view, revision)
        return await self._status(self._upstream_of(name) or server, view, revision)

    def _upstream_of(self, name: str) -> str | None:
        return next((upstream for upstream in self._listings.upstreams() if auth_tool(upstream) == name), None)

    async def _status(self, server: str | None, view: View, revision: str) -> Json:
        await self._listings.catalog(view)
        rows = [row for row in self._listings.status(view) if server in (None, row.name)]
        if server is not None and not rows:
            return self._unknown(server, revision)
        status: Json = {"dashboardUrl": self._site.url("/connections"), "servers": [self._row(row) for row in rows]}
        if any("authUrl" in row for row in status["servers"]):
            status["next"] = _NEXT
        if self._connections.is_behind:
            status["warning"] = _BEHIND
        return text_result(json.dumps(status, indent=2, ensure_ascii=False), revision)

    async def _unauth(self, server: str | None, view: View, revision: str) -> Json:
        if server is None:
            return tool_error("Missing required argument: server", revision)
        if server not in self._listings.upstreams():
            return self._unknown(server, revision)
        if await self._connections.disconnect(view.principal, server):
            return text_result(f"Successfully removed authentication for {server}", revision)
        return text_result(f"No authentication is stored for {server}; there was nothing to remove.", revision)

    def _unknown(self, server: str, revision: str) -> Json:
        known = ", ".join(self._listings.upstreams())
        return tool_error(f"Unknown upstream: {server}. Configured: {known}", revision)

    def _row(self, status: UpstreamStatus) -> Json:
        row: dict[str, Any] = {
            "name": status.name,
            "authenticated": status.state in ("connected", "connecting", "retrying", "not_started"),
            "state": status.state,
            "tools": status.tools,
            "revision": status.revision,
            "latencyMs": None if status.latency is None else round(status.latency * 1000, 1),
            "lastError": status.error,
        }
        if status.state == "needs_login":
            row["authUrl"] = connect_url(self._site, status.name)
        if status.standing.account:
            row["account"] = status.standing.account
        if status.standing.next_try_at is not None:
            row["nextTryAt"] = _moment(status.standing.next_try_at)
        if status.stale:
            row["stale"] = True
        if status.left_out:
            row["leftOut"] = list(status.left_out)
        if status.flagged:
            row["flagged"] = list(status.flagged)
        return row


def _moment(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def connect_url(site: Site, upstream: str) -> str:
    """Where a person connects their account. It names nobody and opens nothing by itself (UP10)."""
    return site.url(f"/connect/{upstream}")


def _auth(needing: tuple[str, ...]) -> Json:
    described = _ALL_CONNECTED
    if needing:
        described = (
            "Show authentication status and authenticate upstream MCP servers. "
            'Pass the "server" argument to check a single server (equivalent to calling gateway__{server}__auth). '
            f"Servers requiring authentication: {', '.join(needing)}"
        )
    return {
        "name": AUTH_TOOL,
        "title": "Gateway Authentication",
        "description": described,
        "inputSchema": {"type": "object", "properties": {"server": _SERVER}},
        "annotations": {"title": "Gateway Authentication", "readOnlyHint": True, "openWorldHint": True},
    }


def _auth_of(upstream: str) -> Json:
    return {
        "name": auth_tool(upstream),
        "title": f"Authenticate {upstream}",
        "description": f"[{upstream}] Authenticate with {upstream}. This server requires authentication before its "
        f'tools become available. Equivalent to calling gateway__auth with server="{upstream}". Returns a link, '
        "authUrl, that the person opens in a browser.",
        "inputSchema": {"type": "object", "properties": {}},
        "annotations": {"title": f"Authenticate {upstream}", "readOnlyHint": True, "openWorldHint": True},
    }
