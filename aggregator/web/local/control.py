"""Local mode's control: what `mcp-aggregator status`, `retry` and `logout` ask the running daemon.

The same door as the MCP endpoint's: Host was checked, `listen.token` is asked for
where there is one. Programs alone come here: whatever a browser sends says that it
is one, and is refused. This file must not know how an upstream is tried.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from ... import __version__
from ...errors import Refusal
from ...protocol.oauth.site import Site
from ...protocol.principal import Principal
from ...protocol.texts import clean_line
from ...upstream.listings import UpstreamStatus
from ..authentication import Authentication
from ..http import Request, Response, Route, json_response, no_store
from ..people.accounts import Connecting, Controls

PATH = "/control"
MAX_BODY = 4096

# Fetch, 2.2.2 and Fetch Metadata: browsers add these to what pages send, and pages cannot leave them out.
_FROM_BROWSERS = ("origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest")


def control_routes(
    site: Site, authentication: Authentication, controls: Controls, connections: Connecting
) -> tuple[Route, ...]:
    def route(path: str, method: str, work: Callable[[Principal, Request], Awaitable[Any]]) -> Route:
        return Route(
            f"{site.path}{PATH}/{path}", {method: partial(answered, authentication, work)}, body_limit=MAX_BODY
        )

    async def status(person: Principal, request: Request) -> Any:
        rows = await controls.known(person)
        return {"version": __version__, "url": site.issuer, "upstreams": [status_record(site, row) for row in rows]}

    async def retry(person: Principal, request: Request) -> Any:
        return {"tried": list(controls.try_now(await _named(person, request)))}

    async def logout(person: Principal, request: Request) -> Any:
        name = await _named(person, request)
        if name is None:
            raise Refusal(400, "invalid_request", "Name the upstream.")
        return {"ended": await connections.disconnect(person, name)}

    async def _named(person: Principal, request: Request) -> str | None:
        name = parse_named(request)
        if name is not None and all(row.name != name for row in await controls.known(person)):
            raise Refusal(404, "not_found", f"No upstream is called {name[:40]!r}.")
        return name

    return (route("status", "GET", status), route("retry", "POST", retry), route("logout", "POST", logout))


def status_record(site: Site, row: UpstreamStatus) -> Mapping[str, Any]:
    """One upstream for machines; `fix` is the command, or the address, that helps."""
    record: dict[str, Any] = {
        "name": row.name,
        "state": row.state,
        "tools": row.tools,
        "revision": row.revision,
        "latencyMs": None if row.latency is None else round(row.latency * 1000),
        "stale": row.stale,
        "error": None if row.error is None else clean_line(row.error, 300),
    }
    if row.last_words:
        record["stderr"] = [clean_line(line, 300) for line in row.last_words]
    if row.state == "needs_login":
        record["fix"] = f"mcp-aggregator login {row.name}"
        record["loginUrl"] = site.url(f"/connect/{row.name}")
    elif row.state in ("unreachable", "retrying"):
        record["fix"] = f"mcp-aggregator retry {row.name}"
    return record


def parse_named(request: Request) -> str | None:
    """The upstream that the body names, if it names one.

    Raises:
        Refusal: 400 for anything but a JSON object whose ``upstream`` is text or null.
    """
    try:
        value = json.loads(request.body or b"{}")
    except (ValueError, RecursionError):
        value = None
    name = value.get("upstream") if isinstance(value, dict) else 0
    if not isinstance(name, str | None):
        raise Refusal(400, "invalid_request", 'Send {"upstream": "<name>"}, or {} for all.')
    return name


async def answered(
    authentication: Authentication, work: Callable[[Principal, Request], Awaitable[Any]], request: Request
) -> Response:
    """What `work` comes to, for a program that may come in.

    Raises:
        Refusal: for whoever may not.
    """
    for name in _FROM_BROWSERS:
        if request.header(name) is not None:
            raise Refusal(403, "invalid_request", "This is for programs; people have the pages.")
    sender = authentication.authenticate(request.headers)
    return no_store(json_response(await work(sender.principal, request)))
