"""``POST /register``: a client introduces itself (RFC 7591). Nothing is stored; the client id is the registration."""

from __future__ import annotations

import secrets

import trio

from ...errors import Refusal
from ...protocol.oauth.registration import parse_registration, registration_response, seal_client
from ..http import Request, Response, json_response, no_store, printable
from .authority import Authority

MAX_BODY = 16 * 1024  # bytes; ten redirect URIs and a name are a few hundred


async def register(authority: Authority, request: Request) -> Response:
    """Answer 201 with the client id and everything that was registered.

    Raises:
        Refusal: 400 ``invalid_redirect_uri`` or ``invalid_client_metadata``; 429 after too many.
    """
    authority.registrations.admit(request.peer, trio.current_time())
    kind = (request.header("content-type") or "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(400, "invalid_client_metadata", f"Content-Type is '{printable(kind)}'; send application/json.")
    now, secret = authority.clock(), secrets.token_urlsafe(32)
    client = parse_registration(
        request.body,
        registration_id=secrets.token_urlsafe(16),
        secret=secret,
        now=now,
        schemes=authority.clients.schemes,
    )
    client_id = seal_client(authority.keys, client, now=now)
    return no_store(json_response(registration_response(client, client_id, secret), status=201))
