"""What concerns several keys at once, or a key and the environment.

These rules look at the values as written, not at the validated model, so that
they speak up beside any other problem; a value of the wrong kind is left to
`vocabulary`, which refuses it. Those of upstreams are in `upstream_rules`. This file must not know about positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .document import Path
from .scalars import Misplaced, NotYet, Wrong, is_true, show
from .upstream_rules import broken_upstream_rules
from .urls import is_loopback, is_plain_http, show_url

INSECURE_VARIABLE = "MCP_DANGEROUSLY_ALLOW_INSECURE_ISSUER_URL"


def broken_rules(root: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[tuple[Path, Wrong]]:
    """Every rule that `root` breaks, with the path of the value to change."""
    yield from broken_upstream_rules(root)
    yield from _client_ids(root.get("clients"))
    auth = root.get("auth")
    if isinstance(auth, dict):
        yield from _login(auth)
    yield from _for_teams(root) if "auth" in root else _front_door(root)
    own = root.get("issuerUrl")
    if is_plain_http(own) and environ.get(INSECURE_VARIABLE) not in ("true", "1"):
        yield (
            ("issuerUrl",),
            Wrong(f"{show_url(own)} is not https; http is for localhost only ({INSECURE_VARIABLE}=true lifts this)"),
        )


def _for_teams(root: Mapping[str, Any]) -> Iterator[tuple[Path, Wrong]]:
    if "listen" in root:
        yield ("listen",), Misplaced("is for local mode, and with 'auth' people log in; remove one of them")
    if "socket" in root:
        yield ("socket",), NotYet("listening on a Unix socket with 'auth' is not available yet; give 'host' and 'port'")


def _front_door(root: Mapping[str, Any]) -> Iterator[tuple[Path, Wrong]]:
    """Local mode: who is on this machine may come in, others only if the operator says so."""
    for key in ("clients", "clientSchemes", "clientDocuments", "tokens"):
        if key in root:
            yield (
                (key,),
                Misplaced("is for teams, and there is no 'auth' to log in by; give 'auth.issuer' or remove it"),
            )
    listen = root.get("listen", {})
    if not isinstance(listen, dict):
        return
    if listen.get("transport") == "stdio":
        for path in (("socket",), ("host",), ("port",), ("tls",), ("listen", "token")):
            if path[-1] in (listen if len(path) == 2 else root):
                yield path, Misplaced("is for http, and listen.transport is 'stdio'; remove one of them")
        return
    if "socket" in root:
        for key in ("host", "port", "tls"):
            if key in root:
                yield (key,), Misplaced("stands beside 'socket'; give only one of them")
        return
    host = root.get("host", "127.0.0.1")
    asked = "token" in listen or is_true(listen.get("allowUnauthenticated"))
    if isinstance(host, str) and not is_loopback(host) and not asked:
        yield ("host",), Wrong(open_door(show(host), "listen.token", "listen.allowUnauthenticated"))


OPENED = "lets other machines in without a token: whoever reaches it uses every upstream as you"


def open_door(address: str, token: str, allow: str) -> str:
    """Why `address` is refused, and the names of the keys that change that."""
    return (
        f"{address} lets other machines in, and whoever comes could use every upstream; "
        f"give '{token}', or '{allow}: true' if all who can reach it may"
    )


def empty_values(value: Any, path: Path = ()) -> Iterator[tuple[Path, Wrong]]:
    """A key with nothing behind it is more often a template that failed than a wish for the default."""
    match value:
        case None:
            yield path, Wrong("has no value; give one or remove the key")
        case dict():
            for key, item in value.items():
                yield from empty_values(item, (*path, key))
        case list():
            for index, item in enumerate(value):
                yield from empty_values(item, (*path, index))


def _client_ids(clients: Any) -> Iterator[tuple[Path, Wrong]]:
    ids: dict[str, int] = {}
    for index, client in enumerate(clients if isinstance(clients, list) else ()):
        id = client.get("clientId") if isinstance(client, dict) else None
        if isinstance(id, str) and ids.setdefault(id, index) != index:
            yield ("clients", index, "clientId"), Wrong(f"'{id}' is the id of clients[{ids[id]}] already")


def _login(auth: Mapping[str, Any]) -> Iterator[tuple[Path, Wrong]]:
    issuer = auth.get("issuer")
    if is_plain_http(issuer) and not is_true(auth.get("allowHttpIssuer")):
        remedy = "use https, or set auth.allowHttpIssuer: true if the network between is yours"
        yield ("auth", "issuer"), Wrong(f"{show_url(issuer)} is not https, and not on this machine; {remedy}")
    scopes = auth.get("scopes")
    # OIDC Core 3.1.2.1: "If the openid scope value is not present, the behavior is entirely unspecified."
    if isinstance(scopes, list) and "openid" not in scopes:
        yield ("auth", "scopes"), Wrong("'openid' is missing; without it the provider sends no ID token")
