"""Redirect URIs of clients: which may be registered, which request matches, how an answer is attached.

The syntax is closed: a URI is taken apart by one regular expression, and what
it does not describe is refused, so that no two parsers can disagree about it.
This file must not know who registers, nor why an answer is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from ...errors import Refusal
from ..learned_url import is_host
from .words import plain

MAX_REDIRECT_URI = 1024  # characters; the longest known to be in use is under 200
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "[::1]", "localhost"})  # RFC 8252 7.3, RFC 9700 4.1.3; exact texts
MAX_PORT = 65535

_PCHAR = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_URI = re.compile(
    rf"""
    (?P<scheme>https?)://
    (?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]+(?:(?:-+|\.)[A-Za-z0-9]+)*\.?)
    (?::(?P<port>[1-9][0-9]{{0,4}}))?
    (?P<path>(?:/{_PCHAR}*)*)
    (?P<query>\?(?:{_PCHAR}|[/?])*)?
    """,
    re.VERBOSE | re.ASCII,
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):", re.ASCII)
_DOT_SEGMENT = re.compile(r"/(?:\.|%2e){1,2}(?=/|$)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class RedirectUri:
    """A redirect URI that we are ready to send a browser to. `text` is exactly what the client wrote."""

    text: str
    scheme: str
    host: str
    port: str | None
    rest: str

    @property
    def is_loopback(self) -> bool:
        return self.scheme == "http"

    @property
    def without_port(self) -> tuple[str, str, str]:
        return self.scheme, self.host, self.rest

    @property
    def netloc(self) -> str:
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def csp_source(self) -> str:
        """What ``form-action`` must allow. CSP 3 has no host-source for an IPv6 literal: there it is the scheme."""
        return f"{self.scheme}:" if self.host.startswith("[") else f"{self.scheme}://{self.netloc}"


def parse_redirect_uri(text: str) -> RedirectUri:
    """Take a redirect URI apart.

    Raises:
        Refusal: 400 ``invalid_redirect_uri`` for all but https, and http on this computer.
    """
    match = _URI.fullmatch(text) if len(text) <= MAX_REDIRECT_URI else None
    if match is None or not is_host(match["host"]) or int(match["port"] or 0) > MAX_PORT:
        raise _refused(text, _why_malformed(text))
    if _DOT_SEGMENT.search(match["path"]):
        raise _refused(text, "it has a '.' or '..' segment; register the path it stands for")
    # RFC 9700 2.6: "MUST NOT allow [...] redirect URIs that use the http scheme except for native clients
    # that use Loopback Interface Redirection".
    if match["scheme"] == "http" and match["host"] not in LOOPBACK_HOSTS:
        raise _refused(text, "http is only for 127.0.0.1, [::1] and localhost; use https")
    rest = match["path"] + (match["query"] or "")
    return RedirectUri(text, match["scheme"], match["host"], match["port"], rest)


def allowed_redirect(registered: Iterable[str], requested: str) -> RedirectUri | None:
    """The requested URI if the client registered it, code point for code point (OAuth 2.1 4.1.1), else None.

    RFC 8252 7.3: "The authorization server MUST allow any port to be specified at the time of the request for
    loopback IP redirect URIs"; everything else of a loopback URI is exact as well.
    """
    try:
        uri = parse_redirect_uri(requested)
        candidates = [parse_redirect_uri(text) for text in registered]
    except Refusal:
        return None
    for candidate in candidates:
        if candidate.text == uri.text:
            return uri
        if uri.is_loopback and candidate.is_loopback and candidate.without_port == uri.without_port:
            return uri
    return None


def with_parameters(redirect_uri: str, parameters: Iterable[tuple[str, str]]) -> str:
    """The redirect URI with the answer attached; a query it already has is kept (OAuth 2.1 4.1.2)."""
    separator = "?"
    if "?" in redirect_uri:
        separator = "" if redirect_uri.endswith(("?", "&")) else "&"
    return redirect_uri + separator + urlencode(list(parameters), quote_via=quote, safe="")


def _why_malformed(text: str) -> str:
    scheme = _SCHEME.match(text)
    if len(text) > MAX_REDIRECT_URI:
        return f"it is longer than {MAX_REDIRECT_URI} characters"
    if scheme is None:
        return "it is not an absolute URI"
    if scheme[1] not in ("http", "https"):
        return f"the scheme {plain(scheme[1])} is not accepted; use https, or http on 127.0.0.1, [::1] or localhost"
    if "#" in text:
        return "it has a fragment"  # OAuth 2.1 2.3.1
    if "@" in text.partition("//")[2].partition("/")[0]:
        return "it has a user name before the host"
    return "it is not a plain http(s) URI; write the host in lower-case ASCII and escape other characters"


def _refused(text: str, why: str) -> Refusal:
    return Refusal(400, "invalid_redirect_uri", f"The redirect URI '{plain(text)}' cannot be used: {why}.")
