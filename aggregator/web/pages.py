"""The pages that people see, and the headers that protect them.

This file owns how pages look and what a browser may do with them; texts about
a failure come from whoever saw it. It must not know tokens or the store.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..config.model import Config
from ..errors import Refusal
from ..protocol.client_setup import client_setups, name_for
from ..protocol.oauth.browser import BrowserSession
from ..protocol.oauth.redirects import RedirectUri
from ..protocol.oauth.registration import Source
from ..protocol.oauth.site import Site, site_of
from .http import Response, Route
from .static_files import StaticFile

BEGIN_AGAIN = "Go back to your MCP client and connect again."

# What the navigation leads to: paths below ours, and their words.
PLACES = (("/", "Home"), ("/connections", "Connections"), ("/clients", "Clients"), ("/tools", "Tools"))
LOCAL_PLACES = tuple(place for place in PLACES if place[0] != "/clients")  # where no client logs in

_TEMPLATES = Path(__file__).parent / "templates"
_FEATURES = ("camera", "display-capture", "geolocation", "microphone", "payment", "usb", "publickey-credentials-get")
_TITLES = {
    400: "This request cannot be answered",
    403: "This sign-in cannot go on here",
    404: "There is nothing here",
    405: "This address is not for browsers",
    408: "The request did not arrive in time",
    413: "That is too much for this address",
    421: "This server has another address",
    429: "Not available right now",
    500: "Something went wrong here",
    503: "Not available right now",
}
# By status where that says more than the code, else by code.
_NEXT_STEPS: dict[int | str, str] = {
    405: "Begin at the home page.",
    408: "Load the page again.",
    413: "Go back and send less.",
    421: "Use the address that the people who run this server gave you.",
    "invalid_client": (
        "Let your MCP client forget this server (clear its stored login or registration), then connect again."
    ),
    "invalid_client_metadata": (
        "Connect again in a minute. If that does not help, ask who runs this server: its log has the cause, under the "
        "reference below."
    ),
    "not_found": "Check the address, or begin at the home page.",
    "server_error": "Try again in a minute. If that does not help, tell who runs this server the reference below.",
    "signed_out": "Open the page again; it asks you to sign in where that is needed.",
    "temporarily_unavailable": "Wait a moment, then connect again.",
}
_GENERAL = (
    ("content-type", "text/html; charset=utf-8"),
    ("cache-control", "no-store"),
    ("referrer-policy", "no-referrer"),  # RFC 9700 4.2.4: code and state are in URLs
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("permissions-policy", ", ".join(f"{feature}=()" for feature in _FEATURES)),
)


def page_headers(*, form_target: str | None = None, script: bool = False) -> tuple[tuple[str, str], ...]:
    """The headers of a page. `form_target` is the origin, beyond ours, that a form's answer may redirect to.

    `script` lets our own script files run: only where nothing is asked that a click decides.
    A page that leads back to a client has no ``Cross-Origin-Opener-Policy``: web clients open it as a popup and wait
    for a message from their own callback page in it, which a severed opener could never send.
    """
    # Browsers check form-action against the redirect that answers the form, too (Chromium 156 blocks it silently).
    form_action = "'self'" if form_target is None else f"'self' {form_target}"
    script_source = "'self'" if script else "'none'"
    policy = (
        f"default-src 'none'; style-src 'self'; img-src 'self' data:; script-src {script_source}; "
        f"form-action {form_action}; base-uri 'none'; frame-ancestors 'none'"
    )
    opener = (("cross-origin-opener-policy", "same-origin"),) if form_target is None else ()
    return (*_GENERAL, ("content-security-policy", policy), *opener)


class Pages:
    """Renders the templates of one deployment."""

    def __init__(self, config: Config, places: tuple[tuple[str, str], ...] = PLACES) -> None:
        self._site: Site = site_of(config.issuer_url)
        style, copy = StaticFile(self._site.path, "style.css"), StaticFile(self._site.path, "copy.js")
        self.style_path = style.path
        self.routes: tuple[Route, ...] = (style.route, copy.route)
        self._environment = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals = {
            "style": style.path,
            "copy_script": copy.path,
            "path": self._site.path,
            "server": self._site.origin.partition("://")[2],
            "places": places,
            # What a page gives if it has one: the entry of `PLACES` that it is, and the browser session.
            "place": None,
            "viewer": None,
        }

    def landing(self, viewer: BrowserSession | None = None) -> Response:
        """The page at the root: what this is, the URL to give to an MCP client, and how each client takes it."""
        return self._page(
            "landing.html",
            200,
            page_headers(script=True),
            mcp_url=self._site.resource,
            setups=client_setups(name_for(self._site.issuer), self._site.resource),
            viewer=viewer,
            place="/",
        )

    def local_landing(self, mcp_url: str, has_token: bool) -> Response:
        """The same for one person on their own machine."""
        setups = client_setups(name_for(self._site.issuer), mcp_url)
        headers = page_headers(script=True)
        return self._page(
            "local_landing.html", 200, headers, mcp_url=mcp_url, setups=setups, has_token=has_token, place="/"
        )

    def error(
        self, status: int, title: str, message: str, next_step: str, request_id: str, *, code: str = ""
    ) -> Response:
        """A page that says what went wrong and one thing to do. None of the texts needs to be escaped.

        `code` is for whoever helps: OAuth's, or one of ours like it.
        """
        return self._page(
            "error.html",
            status,
            page_headers(),
            title=title,
            message=message,
            next_step=next_step,
            request_id=request_id,
            code=code,
        )

    def refusal(self, refusal: Refusal, request_id: str) -> Response:
        """The error page for a refusal; its headers come along."""
        title = _TITLES.get(refusal.status, _TITLES[400])
        next_step = _NEXT_STEPS.get(refusal.status) or _NEXT_STEPS.get(refusal.error, BEGIN_AGAIN)
        page = self.error(refusal.status, title, refusal.description, next_step, request_id, code=refusal.error)
        return page.with_headers(*refusal.headers)

    def consent(
        self,
        *,
        redirect: RedirectUri,
        client_name: str,
        account: str,
        flow: str,
        csrf: str,
        source: Source = "registration",
        client_host: str = "",
    ) -> Response:
        """The question whether a client may act for the person.

        `source` says on whose word the name stands; `client_host` is where the client's metadata document is, if any.
        """
        return self._page(
            "consent.html",
            200,
            page_headers(form_target=redirect.csp_source),
            client_name=client_name,
            source=source,
            client_host=client_host,
            redirect=redirect,
            account=account,
            flow=flow,
            csrf=csrf,
        )

    def send_back(
        self, status: int, title: str, message: str, *, redirect: RedirectUri, answer: str, request_id: str
    ) -> Response:
        """A page that ends a login, with a button that tells the client how. `answer` is sealed."""
        return self._page(
            "send_back.html",
            status,
            page_headers(form_target=redirect.csp_source),
            title=title,
            message=message,
            redirect=redirect,
            answer=answer,
            request_id=request_id,
        )

    def render(
        self,
        template: str,
        *,
        status: int = 200,
        viewer: BrowserSession | None,
        place: str | None = None,
        **context: Any,
    ) -> Response:
        """A page of whoever is signed in. `place` is its entry of `PLACES`, if it is one."""
        return self._page(template, status, page_headers(), viewer=viewer, place=place, **context)

    def _page(self, template: str, status: int, headers: tuple[tuple[str, str], ...], **context: Any) -> Response:
        text = self._environment.get_template(template).render(context)
        return Response(status, text.encode("utf-8", "replace"), headers)
