"""What concerns several keys at once, or a key and the environment.

These rules look at the values as written, not at the validated model, so that
they speak up beside any other problem; a value of the wrong kind is left to
`vocabulary`, which refuses it. Those of upstreams are in `upstream_rules`. This file must not know about positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from .document import Path
from .scalars import Wrong, is_true
from .upstream_rules import broken_upstream_rules
from .urls import is_plain_http, show_url

INSECURE_VARIABLE = "MCP_DANGEROUSLY_ALLOW_INSECURE_ISSUER_URL"


def broken_rules(root: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[tuple[Path, Wrong]]:
    """Every rule that `root` breaks, with the path of the value to change."""
    yield from broken_upstream_rules(root)
    yield from _client_ids(root.get("clients"))
    auth = root.get("auth")
    if isinstance(auth, dict):
        yield from _login(auth)
    own = root.get("issuerUrl")
    if is_plain_http(own) and environ.get(INSECURE_VARIABLE) not in ("true", "1"):
        yield (
            ("issuerUrl",),
            Wrong(f"{show_url(own)} is not https; http is for localhost only ({INSECURE_VARIABLE}=true lifts this)"),
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
