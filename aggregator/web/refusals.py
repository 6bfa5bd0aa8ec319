"""Refusals and outages in words: JSON for programs, a page for people.

The one place where an exception becomes a response. This file must not know any endpoint.
"""

from __future__ import annotations

from typing import Protocol

from ..errors import Refusal
from .http import Response, Route, json_response, no_store

RETRY_AFTER = "5"  # seconds; about what a store needs to come back


class ErrorPages(Protocol):
    """Renders a refusal for people."""

    def refusal(self, refusal: Refusal, request_id: str) -> Response: ...


def render_refusal(
    refusal: Refusal, route: Route | None, pages: ErrorPages, request_id: str, *, accept: str = ""
) -> Response:
    """A page where people look, else an object as RFC 6749 5.2 has it. Neither may be stored.

    People look where the route says so, and where a browser's navigation (`accept` names ``text/html``; a script's
    fetch does not) ends at no route or at one that is not for programs of every origin. The latter always get JSON:
    some HTTP libraries ask for ``text/html`` without being asked to.
    """
    is_navigation = "text/html" in accept and not (route is not None and route.cors)
    if is_navigation or (route is not None and route.page):
        return pages.refusal(refusal, request_id)
    body = {"error": refusal.error, "error_description": refusal.description}
    return no_store(json_response(body, status=refusal.status, headers=refusal.headers))


def store_is_away() -> Refusal:
    """What anybody is told while the store cannot be used; nothing was granted or changed."""
    return Refusal(
        503,
        "temporarily_unavailable",
        "The server cannot reach its store right now; try again in a few seconds.",
        headers=(("retry-after", RETRY_AFTER),),
    )


def unexpected(request_id: str) -> Refusal:
    return Refusal(500, "server_error", f"Something went wrong here; the log has request {request_id}.")
