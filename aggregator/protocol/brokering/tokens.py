"""The requests to a token endpoint and what its answers mean: tokens, an end, or nothing decided (RFC 6749 5, 6; 7009).

An answer ends a connection only if it says that the grant is no longer good.
Every other trouble, of the server or of what stands before it, decides nothing,
and nobody is logged out over it. This file must not know who holds the tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..oidc.documents import quotable, read_object
from . import Ended, IssuedTokens, Postponed
from .answers import error_of, retry_after
from .registration import Client, client_authentication

MAX_LIFETIME = 10 * 365 * 86400.0  # seconds that we believe of expires_in

# RFC 6749 5.2, and what GitHub and Slack say for it.
_NO_LONGER_GOOD = frozenset({"invalid_grant", "bad_refresh_token", "invalid_refresh_token", "bad_verification_code"})
_BEARER = re.compile(r"[!-~]{1,32768}")  # RFC 6749 A.12: VSCHAR
_NUMBER = re.compile(r"[0-9]{1,12}(?:\.[0-9]*)?", re.ASCII)

Exchange = tuple[dict[str, str], dict[str, str]]  # headers and form of a POST


@dataclass(frozen=True, slots=True)
class ClientRefused:
    """The server does not know us, or not with this secret (``invalid_client``). It said nothing of the grant."""

    reason: str


def code_request(client: Client, *, code: str, redirect_uri: str, verifier: str, resource: str | None) -> Exchange:
    headers, form = client_authentication(client)
    form |= {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "code_verifier": verifier,
    }
    return headers, _with_resource(form, resource)


def probe_request(client: Client, *, redirect_uri: str, nonce: str) -> Exchange:
    """One with a code that no server gave: it tells whether `client` is known, since that is looked at first (RFC 6749
    4.1.3: "ensure that the authorization code was issued to the authenticated" client)."""
    return code_request(client, code=nonce, redirect_uri=redirect_uri, verifier=nonce, resource=None)


def refresh_request(client: Client, *, refresh_token: str, resource: str | None) -> Exchange:
    """The scope stays what it was (RFC 6749 6: "if omitted is treated as equal")."""
    headers, form = client_authentication(client)
    return headers, _with_resource(form | {"grant_type": "refresh_token", "refresh_token": refresh_token}, resource)


def revocation_request(client: Client, *, token: str, hint: str) -> Exchange:
    """RFC 7009 2.1."""
    headers, form = client_authentication(client)
    return headers, form | {"token": token, "token_type_hint": hint}


def process_token_response(
    status: int, headers: Mapping[str, str], body: bytes, *, scope: str | None, now: float
) -> IssuedTokens | Ended | Postponed | ClientRefused:
    """What the answer to a code or a refresh token says. Header names are lower case.

    `scope` is what was asked for: an answer without one grants just that (RFC 6749 5.1).
    """
    error = error_of(body)
    wait = retry_after(headers, now)
    if status in (408, 429) or status >= 500:
        return Postponed(f"its authorization server is busy or broken (it answered {status})", wait)
    if error is not None:  # some send it with 200
        if error.code in _NO_LONGER_GOOD:
            return Ended(f"its authorization server has ended the login ({error.shown})")
        # RFC 6749 5.2 has 401 for a client that failed to prove itself, whatever word stands beside it.
        if error.code == "invalid_client" or (status == 401 and error.code == "unauthorized_client"):
            return ClientRefused(f"its authorization server does not know this aggregator ({error.shown})")
        return Postponed(f"its authorization server refuses ({error.shown})", wait)
    if status != 200:
        return Postponed(f"its authorization server answered {status}, without an OAuth error", wait)
    try:
        fields = read_object(body)
    except ValueError as exc:
        kind = quotable(headers.get("content-type", "no content type"), 60)
        return Postponed(f"its authorization server sent no tokens ({kind}, {exc})", wait)
    return _issued(fields, scope)


def _issued(fields: dict[str, Any], scope: str | None) -> IssuedTokens | Postponed:
    token, kind = fields.get("access_token"), fields.get("token_type", "Bearer")
    if not isinstance(token, str) or not _BEARER.fullmatch(token):
        return Postponed("its authorization server sent no access token")
    # RFC 6749 7.1: "The client MUST NOT use an access token if it does not understand the token type"
    if not isinstance(kind, str) or kind.lower() != "bearer":
        shown = quotable(kind, 40) if isinstance(kind, str) else "unreadable"
        return Postponed(f"its authorization server sent a token of type {shown}, and we can use Bearer only")
    refresh_token, granted = fields.get("refresh_token"), fields.get("scope")
    return IssuedTokens(
        access_token=token,
        refresh_token=refresh_token if isinstance(refresh_token, str) and _BEARER.fullmatch(refresh_token) else None,
        token_type="Bearer",  # noqa: S106  a kind, no secret
        scope=granted if isinstance(granted, str) and granted else scope,
        lifetime=_lifetime(fields.get("expires_in")),
    )


def _lifetime(value: Any) -> float | None:
    """Seconds, also where they were written as text. What is no time at all, or none to come, names none: the token is
    used until it is refused."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        return None
    return float(min(value, MAX_LIFETIME))


def _with_resource(form: dict[str, str], resource: str | None) -> dict[str, str]:
    # RFC 8707 2.2, and MCP, "Resource Parameter Implementation": in token requests as well, refreshes among them.
    return form if resource is None else form | {"resource": resource}
