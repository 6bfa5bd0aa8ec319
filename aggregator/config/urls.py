"""The URLs, origins and hosts of the file. Raises `Wrong`; resolves and contacts nothing."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from .expand import Expanded
from .model import Secret
from .scalars import Wrong, parse_text, show
from .secrets import read_secret

_SPACE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\\]")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_.])?", re.ASCII)
_ORIGIN_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}


def show_url(value: Any) -> str:
    """As `show`, without what may be secret in a URL: user information and query."""
    if not isinstance(value, str):
        return show(value)
    text = value.written if isinstance(value, Expanded) else value
    return show(redact_urls(text), limit=100)


def redact_urls(text: str) -> str:
    """`text`, of the same length, with the user information and the queries of its URLs blanked."""
    text = re.sub(r"(?<=://)[^/\s\"'@]*(?=@)", lambda found: "*" * len(found[0]), text)
    return re.sub(r"(://[^\s\"'?]*\?)([^\s\"'#]*)", lambda found: found[1] + "*" * len(found[2]), text)


def split_http_url(value: Any) -> SplitResult:
    """The parts of an absolute http(s) URL with a host, without user information and without a fragment."""
    if not isinstance(value, str):
        parse_text(value)
    text = str(value)
    parts = _split(text)
    if parts is None or parts.scheme not in ("http", "https") or _SPACE.search(text):
        raise Wrong(f"{show_url(value)} is not an http(s) URL", None if isinstance(value, Expanded) else _meant(text))
    if "@" in parts.netloc:
        raise Wrong(f"{show_url(value)} holds a user name or password; remove it (it would end up in logs)")
    if not is_host(parts.hostname or ""):
        raise Wrong(f"{show_url(value)} has no usable host")
    if parts.fragment or text.endswith("#"):
        raise Wrong(f"{show_url(value)} has a fragment (#...); remove it")
    return parts


def parse_upstream_url(value: Any) -> str:
    """The address of an MCP server, as written."""
    split_http_url(value)
    return str(value)


def parse_issuer(value: Any) -> str:
    """An OpenID issuer, as written; whether http is allowed is decided beside `allowHttpIssuer`.

    OIDC Discovery 3: a URL "that contains scheme, host and, optionally, port number and path components and no query or
    fragment components".
    """
    parts = split_http_url(value)
    if parts.query or str(value).endswith("?"):
        raise Wrong(f"{show_url(value)} has a query (?...); an issuer has none")
    return str(value)


def parse_own_url(value: Any) -> str:
    """The aggregator's public address, in the one form in which it is published: lower case host, no default port,
    no trailing slash. RFC 8414 2: "no query or fragment components".
    """
    parts = split_http_url(value)
    if parts.query or str(value).endswith("?"):
        raise Wrong(f"{show_url(value)} has a query (?...); the public URL has none")
    path = parts.path.rstrip("/")
    if "//" in path or any(step in (".", "..") for step in path.split("/")) or "%" in path or ";" in path:
        raise Wrong(f"{show_url(value)} has a path that proxies rewrite; use plain segments, such as /mcp-tools")
    return f"{parts.scheme}://{_authority(parts)}{path}"


def read_proxy(value: Any, cwd: Path) -> Secret:
    """``http://[user:password@]host:port``, or a file that holds it. Secret, for the password; no message quotes it."""
    secret = read_secret(value, cwd)
    text = secret.reveal()
    parts = _split(text)
    expected = "write it as 'http://proxy.example.com:3128', with 'user:password@' before the host if it asks for them"
    if parts is None or _SPACE.search(text) or not is_host(parts.hostname or ""):
        raise Wrong(f"is not the URL of a proxy; {expected}")
    if parts.scheme != "http":
        raise Wrong(f"is not an http URL, the only kind of proxy there is; {expected}")
    if not parts.port:
        raise Wrong(f"names no port; {expected}")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise Wrong(f"has a path, query or fragment, which a proxy has not; {expected}")
    if parts.username == "" or ("@" in parts.netloc and parts.password is None):
        raise Wrong(f"has only half of user and password; {expected}")
    return secret


def parse_origin(value: Any) -> str:
    """A web origin (RFC 6454 6.1) as browsers send it: scheme, host and a port that is not the default one."""
    text = parse_text(value)
    if text in ("*", "null"):
        raise Wrong(f"'{text}' would let every web page in; name each origin")
    parts = _split(text.rstrip("/"))
    if (
        parts is None
        or not _ORIGIN_SCHEME.fullmatch(parts.scheme)
        or parts.path
        or parts.query
        or parts.fragment
        or "@" in parts.netloc
        or not is_host(parts.hostname or "")
    ):
        raise Wrong(f"{show_url(value)} is not an origin; write one like 'https://app.example.com'")
    return f"{parts.scheme}://{_authority(parts)}"


def parse_allowed_host(value: Any) -> str:
    """A value of the Host header: a name or address, perhaps with a port."""
    text = parse_text(value)
    parts = _split(f"//{text}")
    if text == "*" or parts is None or parts.netloc != text or "@" in text or not is_host(parts.hostname or ""):
        raise Wrong(f"{show_url(value)} is not a host; write one like 'mcp.example.com' or 'mcp.example.com:8443'")
    return text.lower()


def parse_bind_host(value: Any) -> str:
    """A name or address to listen on."""
    text = parse_text(value)
    if not is_host(text.lower()):
        hint = "; the port is a key of its own" if ":" in text else ""
        raise Wrong(f"{show_url(value)} is not a host name or IP address{hint}")
    return text


def is_loopback(host: str) -> bool:
    """Whether this host never leaves the machine.

    RFC 6761 6.3 makes names under ``localhost`` loopback too, but resolvers need not obey: only the name itself counts.
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_plain_http(value: Any) -> bool:
    """Whether `value` is an http URL of another machine."""
    parts = _split(value) if isinstance(value, str) else None
    return (
        parts is not None and parts.scheme == "http" and bool(parts.hostname) and not is_loopback(parts.hostname or "")
    )


def is_host(host: str) -> bool:
    """Whether this is a host name (lower case) or an IP address without brackets."""
    if ":" in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            return False
        return True
    try:
        ascii_host = host.encode("idna").decode() if not host.isascii() else host
    except UnicodeError:
        return False
    return bool(_HOST.fullmatch(ascii_host)) and ".." not in ascii_host


def _meant(text: str) -> str | None:
    """The URL that a text without a scheme, or with a misspelled one, was probably meant to be."""
    if found := re.fullmatch(r"(h?t?tp?s?):?//([^\s/]+\.\S*)", text):
        return redact_urls(f"http{'s' if 's' in found[1] else ''}://{found[2]}")
    if re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+(:[0-9]+)?(/[^\s@?]*)?", text):
        return f"https://{text}"
    if re.fullmatch(r"localhost(:[0-9]+)?(/[^\s@?]*)?", text):
        return f"http://{text}"
    return None


def _split(text: str) -> SplitResult | None:
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises for a port that is none
    except ValueError:
        return None
    return parts


def _authority(parts: SplitResult) -> str:
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if parts.port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f"{host}:{parts.port}"
