"""How a login that ends without success is told: to the client, or to the person in front of the page.

This file must not know why it ended.
"""

from __future__ import annotations

from ...errors import Refusal
from ...protocol.oauth.authorization import Answer
from ...protocol.oauth.redirects import parse_proven_redirect_uri
from ...protocol.oauth.sealed import seal_answer
from ..http import Request, Response, see_other
from .authority import Authority


def tell_client(authority: Authority, answer: Answer, request: Request, *, status: int = 400) -> Response:
    """Pass an error on: at once to an app on this computer, by a button to anyone else.

    OAuth 2.1 7.12.2: an authorization server that redirects without interaction is an open redirector for whoever
    registers a client; a loopback address leads nowhere an attacker could want.
    """
    if parse_proven_redirect_uri(answer.redirect_uri).is_loopback:
        return see_other(answer.location, ("referrer-policy", "no-referrer"))
    words = dict(answer.parameters)["error_description"]
    return send_back_page(authority, answer, request, status=status, title="Not signed in", message=words)


def send_back_page(
    authority: Authority, answer: Answer, request: Request, *, status: int, title: str, message: str
) -> Response:
    """A page that says how the login ended, with a button that passes `answer` on to the client."""
    return authority.pages.send_back(
        status,
        title,
        message,
        redirect=parse_proven_redirect_uri(answer.redirect_uri),
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
