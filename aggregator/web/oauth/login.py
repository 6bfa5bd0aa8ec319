"""``/callback``: the identity provider's answer, in the browser that began the login.

The state names a flow and is worth nothing without that flow's cookie: an
address captured in one browser fails in every other (CVE-2026-27124). Who has
logged in for a client is signed in on our own pages as well. This file must not
know how an ID token is checked, nor who consents to what.
"""

from __future__ import annotations

import logging
import secrets

from ...errors import IdentityProviderUnavailable, LoginRefused, Refusal, Unsealable
from ...protocol.oauth.authorization import denied
from ...protocol.oauth.browser import SignIn, open_sign_in
from ...protocol.oauth.sealed import FLOW_LIFETIME, Flow, Question, open_flow, seal_question
from ...protocol.oauth.words import display_name
from ...protocol.principal import Person
from ...upstream.identity.login_checks import CHECK_INTERVAL
from ..cookies import ended_flow_cookie, flow_cookie, flow_cookies
from ..http import Request, Response, see_other
from .answers import send_back_page, tell_client
from .authority import Authority
from .browser_session import new_session_cookie

log = logging.getLogger(__name__)

# OIDC Core 3.1.2.6 and OAuth 2.1 4.1.2.1, as far as the client can use them; everything else is server_error.
_PASSED_ON = {
    "access_denied": "access_denied",
    "login_required": "access_denied",
    "interaction_required": "access_denied",
    "account_selection_required": "access_denied",
    "consent_required": "access_denied",
    "temporarily_unavailable": "temporarily_unavailable",
}
_AGAIN = {Flow: "connect again from your MCP client", SignIn: "open the page again that you came for"}


async def callback(authority: Authority, request: Request) -> Response:
    """End the login and go on: to the question of consent, or to the page for which the person signed in.

    A flow is spent before anything is done with the answer, so it ends at most once, on whichever process.

    Raises:
        Refusal: 400 or 403 when this browser has no such flow, the answer is not one, or it was given before.
        StoreUnavailable: when the flow cannot be spent now.
    """
    parameters = request.query_parameters()
    flow = _flow_of(authority, request, parameters.get("state"))
    code, error = parameters.get("code"), parameters.get("error")
    if code is None and error is None:
        raise Refusal(400, "invalid_request", "The identity provider's answer has neither a code nor an error.")
    if not await authority.store.consume(f"flow:{flow.id}", expires_at=flow.started_at + 2 * FLOW_LIFETIME):
        raise Refusal(400, "invalid_request", "This sign-in has already been answered once.")
    if code is None or error is not None:
        response = _provider_error(authority, flow, request, error or "", parameters.get("iss"))
    else:
        response = await _finish(authority, flow, request, code, parameters.get("iss"))
    return response


def _flow_of(authority: Authority, request: Request, state: str | None) -> Flow | SignIn:
    sealed = flow_cookies(authority.site, request).get(state or "")
    if state is None or sealed is None:
        raise _other_browser()
    for opened in (open_flow, open_sign_in):
        try:
            flow: Flow | SignIn = opened(authority.keys, sealed, now=authority.clock())
        except Unsealable:
            continue
        if flow.id == state:
            return flow
    raise _other_browser()


async def _finish(
    authority: Authority, flow: Flow | SignIn, request: Request, code: str, issuer: str | None
) -> Response:
    try:
        login = await authority.identity_provider.finish(
            code=code, nonce=flow.nonce, code_verifier=flow.verifier, issuer=issuer
        )
    except LoginRefused as exc:
        log.warning("login refused: %s", exc)
        return _ended(
            authority,
            flow,
            request,
            status=403,
            error="access_denied",
            title="You cannot sign in here",
            message=f"{_cut(str(exc))} If you should have access, ask the people who run this server.",
        )
    except IdentityProviderUnavailable as exc:
        log.warning("login cannot end: %s", exc)
        return _ended(
            authority,
            flow,
            request,
            status=503,
            error="temporarily_unavailable",
            title="Sign-in could not be completed",
            message=f"The identity provider {authority.config.auth.issuer} did not complete it. Wait half a minute, "
            f"then {_AGAIN[type(flow)]}. If it happens again, the reason stands in this server's log.",
        )
    named = _named(login.person)
    if isinstance(flow, SignIn):
        # What the provider gave to ask again goes with grants: a browser session is shorter than any such check.
        return _arrive(authority, flow, named)
    if login.refresh_token is not None:
        now = authority.clock()
        await authority.store.keep_login_token(
            flow.id,  # and of the grant, if one comes of it
            login.refresh_token,
            next_check_at=now + CHECK_INTERVAL,
            kept_until=now + 2 * FLOW_LIFETIME,
        )
    return _ask(authority, flow, named)


def _arrive(authority: Authority, sign_in: SignIn, person: Person) -> Response:
    """Go on to the page for which the person signed in."""
    where = authority.site.url(sign_in.to) + (f"?state={sign_in.resume}" if sign_in.resume else "")
    ended = ended_flow_cookie(authority.site, sign_in.id)
    log.info("%s signed in", person.principal)
    return see_other(where, new_session_cookie(authority, person), ended, ("referrer-policy", "no-referrer"))


def _named(person: Person) -> Person:
    return Person(person.principal, display_name(person.label) or display_name(person.principal.subject))


def _ask(authority: Authority, flow: Flow, person: Person) -> Response:
    """Go on to the consent page. The cookie changes its purpose: what was a login can now only be answered."""
    question = Question(flow.id, flow.asked, person, secrets.token_urlsafe(16))
    cookie = flow_cookie(authority.site, flow.id, seal_question(authority.keys, question, now=authority.clock()))
    if cookie is None:
        raise Refusal(400, "invalid_request", "The client's request and your account's name are too long together.")
    where = f"{authority.site.url('/consent')}?flow={flow.id}"
    return see_other(where, cookie, new_session_cookie(authority, person), ("referrer-policy", "no-referrer"))


def _provider_error(
    authority: Authority, flow: Flow | SignIn, request: Request, error: str, issuer: str | None
) -> Response:
    """The provider says no: the client learns it in OAuth's words, and nobody sees the provider's own."""
    expected = authority.config.auth.issuer
    # RFC 9207 2.4: an answer of another issuer "MUST" be rejected, its error included; one trailing slash may differ.
    if issuer is not None and issuer.rstrip("/") != expected.rstrip("/"):
        raise Refusal(403, "access_denied", "The answer comes from another identity provider than the one asked.")
    log.warning("the identity provider answered a login with the error %r", error[:80])
    passed_on = _PASSED_ON.get(error, "server_error")
    words = f"The identity provider {expected} ended the sign-in: {passed_on}."
    if isinstance(flow, SignIn):
        return _ended(authority, flow, request, status=403, error=passed_on, title="Not signed in", message=words)
    response = tell_client(authority, denied(flow.asked, passed_on, words, authority.site), request, status=403)
    return response.with_headers(ended_flow_cookie(authority.site, flow.id))


def _ended(
    authority: Authority, flow: Flow | SignIn, request: Request, *, status: int, error: str, title: str, message: str
) -> Response:
    """A person has to read why, so this is a page even for an app on this computer."""
    if isinstance(flow, SignIn):
        next_step = f"To try again: {_AGAIN[SignIn]}."
        page = authority.pages.error(status, title, message, next_step, request.request_id)
        return page.with_headers(ended_flow_cookie(authority.site, flow.id))
    answer = denied(flow.asked, error, title, authority.site)
    response = send_back_page(authority, answer, request, status=status, title=title, message=message)
    return response.with_headers(ended_flow_cookie(authority.site, flow.id))


def _other_browser() -> Refusal:
    return Refusal(
        403,
        "access_denied",
        "This sign-in was started in another browser, was already completed, or is older than ten minutes.",
    )


def _cut(text: str, limit: int = 300) -> str:
    text = text.strip()
    text = text[:1].upper() + text[1:]
    text = text if len(text) <= limit else text[:limit] + "…"
    return text if text.endswith((".", "!", "?", "…")) else text + "."
