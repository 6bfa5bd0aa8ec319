"""Refusals and outages in words: JSON for programs, a page for people.

The one place where an OAuth endpoint's exceptions become responses. This file
must not know any endpoint.
"""

from __future__ import annotations

import logging

from ..errors import Refusal, StoreUnavailable
from ..protocol.oauth.authorization import Answer
from ..protocol.oauth.redirects import parse_redirect_uri
from ..protocol.oauth.sealed import seal_answer
from .authority import Authority
from .http import Endpoint, Request, Response, json_response, no_store, see_other

RETRY_AFTER = "5"  # seconds; about what a store needs to come back

log = logging.getLogger(__name__)


def for_programs(endpoint: Endpoint) -> Endpoint:
    """The endpoint with refusals as RFC 6749 5.2 objects. Nothing it answers may be stored (OAuth 2.1 3.2.3)."""

    async def answer(request: Request) -> Response:
        try:
            return no_store(await endpoint(request))
        except Refusal as refusal:
            return no_store(_oauth_error(refusal))
        except StoreUnavailable as exc:
            return no_store(_oauth_error(_store_is_away(exc, request)))

    return answer


def for_people(authority: Authority, endpoint: Endpoint) -> Endpoint:
    """The endpoint with refusals as pages."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Refusal as refusal:
            return authority.pages.refusal(refusal, request.request_id)
        except StoreUnavailable as exc:
            return authority.pages.refusal(_store_is_away(exc, request), request.request_id)

    return answer


def tell_client(authority: Authority, answer: Answer, request: Request, *, status: int = 400) -> Response:
    """Pass an error on: at once to an app on this computer, by a button to anyone else.

    OAuth 2.1 7.12.2: an authorization server that redirects without interaction is an open redirector for whoever
    registers a client; a loopback address leads nowhere an attacker could want.
    """
    if parse_redirect_uri(answer.redirect_uri).is_loopback:
        return see_other(answer.location, ("referrer-policy", "no-referrer"))
    words = dict(answer.parameters)["error_description"]
    return send_back_page(authority, answer, request, status=status, title="Not signed in", message=words)


def send_back_page(
    authority: Authority, answer: Answer, request: Request, *, status: int, title: str, message: str
) -> Response:
    """A page that says why the login ended here, with a button that passes `answer` on to the client."""
    return authority.pages.send_back(
        status,
        title,
        message,
        redirect=parse_redirect_uri(answer.redirect_uri),
        answer=seal_answer(authority.keys, answer, now=authority.clock()),
        request_id=request.request_id,
    )


def require_same_origin(authority: Authority, request: Request) -> None:
    """Return if a form came from one of our own pages, as far as the browser says where it came from.

    Raises:
        Refusal: 403 for a form of another site.
    """
    site = request.header("sec-fetch-site")
    origin = request.header("origin")
    # Under our own Referrer-Policy: no-referrer a browser sends "Origin: null" with our forms (Fetch, "append a
    # request Origin header"), so null proves nothing either way; Sec-Fetch-Site and the form's token decide then.
    if site not in (None, "same-origin") or origin not in (None, "null", authority.site.origin):
        raise Refusal(403, "access_denied", "The form was sent from another site.")


def _oauth_error(refusal: Refusal) -> Response:
    body = {"error": refusal.error, "error_description": refusal.description}
    return json_response(body, status=refusal.status, headers=refusal.headers)


def _store_is_away(exc: StoreUnavailable, request: Request) -> Refusal:
    log.error("%s %s: the store is not available: %s", request.method, request.path, exc)
    return Refusal(
        503,
        "temporarily_unavailable",
        "The server cannot reach its store right now; try again in a few seconds.",
        headers=(("retry-after", RETRY_AFTER),),
    )
