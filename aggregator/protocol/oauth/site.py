"""Where we live: every absolute URL of ours, made from the configured issuer URL and from nothing else.

This file owns the names of the OAuth endpoints. It must not know a request:
there is no way to build a URL from a header.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

SCOPE = "mcp:tools"  # the only scope: a client may call the tools its person may call


@dataclass(frozen=True, slots=True)
class Site:
    """The deployment as its clients see it.

    `issuer` has no trailing slash anywhere: in metadata, in ``iss``, in tokens
    (RFC 8414 2, RFC 9207 2.4: compared as plain strings). `path` is the issuer's
    path, "" or "/x"; every route of ours stands below it.
    """

    issuer: str
    origin: str
    path: str
    secure: bool

    @property
    def resource(self) -> str:
        """The resource identifier (RFC 8707) of the one thing our tokens are good for."""
        return f"{self.issuer}/mcp"

    @property
    def resource_metadata(self) -> str:
        """RFC 9728 3.1: the well-known string stands between the host and the path of the resource."""
        return f"{self.origin}/.well-known/oauth-protected-resource{self.path}/mcp"

    def url(self, path: str) -> str:
        return self.issuer + path


def site_of(issuer_url: str) -> Site:
    issuer = issuer_url.rstrip("/")
    parts = urlsplit(issuer)
    return Site(issuer, f"{parts.scheme}://{parts.netloc}", parts.path, parts.scheme == "https")
