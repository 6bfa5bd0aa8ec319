"""Bearer credentials on the way in, ``WWW-Authenticate`` on the way out (RFC 6750, RFC 9728 5.1).

This file must not know whether a token is good, nor any cache.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ...errors import Refusal
from .site import SCOPE, Site
from .words import plain

_TOKEN68 = re.compile(rb"[A-Za-z0-9._~+/-]+=*")  # RFC 9110 11.2


def bearer_token(authorization: bytes, site: Site) -> str:
    """The token of an ``Authorization`` header's value.

    Raises:
        Refusal: 401; without an ``error`` attribute when there are no bearer credentials in it at all.
    """
    scheme, _, value = authorization.strip(b" \t").partition(b" ")
    if scheme.lower() != b"bearer":
        raise no_credentials(site)
    token = value.strip(b" ")
    if not _TOKEN68.fullmatch(token):
        raise invalid_token(site)
    return token.decode("ascii")


def no_credentials(site: Site) -> Refusal:
    """RFC 6750 3.1: without authentication information "the resource server SHOULD NOT include an error code"."""
    description = (
        f"This is the MCP endpoint {site.resource}. Add that URL to an MCP client, which will open a login; "
        "a program of your own sends its access token: Authorization: Bearer <token>."
    )
    return Refusal(401, "invalid_token", description, headers=_challenge(site))


def invalid_token(site: Site) -> Refusal:
    """One text for altered, foreign, expired and revoked: the caller's next step is the same."""
    description = "The access token is not valid, no longer valid, or not for this server."
    return Refusal(401, "invalid_token", description, headers=_challenge(site, "invalid_token", description))


def insufficient_scope(site: Site) -> Refusal:
    description = f"The access token lacks the scope {SCOPE}."
    return Refusal(403, "insufficient_scope", description, headers=_challenge(site, "insufficient_scope", description))


def token_in_two_places(site: Site) -> Refusal:
    """OAuth 2.1 5.1: clients "MUST NOT use more than one method to transmit the token in each request"."""
    description = "The request carries more than one Authorization header; send one."
    return Refusal(400, "invalid_request", description, headers=_challenge(site, "invalid_request", description))


def render_challenge(scheme: str, parameters: Iterable[tuple[str, str]]) -> str:
    """A challenge with every value as a quoted-string (RFC 9110 5.6.4), fit for a header whatever the values are."""
    return scheme + " " + ", ".join(f'{name}="{_quotable(value)}"' for name, value in parameters)


def _challenge(site: Site, error: str | None = None, description: str = "") -> tuple[tuple[str, str], ...]:
    parameters = [] if error is None else [("error", error), ("error_description", plain(description, 200))]
    # The scope is what a client needs, so never offline_access (MCP, "Refresh Tokens").
    parameters += [("scope", SCOPE), ("resource_metadata", site.resource_metadata)]
    return (("www-authenticate", render_challenge("Bearer", parameters)),)


def _quotable(value: str) -> str:
    """Escape what quoted-string reserves, and percent-encode what a header cannot carry at all."""
    safe = "".join(c if c == "\t" or " " <= c <= "~" else "".join(f"%{b:02X}" for b in _octets(c)) for c in value)
    return safe.replace("\\", "\\\\").replace('"', '\\"')


def _octets(character: str) -> bytes:
    return character.encode("utf-8", "surrogatepass")
