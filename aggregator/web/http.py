"""Requests and responses as values, for every endpoint that answers in one piece.

The MCP endpoint streams and speaks ASGI itself; everything else takes a
`Request` and returns a `Response`. This file must not know any endpoint.
No URL is ever built from a header (`Host`, `X-Forwarded-*`): there is no way to
ask a `Request` for its own URL.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from ..errors import Refusal

MAX_FORM_FIELDS = 64  # more than twice what any OAuth request carries


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, body read. `path` is what the client sent, checked free of escapes; `query` is raw.

    `peer` is the address at the other end of the connection, a proxy's perhaps; empty on a Unix socket.
    """

    method: str
    path: str
    query: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    request_id: str
    peer: str = ""

    def header(self, name: str) -> str | None:
        """The header's value; several fields of one name count as bad input for the headers we read.

        Raises:
            Refusal: 400 when the header stands more than once.
        """
        wanted = name.lower().encode()
        values = [value for key, value in self.headers if key == wanted]
        if len(values) > 1:
            raise Refusal(400, "invalid_request", f"The header {name} stands more than once; send it once.")
        return values[0].decode("latin-1") if values else None

    def query_parameters(self) -> dict[str, str]:
        return parse_parameters(self.query)

    def form(self) -> dict[str, str]:
        """The body as ``application/x-www-form-urlencoded``.

        Raises:
            Refusal: 400 for another content type, a repeated parameter or text that is not UTF-8.
        """
        kind = (self.header("content-type") or "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            told = f"Content-Type is '{printable(kind)}'; send application/x-www-form-urlencoded."
            raise Refusal(400, "invalid_request", told)
        try:
            return parse_parameters(self.body.decode("ascii"))
        except UnicodeDecodeError:
            raise Refusal(400, "invalid_request", "The form is not percent-encoded ASCII.") from None


def parse_parameters(text: str) -> dict[str, str]:
    """OAuth's parameters (OAuth 2.1 3.1, 3.2): each at most once; an empty value counts as absent.

    Raises:
        Refusal: 400 ``invalid_request`` for a parameter that stands twice, too many of them, or bytes not UTF-8.
    """
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FORM_FIELDS)
    except ValueError:  # UnicodeDecodeError is one
        raise Refusal(400, "invalid_request", "The parameters cannot be read; send them percent-encoded.") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            raise Refusal(400, "invalid_request", f"The parameter '{printable(name)}' stands more than once.")
        found[name] = value
    return {name: value for name, value in found.items() if value}


@dataclass(frozen=True, slots=True)
class Response:
    """An answer in one piece. Header names are lower case."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    def with_headers(self, *more: tuple[str, str]) -> Response:
        return Response(self.status, self.body, (*self.headers, *more))


Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One path and the methods it knows; any other method is answered 405 with ``Allow``.

    `cors` opens the route to scripts of every origin: only for endpoints that use no cookie.
    `page` says that people look at it: a `Refusal` becomes an HTML page, else a JSON object (RFC 6749 5.2).
    `below` gives it every path below its own, too, that no other route has.
    """

    path: str
    methods: Mapping[str, Endpoint]
    cors: bool = False
    page: bool = False
    body_limit: int = field(default=64 * 1024)
    below: bool = False


def json_response(value: Any, *, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> Response:
    body = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return Response(status, body, (("content-type", "application/json"), *headers))


def no_store(response: Response) -> Response:
    return response.with_headers(("cache-control", "no-store"), ("pragma", "no-cache"))


def see_other(location: str, *headers: tuple[str, str]) -> Response:
    """303, never 307: a form's fields must not travel on (OAuth 2.1 7.5.3; RFC 9700 4.12)."""
    return Response(303, b"", (("location", location), ("cache-control", "no-store"), *headers))


def printable(text: str, limit: int = 80) -> str:
    """`text` cut to the characters OAuth allows in ``error_description`` (%x20-21 / %x23-5B / %x5D-7E)."""
    return "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in text[:limit])
