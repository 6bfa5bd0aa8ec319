"""Whose resource an upstream is: its protected resource metadata (RFC 9728), where it may stand and what it must say.

This file must not know authorization servers beyond their names, nor requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ...errors import ConnectFailed
from ..oidc.documents import quotable_url, read_object
from .challenge import split_scope

MAX_SERVERS = 10  # authorization servers that one resource may name
WELL_KNOWN = "/.well-known/oauth-protected-resource"

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class ResourceMetadata:
    """What the resource says of itself: its own name, as written, and who issues tokens for it."""

    resource: str
    authorization_servers: tuple[str, ...]
    scopes: tuple[str, ...] = ()


def resource_metadata_urls(upstream_url: str, from_challenge: str | None = None) -> tuple[str, ...]:
    """Where the metadata of `upstream_url` may stand, in the order in which to look.

    What the challenge names comes first; then RFC 9728 3.1's form with the path, then the root's (MCP, "Protected
    Resource Metadata Discovery Requirements").
    """
    origin, path = _origin(upstream_url), urlsplit(upstream_url).path.rstrip("/")
    places = (from_challenge, origin + WELL_KNOWN + path, origin + WELL_KNOWN)
    return tuple(dict.fromkeys(url for url in places if url))


def resource_of(upstream_url: str) -> str:
    """What the upstream is called where it does not say so itself: its URL, but for the query.

    RFC 8707 2: it "SHOULD NOT include a query component". Operators' keys stand there, which have no business in a
    browser's address bar nor at an authorization server.
    """
    return urlunsplit(urlsplit(upstream_url)._replace(query="", fragment=""))


def parse_resource_metadata(body: bytes, document_url: str, upstream_url: str) -> ResourceMetadata:
    """The metadata that stands at `document_url`, if it is that of the upstream.

    RFC 9728 3.3: `resource` "MUST be identical to the protected resource's resource identifier value into which the
    well-known URI path suffix was inserted", and for a document that a challenge named, to "the URL that the client
    used to make the request". "If these values are not identical, the data contained in the response MUST NOT be used."
    A document in the place of the origin, or of a path above the upstream's, may thus name that.

    Raises:
        ConnectFailed: if it cannot be used; the text says why.
    """
    try:
        fields = read_object(body)
    except ValueError as exc:
        raise ConnectFailed(f"its resource metadata at {quotable_url(document_url)} is {exc}") from None
    resource = fields.get("resource")
    if not isinstance(resource, str) or not resource:
        raise ConnectFailed(f"its resource metadata at {quotable_url(document_url)} does not say which 'resource'")
    candidates = [upstream_url, resource_of(upstream_url)]
    if (place := _place(document_url)) is not None and _is_above(place, upstream_url):
        candidates.append(place)
    if not any(is_same_resource(resource, candidate) for candidate in candidates):
        raise ConnectFailed(
            f"its metadata speaks for the resource {quotable_url(resource)}, not for {quotable_url(upstream_url)}; "
            "the operator sets the upstream's 'url' to what it calls itself, or 'authorizationServer'"
        )
    servers = tuple(text for text in _texts(fields.get("authorization_servers")) if text)
    scopes = tuple(scope for text in _texts(fields.get("scopes_supported")) for scope in split_scope(text))
    return ResourceMetadata(resource, servers[:MAX_SERVERS], scopes)


def is_meant_for(resource: str, upstream_url: str) -> bool:
    """Whether a token that was issued for `resource` may be shown to the upstream: it is that, or stands below it.

    RFC 8707 2: the resource is where the token is to be used. Where the upstream's URL has become another one since,
    its new server must not get what was meant for the old.
    """
    named = (upstream_url, resource_of(upstream_url))
    return any(is_same_resource(resource, one) for one in named) or _is_above(resource, upstream_url)


def is_same_resource(one: str, other: str) -> bool:
    """Equal but for the case of scheme and host, a default port and one slash at the end.

    MCP, "Canonical Server URI": both with and without that slash "are technically valid absolute URIs".
    """
    return one == other or _canonical(one) == _canonical(other)


def _canonical(url: str) -> str:
    try:
        parts = urlsplit(url)
        netloc = parts.netloc.lower().removesuffix(_DEFAULT_PORTS.get(parts.scheme, ":"))
        return urlunsplit((parts.scheme, netloc, parts.path.removesuffix("/"), parts.query, parts.fragment))
    except ValueError:
        return url


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _place(document_url: str) -> str | None:
    """The resource whose well-known place this is (RFC 9728 3.1); None for any other URL."""
    parts = urlsplit(document_url)
    if parts.query or not (parts.path == WELL_KNOWN or parts.path.startswith(WELL_KNOWN + "/")):
        return None
    return _origin(document_url) + parts.path.removeprefix(WELL_KNOWN)


def _is_above(place: str, upstream_url: str) -> bool:
    above, below = urlsplit(_canonical(place)), urlsplit(_canonical(upstream_url))
    same = (above.scheme, above.netloc) == (below.scheme, below.netloc)
    return same and (below.path == above.path or below.path.startswith(above.path + "/"))


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
