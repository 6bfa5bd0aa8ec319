"""The kinds of value that describe MCP clients: ids, redirect URIs, schemes. Pure; raises `Wrong`.

What may be a redirect URI is decided in the protocol, for clients that register
themselves too; a test shows that both take the same texts.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from .model import Secret
from .scalars import Wrong, parse_text, show
from .secrets import check_secret, read_secret
from .urls import show_url

MAX_REDIRECT_URI = 1024  # characters
ANSWER_PARAMETERS = frozenset({"code", "state", "iss", "error", "error_description", "error_uri"})
# What a browser acts on itself, instead of handing it to an app.
NEVER_SCHEMES = frozenset(
    "about blob chrome chrome-extension content data file filesystem ftp http https intent jar javascript mailto "
    "moz-extension resource sms tel vbscript view-source ws wss".split()
)

_CLIENT_ID = re.compile(r"[\x21-\x7e]{1,255}")  # RFC 6749 A.1: *VSCHAR, here without spaces
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.ASCII)
_PCHAR = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})"
_REST = rf"(?P<path>(?:/{_PCHAR}*)*)(?P<query>\?(?:{_PCHAR}|[/?])*)?"
_WEB = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]+(?:(?:-+|\.)[A-Za-z0-9]+)*\.?)"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?" + _REST,
    re.ASCII,
)
_APP = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*):(?://(?P<host>[A-Za-z0-9]+(?:[.-]+[A-Za-z0-9]+)*))?(?!//)" + _REST, re.ASCII
)
_DOT_SEGMENT = re.compile(r"/(?:\.|%2e){1,2}(?=/|$)", re.IGNORECASE | re.ASCII)
_LOOPBACK = ("127.0.0.1", "[::1]", "localhost")


def parse_client_id(value: Any) -> str:
    """The id that a client sends: printable ASCII. A URL may be one; its metadata document is then not fetched."""
    text = parse_text(value)
    if not _CLIENT_ID.fullmatch(text):
        raise Wrong(f"{show(value)} is not a client id; expected 1 to 255 printable ASCII characters without spaces")
    return text


def parse_scheme(value: Any) -> str:
    """A private-use URI scheme, such as an editor claims for itself."""
    text = parse_text(value)
    if not _SCHEME.fullmatch(text):
        meant = re.match(r"[A-Za-z][A-Za-z0-9+.-]*", text)
        raise Wrong(f"{show(value)} is not a URI scheme; write one like 'cursor'", meant and meant[0].lower())
    if text in NEVER_SCHEMES:
        raise Wrong(f"'{text}' belongs to browsers and not to an app; it can never be allowed")
    return text


def parse_redirect_uri(value: Any) -> str:
    """Where a client's answer may go: https, http on this computer, or an app's own scheme."""
    text = parse_text(value)
    match = (_WEB if text.startswith(("http:", "https:")) else _APP).fullmatch(text)
    if match is None or len(text) > MAX_REDIRECT_URI or _DOT_SEGMENT.search(match["path"]):
        raise Wrong(
            f"{show_url(value)} is not a redirect URI; write an absolute one in plain ASCII, without a fragment"
        )
    query = parse_qsl((match["query"] or "?")[1:], keep_blank_values=True)
    if taken := ANSWER_PARAMETERS.intersection(name for name, _ in query):
        raise Wrong(f"{show_url(value)} has '{min(taken)}' in its query, which an answer brings; remove it")
    host = match["host"] or ""
    match match["scheme"]:
        case "http" | "https" as scheme:
            if not _is_host(host) or int(match.groupdict().get("port") or 0) > 65535:
                raise Wrong(f"{show_url(value)} has no usable host or port")
            if scheme == "http" and host not in _LOOPBACK:
                raise Wrong(f"{show_url(value)} is http; that is for 127.0.0.1, [::1] and localhost only, use https")
        case scheme if scheme in NEVER_SCHEMES:
            raise Wrong(f"{show_url(value)}: the scheme '{scheme}' belongs to browsers and not to an app")
        case _ if not host and not match["path"]:
            raise Wrong(f"{show_url(value)} leads nowhere; write one like 'com.example.app:/callback'")
    return text


def read_client_secret(value: Any, cwd: Path) -> Secret:
    """The secret of a confidential client, not one that can be guessed."""
    secret = read_secret(value, cwd)
    check_secret(secret.reveal())
    return secret


def _is_host(host: str) -> bool:
    """A name, or an address in its usual form: 127.1 and 0x7f.1 are addresses to some parsers and names to others."""
    last = host.rstrip(".").rpartition(".")[2].lower()
    if not host.startswith("[") and not last.isdigit() and not re.fullmatch(r"0x[0-9a-f]*", last):
        return bool(host)
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
