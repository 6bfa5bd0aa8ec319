"""``POST /token`` and ``POST /revoke``: codes become tokens, tokens become newer ones, or end.

Everything is checked before anything is spent; the store alone decides who is
first. This file must not know what a token looks like.
"""

from __future__ import annotations

import logging
from typing import assert_never

from ...errors import Refusal
from ...protocol.oauth.issuing import (
    Lifetimes,
    Lineage,
    accept_code,
    accept_refresh,
    bad_grant,
    grant_to_revoke,
    require_scope,
    token_response,
)
from ...protocol.oauth.registration import Client
from ...protocol.oauth.token_request import CodeRequest, RefreshRequest, authenticate_client, parse_token_request
from ...store import Gone, Grant, Redeemed, Replayed, Rotated
from ..http import Request, Response, json_response, no_store
from .authority import Authority

log = logging.getLogger(__name__)


async def token(authority: Authority, request: Request) -> Response:
    """Exchange a code or a refresh token for a pair of tokens.

    Raises:
        Refusal: 400 or 401 with the RFC's code (OAuth 2.1 3.2.4, RFC 8707 2.2).
        StoreUnavailable: nothing was issued.
    """
    form, now = request.form(), authority.clock()
    asked = parse_token_request(form)
    client = authenticate_client(form, request.header("authorization"), clients=authority.clients, now=now)
    match asked:
        case CodeRequest():
            grant, login_ends_at = await _redeem(authority, asked, client, now)
        case RefreshRequest():
            grant, login_ends_at = await _refresh(authority, asked, client, now)
        case _:
            assert_never(asked)
    tokens = authority.config.tokens
    ends_at = min(grant.expires_at, login_ends_at)
    lineage = Lineage(grant.id, grant.generation, grant.client, grant.principal, grant.scope, grant.resource, ends_at)
    lifetimes = Lifetimes(tokens.access, tokens.refresh_idle)
    answer = token_response(lineage, keys=authority.keys, site=authority.site, lifetimes=lifetimes, now=now)
    return no_store(json_response(answer))  # OAuth 2.1 3.2.3


async def revoke(authority: Authority, request: Request) -> Response:
    """End the grant behind a token, and so every token of it (RFC 7009 2.1). An unknown token is answered 200.

    Raises:
        Refusal: 400 or 401.
        StoreUnavailable: the token still works (RFC 7009 2.2.1).
    """
    form, now = request.form(), authority.clock()
    client = authenticate_client(form, request.header("authorization"), clients=authority.clients, now=now)
    text = form.get("token")
    if text is None:
        raise Refusal(400, "invalid_request", "token is missing.")
    grant_id = grant_to_revoke(text, client, keys=authority.keys, now=now)
    if grant_id is not None:
        await authority.store.revoke_grant(grant_id, now=now)
        authority.revocations.add(grant_id)
        log.info("client %s ended grant %s", client.id, grant_id)
    return no_store(json_response({}))


async def _redeem(authority: Authority, asked: CodeRequest, client: Client, now: float) -> tuple[Grant, float]:
    """The grant of a code, and when the login that it rests on ends."""
    code = accept_code(asked, client, keys=authority.keys, site=authority.site, now=now)
    outcome = await authority.store.redeem(
        code.id,
        code.grant_id,
        now=now,
        expires_at=code.expires_at,
        grant_until=now + authority.config.tokens.refresh,
    )
    match outcome:
        case Redeemed(grant):
            return grant, grant.logged_in_at + authority.config.auth.relogin_after
        case Replayed(grant_id):
            raise _replayed(authority, grant_id, client, "code")
        case Gone():
            raise bad_grant()
        case _:
            assert_never(outcome)


async def _refresh(authority: Authority, asked: RefreshRequest, client: Client, now: float) -> tuple[Grant, float]:
    """The grant of a refresh token, one generation on, and when the person's last login ends."""
    presented = accept_refresh(asked, client, keys=authority.keys, site=authority.site, now=now)
    known = await authority.store.find_grant(presented.grant_id)
    if known is None:
        raise bad_grant()
    require_scope(asked.scope, known.scope)
    # Whichever client it was for: the identity provider vouched for the person.
    last_login = await authority.store.last_login(known.principal) or known.logged_in_at
    login_ends_at = last_login + authority.config.auth.relogin_after
    if login_ends_at <= now:
        await _end(authority, known, "the person's last login is older than auth.reloginAfter")
        raise bad_grant()
    if not await authority.login_checks.may_go_on(known):
        authority.revocations.add(known.id)
        raise bad_grant()
    outcome = await authority.store.rotate(presented.grant_id, presented.generation, now=now)
    match outcome:
        case Rotated(grant):
            return grant, login_ends_at
        case Replayed(grant_id):
            raise _replayed(authority, grant_id, client, "refresh token")
        case Gone():
            raise bad_grant()
        case _:
            assert_never(outcome)


async def _end(authority: Authority, grant: Grant, why: str) -> None:
    if await authority.store.revoke_grant(grant.id, now=authority.clock()):
        authority.revocations.add(grant.id)
        log.info("grant %s of %s has ended: %s", grant.id, grant.principal.key, why)


def _replayed(authority: Authority, grant_id: str, client: Client, what: str) -> Refusal:
    """OAuth 2.1 4.1.3 and 4.3.1: a second use means that somebody else has it; everything of the grant ends."""
    log.warning("client %s used a %s twice: grant %s is revoked", client.id, what, grant_id)
    authority.revocations.add(grant_id)
    return bad_grant()
