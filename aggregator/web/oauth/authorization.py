"""``/authorize``: from a client's request to the identity provider's login page.

What is right and wrong in a request is decided in `protocol.oauth.authorization`;
here a login begins, bound to the browser by a cookie. This file must not know
what happens after the login.
"""

from __future__ import annotations

import secrets
from functools import partial
from typing import assert_never

import trio

from ...errors import Refusal, Unsealable
from ...protocol.oauth.authorization import Answer, Asked, decide_authorization, denied
from ...protocol.oauth.sealed import Flow, open_answer, seal_flow
from ..cookies import flow_cookie
from ..http import Request, Response, see_other
from ..pages import BEGIN_AGAIN
from .answers import require_same_origin, tell_client
from .authority import Authority
from .clients import resolve_client
from .departure import depart

MAX_FLOW = 3600  # characters; the cookie that follows the login holds the person as well and must fit, too


async def authorize(authority: Authority, request: Request) -> Response:
    """Begin a login for a valid request; say no on our own page or to the client otherwise.

    Raises:
        Refusal: 400 when client or redirect URI are not proven; 429 when too many logins were begun or clients'
            documents fetched.
    """
    authority.logins.admit(request.peer, trio.current_time())
    parameters = request.query_parameters()
    client = await resolve_client(
        parameters,
        authority.clients,
        authority.client_documents,
        partial(authority.unread_documents.admit, request.peer, trio.current_time()),
        now=authority.clock(),
        request_id=request.request_id,
    )
    decision = decide_authorization(parameters, client, site=authority.site)
    match decision:
        case Answer():
            return tell_client(authority, decision, request)
        case Asked():
            return await _begin_login(authority, decision, request)
        case _:
            assert_never(decision)


async def send_back(authority: Authority, request: Request) -> Response:
    """The button of a page that ends a login without success: carry its sealed answer to the client.

    Raises:
        Refusal: 400 for an answer that we did not seal, or too long ago; 403 for a form of another site.
    """
    require_same_origin(authority, request)
    try:
        answer = open_answer(authority.keys, request.form().get("answer", ""), now=authority.clock())
    except Unsealable:
        raise Refusal(400, "invalid_request", "The page is older than ten minutes, or was changed.") from None
    return see_other(answer.location, ("referrer-policy", "no-referrer"))


async def _begin_login(authority: Authority, asked: Asked, request: Request) -> Response:
    # 192 bits each and more: a flow's id is its only name outside the cookie (RFC 9700 2.1, OIDC Core 15.5.2).
    flow = Flow(secrets.token_urlsafe(24), asked, secrets.token_urlsafe(24), secrets.token_urlsafe(48))
    sealed = seal_flow(authority.keys, flow, now=authority.clock())
    cookie = flow_cookie(authority.site, flow.id, sealed)
    if cookie is None or len(sealed) > MAX_FLOW:
        too_long = "The request is too long to be remembered; send a shorter state or redirect_uri."
        return tell_client(authority, denied(asked, "invalid_request", too_long, authority.site), request)
    return await depart(authority, request, flow, cookie, otherwise=BEGIN_AGAIN)
