"""The session of a person in their browser: one sealed cookie, and the proof that a form came from a page of it.

A session is made by a login and by nothing else, and ends after eight hours, by
signing out here, or everywhere. This file must not know any page.
"""

from __future__ import annotations

import hmac
import secrets

from ...errors import Refusal, Unsealable
from ...protocol.oauth.browser import SESSION_LIFETIME, BrowserSession, open_session, seal_session
from ...protocol.oauth.site import Site
from ...protocol.principal import Person
from ..cookies import attributes, cookie_values
from ..http import Request
from .answers import require_same_origin
from .authority import Authority


def new_session_cookie(authority: Authority, person: Person) -> tuple[str, str]:
    """The header that signs `person` in in this browser, in the place of whoever was."""
    session = BrowserSession(secrets.token_urlsafe(16), person, secrets.token_urlsafe(24))
    # `reloginAfter` is the operator's word for how old a login may be; a browser gets no more than a client.
    lifetime = min(SESSION_LIFETIME, authority.config.auth.relogin_after)
    sealed = seal_session(authority.keys, session, now=authority.clock(), lifetime=lifetime)
    return "set-cookie", f"{_name(authority.site)}={sealed}; Max-Age={lifetime:.0f}{attributes(authority.site)}"


def ended_session_cookie(site: Site) -> tuple[str, str]:
    return "set-cookie", f"{_name(site)}=; Max-Age=0{attributes(site)}"


async def find_session(authority: Authority, request: Request) -> BrowserSession | None:
    """Who is signed in in the browser that sends `request`; None for nobody.

    Raises:
        StoreUnavailable: when it is not known whether they were signed out meanwhile.
    """
    sealed = next(cookie_values(request, _name(authority.site)), None)
    if sealed is None:
        return None
    try:
        session = open_session(authority.keys, sealed, now=authority.clock())
    except Unsealable:
        return None
    if await authority.store.is_consumed(_ticket(session)):
        return None
    signed_out_at = await authority.store.signed_out_at(session.person.principal)
    if signed_out_at is not None and session.signed_in_at <= signed_out_at:
        return None
    return session


async def end_session(authority: Authority, session: BrowserSession) -> tuple[str, str]:
    """End this session, and every copy of its cookie with it; the header that takes the cookie out of the browser.

    Raises:
        StoreUnavailable: when it cannot be ended; it goes on then.
    """
    await authority.store.consume(_ticket(session), expires_at=session.signed_in_at + SESSION_LIFETIME)
    return ended_session_cookie(authority.site)


async def session_of_form(authority: Authority, request: Request) -> tuple[BrowserSession, dict[str, str]]:
    """Who sends a form, and its fields, once it is certain that one of this session's own pages sent it.

    Raises:
        Refusal: 403 for a form of another site, another session or none.
        StoreUnavailable: as `find_session`.
    """
    require_same_origin(authority, request)
    form = request.form()
    session = await find_session(authority, request)
    if session is None:
        raise Refusal(403, "signed_out", "You are not signed in here any more; nothing was changed.")
    if not hmac.compare_digest(form.get("csrf", "").encode(), session.form_secret.encode()):
        raise Refusal(403, "signed_out", "The form is from an earlier sign-in; nothing was changed.")
    return session, form


def _ticket(session: BrowserSession) -> str:
    return f"session:{session.id}"


def _name(site: Site) -> str:
    # RFC 6265bis 4.1.3.2: __Host- forbids Domain and other paths, so no sibling host can plant a session.
    return "__Host-mcp-session" if site.secure else "mcp-session"
