"""``/consent``: the person who logged in decides whether the client may act for them, every time.

No consent is remembered: a client's name is its own claim, so a second request
under the same name proves nothing (OAuth 2.1 7.3.1). This file must not know
how the person logged in, nor how a code is redeemed.
"""

from __future__ import annotations

import hmac
import logging
import secrets

from ...errors import Refusal, Unsealable
from ...protocol.oauth.authorization import Answer, denied, granted
from ...protocol.oauth.client_document import parse_client_url
from ...protocol.oauth.redirects import parse_proven_redirect_uri
from ...protocol.oauth.sealed import FLOW_LIFETIME, Code, Question, open_question, seal_code
from ...store import Grant
from ..cookies import ended_flow_cookie, flow_cookies
from ..http import Request, Response, see_other
from .answers import require_same_origin, send_back_page
from .authority import Authority

log = logging.getLogger(__name__)


async def show_consent(authority: Authority, request: Request) -> Response:
    """The question. Showing it changes nothing, so it may be reloaded.

    Raises:
        Refusal: 403 when this browser has not just logged in for this flow.
    """
    question = _question_of(authority, request, request.query_parameters().get("flow"))
    asked = question.asked
    return authority.pages.consent(
        redirect=parse_proven_redirect_uri(asked.redirect_uri),
        client_name=asked.client_name,
        account=question.person.label,
        flow=question.id,
        csrf=question.csrf,
        source=asked.client_source,
        client_host=parse_client_url(asked.client).netloc if asked.client_source == "document" else "",
    )


async def answer_consent(authority: Authority, request: Request) -> Response:
    """The answer, once: a code for the client, or its refusal.

    Raises:
        Refusal: 403 for a form of another site or another browser, 400 for a second answer.
        StoreUnavailable: when the answer cannot be remembered now; nothing was granted.
    """
    require_same_origin(authority, request)
    form = request.form()
    question = _question_of(authority, request, form.get("flow"))
    if not hmac.compare_digest(form.get("csrf", "").encode(), question.csrf.encode()):
        raise Refusal(403, "access_denied", "The form does not belong to this sign-in.")
    decision = form.get("decision")
    if decision not in ("allow", "cancel"):
        raise Refusal(400, "invalid_request", "The form says neither Allow nor Cancel.")
    ticket = f"consent:{question.id}"
    if not await authority.store.consume(ticket, expires_at=question.started_at + 2 * FLOW_LIFETIME):
        raise Refusal(400, "invalid_request", "This question has already been answered.")
    if decision == "allow":
        answer = await _allow(authority, question)
    else:
        await authority.store.forget_login_token(question.id)
        answer = denied(question.asked, "access_denied", "The person declined.", authority.site)
    ended = ended_flow_cookie(authority.site, question.id)
    if parse_proven_redirect_uri(answer.redirect_uri).is_private_use:
        allowed = any(name == "code" for name, _ in answer.parameters)
        return _hand_over(authority, answer, request, allowed=allowed).with_headers(ended)
    return see_other(answer.location, ended, ("referrer-policy", "no-referrer"))


def _hand_over(authority: Authority, answer: Answer, request: Request, *, allowed: bool) -> Response:
    """A page with a button: after a redirect to an app's own scheme the browser would go on showing the question."""
    title, message = (
        ("Access allowed", "One step is left: give the app its answer, within a minute. The browser may ask about it.")
        if allowed
        else ("Access not allowed", "Nothing was granted. The app still waits for its answer.")
    )
    return send_back_page(authority, answer, request, status=200, title=title, message=message)


async def _allow(authority: Authority, question: Question) -> Answer:
    now, asked = authority.clock(), question.asked
    until = now + authority.config.tokens.code
    grant = Grant(
        id=question.id,  # the login's: what the identity provider left us for it is kept under this id
        principal=question.person.principal,
        label=question.person.label,
        client=asked.client,
        client_name=asked.client_name,
        redirect_uri=asked.redirect_uri,
        scope=asked.scope,
        resource=asked.resource,
        created_at=now,
        expires_at=until,  # until the code is redeemed
        logged_in_at=question.started_at,
    )
    if not await authority.store.add_grant(grant):
        log.warning("%s was signed out everywhere after this login: no grant", grant.principal.key)
        await authority.store.forget_login_token(grant.id)
        return denied(asked, "access_denied", "The person or client was signed out; log in again.", authority.site)
    log.info("%s allows client %s (%r): grant %s", grant.principal.key, grant.client, grant.client_name, grant.id)
    code = Code(
        secrets.token_urlsafe(16), grant.id, asked.client, asked.redirect_uri, asked.challenge, asked.resource, until
    )
    return granted(asked, seal_code(authority.keys, code, now=now), authority.site)


def _question_of(authority: Authority, request: Request, flow_id: str | None) -> Question:
    sealed = flow_cookies(authority.site, request).get(flow_id or "")
    if sealed is None:
        raise _not_here()
    try:
        question = open_question(authority.keys, sealed, now=authority.clock())
    except Unsealable:
        raise _not_here() from None
    if question.id != flow_id:
        raise _not_here()
    return question


def _not_here() -> Refusal:
    return Refusal(
        403,
        "access_denied",
        "There is no question to answer in this browser: it was answered, or the sign-in is older than ten minutes.",
    )
