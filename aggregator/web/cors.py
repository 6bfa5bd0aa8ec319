"""What pages of allowed origins are told about the MCP endpoint (Fetch, CORS): what they may send, what they may read.

Whether an origin is allowed is `web/gate.py`'s affair.
"""

from __future__ import annotations

import re

from .http import Response

# What a page may send: the transport's own headers, and last-event-id, by which a broken stream is taken up again.
_SCRIPT_HEADERS = (
    "authorization",
    "content-type",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "last-event-id",
)
_PARAMETER_HEADER = re.compile(r"(?<![^, ])mcp-param-[a-z0-9_.-]+(?![^, ])", re.ASCII)
MAX_PARAMETER_HEADERS = 64


def preflight(origin: str, requested: str) -> Response:
    """The answer to a browser's question whether a page of an allowed `origin` may call us (Fetch, CORS).

    `requested` is its Access-Control-Request-Headers: `Mcp-Param-*` have as many names as tools have parameters.
    """
    parameters = _PARAMETER_HEADER.findall(requested.lower())[:MAX_PARAMETER_HEADERS]
    return Response(
        204,
        b"",
        (
            *cors_headers(origin),
            ("access-control-allow-methods", "POST, GET, DELETE"),
            ("access-control-allow-headers", ", ".join((*_SCRIPT_HEADERS, *parameters))),
            ("access-control-max-age", "600"),
        ),
    )


def cors_headers(origin: str) -> tuple[tuple[str, str], ...]:
    """What lets a page of an allowed `origin` read our answers."""
    return (
        ("access-control-allow-origin", origin),
        ("access-control-expose-headers", "mcp-session-id, www-authenticate, x-request-id"),
        ("vary", "origin"),
    )
