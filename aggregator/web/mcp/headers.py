"""The headers of a request to the MCP endpoint: each once, media types, and which revision's rules its message follows.

What 2026-07-28 repeats of a body in headers is compared by `protocol/headers.py`.
This file reads no body and knows no person.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...errors import Refusal
from ...protocol import jsonrpc
from ...protocol.headers import METHOD_HEADER, NAME_HEADER, VERSION_HEADER, Mismatch, unsupported
from ...protocol.jsonrpc import Call, Notice
from ...protocol.revisions import FOR_CLIENTS, PROTOCOL_VERSION_KEY, STATELESS, WITHOUT_HEADER

SESSION_HEADER = "mcp-session-id"
LAST_EVENT_HEADER = "last-event-id"

_ROUTING_HEADERS = frozenset(
    {VERSION_HEADER, METHOD_HEADER, NAME_HEADER, SESSION_HEADER, LAST_EVENT_HEADER, "content-type", "accept"}
)


def read_headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by name; those that decide what a request means must not stand twice, since readers would differ."""
    headers: dict[str, str] = {}
    for key, value in raw:
        name = key.decode("latin-1").lower()
        if name in headers and (name in _ROUTING_HEADERS or name.startswith("mcp-param-")):
            raise Refusal(400, "invalid_request", f"The header {name} stands more than once; send it once.")
        headers[name] = value.decode("latin-1")
    return headers


def check_media_types(headers: Mapping[str, str]) -> None:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(415, "invalid_request", f"Content-Type is '{kind[:60]}'; send application/json.")
    accept = headers.get("accept", "*/*").lower()
    if "*/*" not in accept and not ("application/json" in accept and "text/event-stream" in accept):
        raise Refusal(
            406, "invalid_request", "Accept must name both application/json and text/event-stream; answers use either."
        )


def revision_of(message: Call | Notice, headers: Mapping[str, str]) -> str:
    """The revision whose rules the message follows. A request in the stateless form must say so in its header.

    Raises:
        Mismatch: for a revision that we do not speak, or a body that names another than the header.
    """
    named = headers.get(VERSION_HEADER)
    if named == STATELESS:
        return named
    if named not in (None, *FOR_CLIENTS) and message.method != "initialize":
        raise unsupported(str(named))
    meta = message.params.get("_meta")
    if isinstance(message, Call) and isinstance(meta, dict) and meta.get(PROTOCOL_VERSION_KEY, named) != named:
        raise Mismatch(jsonrpc.HEADER_MISMATCH, "MCP-Protocol-Version differs from the revision in params._meta")
    return named if named in FOR_CLIENTS else WITHOUT_HEADER
