"""Which code, refresh token or revocation is acceptable, and what a token answer says.

Everything that can be checked without the store is checked here, before
anything is spent: a wrong verifier must not burn a code (OAuth 2.1 4.1.3 speaks
of a second *valid* request). This file must not know the store.

Every bad code or refresh token, unknown, foreign, altered or expired, gets the
same ``invalid_grant`` in the same words, so that nobody learns which it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import Refusal, Unsealable
from ..principal import Principal
from ..sealing import KeyRing
from .authorization import resource_problem
from .pkce import proves
from .registration import Client
from .sealed import (
    AccessToken,
    Code,
    RefreshToken,
    open_access,
    open_code,
    open_refresh,
    seal_access,
    seal_refresh,
)
from .site import Site
from .token_request import CodeRequest, RefreshRequest


@dataclass(frozen=True, slots=True)
class Lineage:
    """What both new tokens share: the grant at its present generation. `ends_at` is the grant's absolute end."""

    grant_id: str
    generation: int
    client: str
    principal: Principal
    scope: str
    resource: str
    ends_at: float


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Seconds: how long an access token lives, and how long a refresh token may lie unused."""

    access: float
    refresh_idle: float


def bad_grant() -> Refusal:
    return Refusal(
        400, "invalid_grant", "The code or refresh token is not, or no longer, valid for this client; log in again."
    )


def accept_code(request: CodeRequest, client: Client, *, keys: KeyRing, site: Site, now: float) -> Code:
    """The code, if this client may redeem it with this verifier.

    Raises:
        Refusal: 400 ``invalid_grant`` or ``invalid_target``.
    """
    try:
        code = open_code(keys, request.code, now=now)
    except Unsealable:
        raise bad_grant() from None
    if code.client != client.id or code.resource != site.resource:
        raise bad_grant()
    # OAuth 2.1 no longer asks for redirect_uri here; a client that still sends it must send the right one.
    if request.redirect_uri is not None and request.redirect_uri != code.redirect_uri:
        raise bad_grant()
    if not proves(request.verifier, code.challenge):
        raise bad_grant()
    _require_resource(request.resource, code.resource)
    return code


def accept_refresh(request: RefreshRequest, client: Client, *, keys: KeyRing, site: Site, now: float) -> RefreshToken:
    """The refresh token, if it is this client's and asks for no more than it has.

    Raises:
        Refusal: 400 ``invalid_grant`` or ``invalid_target``.
    """
    try:
        token = open_refresh(keys, request.refresh_token, now=now)
    except Unsealable:
        raise bad_grant() from None
    if token.client != client.id or token.resource != site.resource:
        raise bad_grant()
    _require_resource(request.resource, token.resource)
    return token


def require_scope(requested: str | None, granted: str) -> None:
    """OAuth 2.1 4.3.1: the scope "MUST NOT include any scope not originally granted".

    Raises:
        Refusal: 400 ``invalid_scope``.
    """
    if requested is not None and not set(requested.split()) <= set(granted.split()):
        raise Refusal(400, "invalid_scope", f"The refresh token was granted '{granted}' and no more.")


def token_response(lineage: Lineage, *, keys: KeyRing, site: Site, lifetimes: Lifetimes, now: float) -> dict[str, Any]:
    """The successful token answer (OAuth 2.1 3.2.3). No token outlives the grant."""
    access_until = min(now + lifetimes.access, lineage.ends_at)
    access = AccessToken(
        lineage.grant_id,
        lineage.client,
        lineage.principal,
        lineage.scope,
        lineage.resource,
        site.issuer,
        access_until,
    )
    refresh = RefreshToken(
        lineage.grant_id,
        lineage.generation,
        lineage.client,
        lineage.resource,
        min(now + lifetimes.refresh_idle, lineage.ends_at),
    )
    return {
        "access_token": seal_access(keys, access, now=now),
        "token_type": "Bearer",
        "expires_in": int(access_until - now),
        "refresh_token": seal_refresh(keys, refresh, now=now),
        "scope": lineage.scope,
    }


def grant_to_revoke(token: str, client: Client, *, keys: KeyRing, now: float) -> str | None:
    """The grant that this access or refresh token stands for; None for a token that is none of ours, or none any more.

    RFC 7009 2.2: an invalid token is no error, since its purpose "is already achieved".

    Raises:
        Refusal: 400 ``invalid_grant`` for another client's token (RFC 7009 2.1).
    """
    found: AccessToken | RefreshToken | None = None
    # The hint of RFC 7009 2.1 is not needed: a token says itself what it is.
    for read in (open_refresh, open_access):
        try:
            found = read(keys, token, now=now)
        except Unsealable:
            continue
    if found is None:
        return None
    if found.client != client.id:
        raise Refusal(400, "invalid_grant", "The token was issued to another client.")
    return found.grant_id


def _require_resource(requested: str | None, ours: str) -> None:
    """RFC 8707 2.2: the resource of a token request is within what was granted, here exactly it."""
    problem = resource_problem(requested, ours)
    if problem is not None:
        raise Refusal(400, *problem)
