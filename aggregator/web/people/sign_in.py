"""Signing in for our own pages, and out again, here or everywhere.

A sign-in is a login at the identity provider as a client's is, bound to the
browser by a cookie, and leads to one of our own pages. This file must not know
what stands on them.
"""

from __future__ import annotations

import logging
import secrets

from ...protocol.oauth.browser import SignIn, seal_sign_in
from ..cookies import flow_cookie
from ..http import Request, Response, see_other
from ..oauth.authority import Authority
from ..oauth.browser_session import end_session, find_session, session_of_form
from ..oauth.departure import depart

HOME = "/connections"  # where a person without a destination goes
_OWN_PAGES = frozenset({"/", "/connections", "/clients", "/tools"})

log = logging.getLogger(__name__)


async def sign_in(authority: Authority, request: Request) -> Response:
    """Go to the page `to`, over the identity provider if nobody is signed in in this browser.

    `to` is one of our own paths or is not followed: this is no open redirector (OAuth 2.1 7.12.2).
    """
    to = request.query_parameters().get("to", HOME)
    to = to if to in _OWN_PAGES | connect_paths(authority) else HOME
    if await find_session(authority, request) is not None:
        return see_other(authority.site.url(to))
    return await begin_sign_in(authority, request, to)


async def begin_sign_in(authority: Authority, request: Request, to: str, *, resume: str = "") -> Response:
    """Send the browser to log in and then to our path `to`; `resume` is the connect flow that goes on there.

    Nothing is remembered but in this browser's cookie.
    """
    begun = SignIn(secrets.token_urlsafe(24), to, secrets.token_urlsafe(24), secrets.token_urlsafe(48), resume)
    cookie = flow_cookie(authority.site, begun.id, seal_sign_in(authority.keys, begun, now=authority.clock()))
    assert cookie is not None, "a sign-in is far shorter than a cookie may be"
    return await depart(authority, request, begun, cookie, otherwise="ask the people who run this server.")


async def sign_out(authority: Authority, request: Request) -> Response:
    """End the session in this browser. The accounts that the person connected, and their clients, stay.

    Raises:
        Refusal: see `session_of_form`.
        StoreUnavailable: then it goes on.
    """
    session, _ = await session_of_form(authority, request)
    return see_other(authority.site.url("/"), await end_session(authority, session))


async def sign_out_everywhere(authority: Authority, request: Request) -> Response:
    """End the person's sessions in every browser and the access of every client. Connected accounts stay.

    Raises:
        Refusal: see `session_of_form`.
        StoreUnavailable: then nobody was signed out.
    """
    session, _ = await session_of_form(authority, request)
    principal = session.person.principal
    ended = await authority.store.sign_out_person(principal, now=authority.clock())
    for grant in ended:
        authority.revocations.add(grant.id)
    log.info("%s signed out everywhere: %d clients lost their access", principal, len(ended))
    # This one by its id as well: it may have begun on a process whose clock is ahead of ours.
    return see_other(authority.site.url("/"), await end_session(authority, session))


def connect_paths(authority: Authority) -> frozenset[str]:
    """The paths on which people connect their own accounts."""
    return frozenset(
        f"/connect/{upstream.name}"
        for upstream in authority.config.upstreams
        if upstream.enabled and upstream.auth_type == "user"
    )
