"""Requests to the token and revocation endpoints: who asks, and for what.

Parsed once, here; nobody looks into the form again. Whether a code or refresh
token is good is decided in `issuing`; this file must not open one.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_plus

from ...errors import Refusal, Unsealable
from .clients import Clients
from .registration import Client
from .words import plain


@dataclass(frozen=True, slots=True)
class CodeRequest:
    """``grant_type=authorization_code`` (OAuth 2.1 4.1.3)."""

    code: str
    verifier: str | None
    redirect_uri: str | None
    resource: str | None


@dataclass(frozen=True, slots=True)
class RefreshRequest:
    """``grant_type=refresh_token`` (OAuth 2.1 4.3.1)."""

    refresh_token: str
    scope: str | None
    resource: str | None


def parse_token_request(form: Mapping[str, str]) -> CodeRequest | RefreshRequest:
    """What the form asks for; unknown parameters are ignored (OAuth 2.1 3.2.2).

    Raises:
        Refusal: 400 ``invalid_request`` or ``unsupported_grant_type``.
    """
    match form.get("grant_type"):
        case None:
            raise Refusal(400, "invalid_request", "grant_type is missing.")
        case "authorization_code":
            return CodeRequest(
                _needed(form, "code"), form.get("code_verifier"), form.get("redirect_uri"), form.get("resource")
            )
        case "refresh_token":
            return RefreshRequest(_needed(form, "refresh_token"), form.get("scope"), form.get("resource"))
        case other:
            raise Refusal(
                400,
                "unsupported_grant_type",
                f"grant_type is '{plain(other)}'; use authorization_code or refresh_token.",
            )


def authenticate_client(form: Mapping[str, str], authorization: str | None, *, clients: Clients, now: float) -> Client:
    """The client that sends the request, proven by its secret if it has one (OAuth 2.1 3.2.1).

    A confidential client may send its secret in the form or by Basic, whichever it registered: both prove the same.

    Raises:
        Refusal: 401 ``invalid_client`` (with a Basic challenge if Basic was used), 400 ``invalid_request``.
    """
    client_id, secret = form.get("client_id"), form.get("client_secret")
    by_basic = authorization is not None
    if authorization is not None:
        basic_id, basic_secret = _basic_credentials(authorization)
        # OAuth 2.1 2.4: "The client MUST NOT use more than one authentication method in each request".
        if secret is not None or client_id not in (None, basic_id):
            raise Refusal(400, "invalid_request", "The client authenticates twice; use Basic or the form, not both.")
        client_id, secret = basic_id, basic_secret or None
    if client_id is None:
        raise Refusal(400, "invalid_request", "client_id is missing.")
    try:
        client = clients.identify_by_id(client_id, now=now)
    except Unsealable:
        raise _unproven("The client is not registered here; register again.", by_basic=by_basic) from None
    if client.secret_hash is not None and (secret is None or not client.has_secret(secret)):
        raise _unproven("The client's secret is missing or wrong.", by_basic=by_basic)
    return client


def _basic_credentials(authorization: str) -> tuple[str, str]:
    """RFC 6749 2.3.1: user name and password are form-encoded before RFC 7617's base64."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise _unproven("The client authenticates by another scheme than Basic.", by_basic=True)
    try:
        text = base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        raise _unproven("The Basic credentials cannot be read.", by_basic=True) from None
    name, colon, password = text.partition(":")
    if not colon or not name:
        raise _unproven("The Basic credentials cannot be read.", by_basic=True)
    return unquote_plus(name), unquote_plus(password)


def _needed(form: Mapping[str, str], name: str) -> str:
    value = form.get(name)
    if value is None:
        raise Refusal(400, "invalid_request", f"{name} is missing.")
    return value


def _unproven(description: str, *, by_basic: bool) -> Refusal:
    # OAuth 2.1 3.2.4: after an attempt by the Authorization header, "the authorization server MUST respond with an
    # HTTP 401 [...] and include the WWW-Authenticate response header field matching the authentication scheme".
    headers = (("www-authenticate", 'Basic realm="mcp-aggregator"'),) if by_basic else ()
    return Refusal(401, "invalid_client", description, headers=headers)
