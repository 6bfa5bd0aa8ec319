"""The cookies of logins in progress: one per flow, so that two tabs do not disturb each other.

This file owns names, attributes and how many there may be, and how the header
is read. It must not know what is sealed inside.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..protocol.oauth.sealed import FLOW_LIFETIME
from ..protocol.oauth.site import Site
from .http import Request

MAX_FLOWS = 8  # logins in progress in one browser
MAX_FLOW_TEXT = 8 * 1024  # characters of all of them; HTTP servers end a request's headers at 16 KiB
MAX_COOKIE = 4000  # characters of name and value; RFC 6265 6.1 promises 4096 with the attributes

_FLOW_ID = re.compile(r"[A-Za-z0-9_-]{20,64}", re.ASCII)


def flow_cookie(site: Site, flow_id: str, sealed: str) -> tuple[str, str] | None:
    """The header that binds a flow to this browser; None if it would be too long to be kept."""
    name = _prefix(site) + flow_id
    if len(name) + len(sealed) > MAX_COOKIE:
        return None
    return "set-cookie", f"{name}={sealed}; Max-Age={FLOW_LIFETIME:.0f}{attributes(site)}"


def ended_flow_cookie(site: Site, flow_id: str) -> tuple[str, str]:
    return "set-cookie", f"{_prefix(site)}{flow_id}=; Max-Age=0{attributes(site)}"


def flow_cookies(site: Site, request: Request) -> dict[str, str]:
    """The sealed flows that this browser holds, by flow id, oldest first (RFC 6265 5.4 orders them so)."""
    prefix = _prefix(site)
    found: dict[str, str] = {}
    for name, content in _pairs(request):
        flow_id = name.removeprefix(prefix)
        if name.startswith(prefix) and _FLOW_ID.fullmatch(flow_id):
            found.setdefault(flow_id, content)
    return found


def cookie_values(request: Request, name: str) -> Iterator[str]:
    """The values of every cookie of exactly this name, in the order in which the browser sends them."""
    return (content for found, content in _pairs(request) if found == name)


def surplus_flows(site: Site, request: Request, coming: int) -> tuple[tuple[str, str], ...]:
    """Headers that end the oldest flows, so that the new one, of `coming` characters, fits beside the rest."""
    held = flow_cookies(site, request)
    count, size = len(held) + 1, sum(len(sealed) for sealed in held.values()) + coming
    ended = []
    for flow_id, sealed in held.items():
        if count <= MAX_FLOWS and size <= MAX_FLOW_TEXT:
            break
        ended.append(ended_flow_cookie(site, flow_id))
        count, size = count - 1, size - len(sealed)
    return tuple(ended)


def attributes(site: Site) -> str:
    """What stands behind every cookie of ours: for scripts, other hosts and requests of other sites it is not there."""
    # Lax, not Strict: the identity provider's redirect to us is a cross-site navigation and must carry it.
    return "; Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if site.secure else "")


def _pairs(request: Request) -> Iterator[tuple[str, str]]:
    """Names and values, read leniently: on loopback, cookies of every other program on every port come along."""
    for key, value in request.headers:
        if key == b"cookie":
            for part in value.decode("latin-1").split(";"):
                name, _, content = part.strip(" \t").partition("=")
                yield name, content


def _prefix(site: Site) -> str:
    # RFC 6265bis 4.1.3.2: __Host- forbids Domain and other paths, so no sibling host can plant a flow. It needs
    # Secure, which clients do not return to http://localhost.
    return "__Host-mcp-flow-" if site.secure else "mcp-flow-"
