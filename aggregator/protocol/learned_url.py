"""A URL that somebody else gave us, https as a rule, taken apart before anything is resolved or connected to.

The syntax is closed: one regular expression describes it all, so that no two
parsers can disagree about which host is meant. This file must not know what the
URL is for, nor resolve anything.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

MAX_URL = 1024  # characters; the longest known to be in use is under 100
HTTPS_PORT = 443
HTTP_PORT = 80
_PORTS = {"https": HTTPS_PORT, "http": HTTP_PORT}
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})  # exact texts

_PCHAR = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_URL = re.compile(
    rf"""
    (?P<scheme>https?)://
    (?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]+(?:(?:-+|\.|_+)[A-Za-z0-9]+)*\.?)
    (?::(?P<port>[1-9][0-9]{{0,4}}))?
    (?P<path>(?:/{_PCHAR}*)*)
    (?P<query>\?(?:{_PCHAR}|[/?])*)?
    """,
    re.VERBOSE | re.ASCII,
)
_DOT_SEGMENT = re.compile(r"/(?:\.|%2e){1,2}(?=/|$)", re.IGNORECASE | re.ASCII)


class NotPlainUrl(ValueError):
    """The text is no URL that we would fetch; the message says why and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class LearnedUrl:
    """`text` is exactly what was given. `host` is a name or an address, an IPv6 one in its brackets."""

    text: str
    host: str
    port: int
    path: str
    query: str
    scheme: str = "https"

    @property
    def target(self) -> str:
        """What stands on the request line."""
        return (self.path or "/") + self.query

    @property
    def netloc(self) -> str:
        return self.host if self.port == _PORTS[self.scheme] else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Written as one of the names of this computer. What another name resolves to does not count."""
        return self.host in LOOPBACK_NAMES


def parse_learned_url(text: str, *, inside: bool = False) -> LearnedUrl:
    """Take the URL apart.

    With `inside` it may be one of an operator's own network: plain http, and a name with underscores, which are no
    host names (RFC 952) and which container networks give out nevertheless.

    Raises:
        NotPlainUrl: for another scheme than https, user information, a fragment, a dot segment, characters that are
            not plain ASCII, and every way to write an IPv4 address but the usual one.
    """
    if len(text) > MAX_URL:
        raise NotPlainUrl(f"is longer than {MAX_URL} characters")
    match = _URL.fullmatch(text)
    if match is None or not (inside or (match["scheme"] == "https" and "_" not in match["host"])):
        raise NotPlainUrl(_why_malformed(text, inside=inside))
    if not is_host(match["host"]):
        raise NotPlainUrl("has a host that is neither a name nor an address")
    port = int(match["port"] or _PORTS[match["scheme"]])
    if port > 65535:
        raise NotPlainUrl("has a port that does not exist")
    if _DOT_SEGMENT.search(match["path"]):
        raise NotPlainUrl("has a '.' or '..' segment")
    return LearnedUrl(text, match["host"], port, match["path"], match["query"] or "", match["scheme"])


def is_host(host: str) -> bool:
    """Whether a host of the usual characters means the same to every parser.

    127.1, 2130706433 and 0x7f.1 are addresses to a browser (WHATWG URL, "ends in a number") and names to others.
    """
    if host.startswith("["):
        return _is_address(host[1:-1])
    last = host.rstrip(".").rpartition(".")[2].lower()
    return not (last.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last)) or _is_address(host)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _why_malformed(text: str, *, inside: bool) -> str:
    if not text.startswith(("https://", "http://") if inside else "https://"):
        return "is not an http(s) URL" if inside else "is not an https URL"
    if "#" in text:
        return "has a fragment"
    if "@" in text.partition("://")[2].partition("/")[0]:
        return "has a user name before the host"
    return "is not a plain URL; write the host in ASCII and escape other characters"
