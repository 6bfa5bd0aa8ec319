"""Redirect URIs of clients: which may be registered, which request matches, how an answer is attached.

The syntax is closed: a URI is taken apart by one regular expression, and what
it does not describe is refused, so that no two parsers can disagree about it.
This file must not know who registers, nor why an answer is sent.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode

from ...errors import Refusal
from ..learned_url import is_host
from .words import plain

MAX_REDIRECT_URI = 1024  # characters; the longest known to be in use is under 200
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "[::1]", "localhost"})  # RFC 8252 7.3, RFC 9700 4.1.3; exact texts
MAX_PORT = 65535
ANSWER_PARAMETERS = frozenset({"code", "state", "iss", "error", "error_description", "error_uri"})
# What a browser acts on itself, instead of handing it to an app: no list of the operator's makes these redirect URIs.
NEVER_SCHEMES = frozenset(
    "about blob chrome chrome-extension content data file filesystem ftp http https intent jar javascript mailto "
    "moz-extension resource sms tel vbscript view-source ws wss".split()
)

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
# RFC 8252 7.1, and the form with an authority that editors use: com.example.app:/cb, cursor://anysphere.cursor-mcp/cb.
_PRIVATE_USE_URI = re.compile(
    rf"""
    (?P<scheme>[a-z][a-z0-9+.-]*):
    (?://(?P<host>[A-Za-z0-9]+(?:[.-]+[A-Za-z0-9]+)*))?
    (?P<path>(?!//)(?:/{_PCHAR}*)*)
    (?P<query>\?(?:{_PCHAR}|[/?])*)?
    """,
    re.VERBOSE | re.ASCII,
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):", re.ASCII)
_DOT_SEGMENT = re.compile(r"/(?:\.|%2e){1,2}(?=/|$)", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class RedirectUri:
    """A redirect URI that we are ready to send a browser to. `text` is exactly what the client wrote.

    Beyond http and https the scheme is a private-use one, whose `host` may be empty.
    """

    text: str
    scheme: str
    host: str
    port: str | None
    rest: str

    @property
    def is_loopback(self) -> bool:
        return self.scheme == "http"

    @property
    def is_private_use(self) -> bool:
        """RFC 8252 7.1: an app on this computer has claimed the scheme; a browser hands the URI over, shows nothing."""
        return self.scheme not in ("http", "https")

    @property
    def without_port(self) -> tuple[str, str, str]:
        return self.scheme, self.host, self.rest

    @property
    def netloc(self) -> str:
        """Where it leads, for people: a host, or the scheme that an app has claimed."""
        if self.is_private_use:
            return f"{self.scheme}://{self.host}" if self.host else f"{self.scheme}:"
        return self.host if self.port is None else f"{self.host}:{self.port}"

    @property
    def csp_source(self) -> str:
        """What ``form-action`` must allow. CSP 3 has no host-source for an IPv6 literal: there it is the scheme."""
        by_scheme = self.is_private_use or self.host.startswith("[")
        return f"{self.scheme}:" if by_scheme else f"{self.scheme}://{self.netloc}"


def parse_redirect_uri(text: str, schemes: Container[str] = ()) -> RedirectUri:
    """Take a redirect URI apart. `schemes` are the private-use ones that the operator has listed.

    Raises:
        Refusal: 400 ``invalid_redirect_uri`` for all but https, http on this computer, and `schemes`.
    """
    if (scheme := _SCHEME.match(text)) and scheme[1] in schemes:
        return _parse_private_use(text)
    match = _URI.fullmatch(text) if len(text) <= MAX_REDIRECT_URI else None
    if match is None or not is_host(match["host"]) or int(match["port"] or 0) > MAX_PORT:
        raise _refused(text, _why_malformed(text))
    rest = _rest_of(text, match["path"], match["query"] or "")
    # RFC 9700 2.6: "MUST NOT allow [...] redirect URIs that use the http scheme except for native clients
    # that use Loopback Interface Redirection".
    if match["scheme"] == "http" and match["host"] not in LOOPBACK_HOSTS:
        raise _refused(text, "http is only for 127.0.0.1, [::1] and localhost; use https")
    return RedirectUri(text, match["scheme"], match["host"], match["port"], rest)


def parse_proven_redirect_uri(text: str) -> RedirectUri:
    """As `parse_redirect_uri`, for a URI whose scheme was found on the operator's list before.

    Raises:
        Refusal: 400 ``invalid_redirect_uri``; whatever the list says, never one of `NEVER_SCHEMES`.
    """
    scheme = _SCHEME.match(text)
    return parse_redirect_uri(text, (scheme[1],) if scheme and scheme[1] not in ("http", "https") else ())


def allowed_redirect(registered: Iterable[str], requested: str) -> RedirectUri | None:
    """The requested URI if the client registered it, code point for code point (OAuth 2.1 4.1.1), else None.

    `registered` are URIs that may be used as they stand: who read them knew the operator's list of schemes.

    RFC 8252 7.3: "The authorization server MUST allow any port to be specified at the time of the request for
    loopback IP redirect URIs"; everything else of a loopback URI is exact as well.
    """
    try:
        uri = parse_proven_redirect_uri(requested)
        candidates = [parse_proven_redirect_uri(text) for text in registered]
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


def _parse_private_use(text: str) -> RedirectUri:
    match = _PRIVATE_USE_URI.fullmatch(text) if len(text) <= MAX_REDIRECT_URI else None
    if match is None or not (match["host"] or match["path"]):
        raise _refused(text, "it is not plain; write scheme:/path or scheme://name/path, without a fragment")
    if match["scheme"] in NEVER_SCHEMES:
        raise _refused(text, f"the scheme {match['scheme']} belongs to browsers, not to an app")
    rest = _rest_of(text, match["path"], match["query"] or "")
    return RedirectUri(text, match["scheme"], match["host"] or "", None, rest)


def _rest_of(text: str, path: str, query: str) -> str:
    if _DOT_SEGMENT.search(path):
        raise _refused(text, "it has a '.' or '..' segment; register the path it stands for")
    # OAuth 2.1 3.1: response parameters "MUST NOT be included more than once". Whoever registers another's address
    # with a code of their own in it would have it read first.
    if taken := ANSWER_PARAMETERS.intersection(name for name, _ in parse_qsl(query[1:], keep_blank_values=True)):
        raise _refused(text, f"its query has '{min(taken)}', which an answer brings")
    return path + query


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
