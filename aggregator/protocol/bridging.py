"""A message of stdio as the body of a POST: which headers go with it.

2026-07-28 repeats in headers what stands in the body; older revisions name the
session and what was agreed on. This file must not know pipes or connections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .headers import (
    METHOD_HEADER,
    NAME_HEADER,
    NAMED_BY,
    VERSION_HEADER,
    Annotated,
    BadAnnotation,
    encode_value,
    parameter_headers,
    read_annotations,
)
from .jsonrpc import Call, Json, Message
from .revisions import PROTOCOL_VERSION_KEY

SESSION_HEADER = "mcp-session-id"
ACCEPT = {"accept": "application/json, text/event-stream"}
JSON_BODY = {"content-type": "application/json", **ACCEPT}


@dataclass(frozen=True, slots=True)
class Session:
    """What a handshake agreed on. Without an `id` the endpoint keeps no sessions."""

    id: str | None
    revision: str

    @property
    def headers(self) -> dict[str, str]:
        named = {} if self.id is None else {SESSION_HEADER: self.id}
        return {VERSION_HEADER: encode_value(self.revision), **named}


def stateless_revision(message: Message) -> str | None:
    """The revision that a request names in itself; None if it is of a revision with a handshake."""
    meta = message.params.get("_meta") if isinstance(message, Call) else None
    revision = meta.get(PROTOCOL_VERSION_KEY) if isinstance(meta, dict) else None
    return revision if isinstance(revision, str) else None


def post_headers(message: Message, session: Session | None, tools: Mapping[str, Annotated]) -> dict[str, str]:
    """The headers of the POST that carries `message`. `tools` are those whose parameters are repeated, by name."""
    revision = stateless_revision(message)
    if revision is None or not isinstance(message, Call):
        return {**JSON_BODY, **(session.headers if session is not None else {})}
    headers = {**JSON_BODY, VERSION_HEADER: encode_value(revision), METHOD_HEADER: encode_value(message.method)}
    named_by = NAMED_BY.get(message.method)
    name = None if named_by is None else message.params.get(named_by)
    if isinstance(name, str):
        headers[NAME_HEADER] = encode_value(name)
        arguments = message.params.get("arguments")
        if message.method == "tools/call" and isinstance(arguments, dict):
            headers.update(parameter_headers(tools.get(name, ()), arguments))
    return headers


def annotated_tools(result: Json) -> dict[str, Annotated]:
    """Of one page of tools, those whose parameters are repeated in headers."""
    found: dict[str, Annotated] = {}
    tools = result.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        if isinstance(tool, dict) and isinstance(tool.get("name"), str):
            try:
                found[tool["name"]] = read_annotations(tool.get("inputSchema"))
            except BadAnnotation:
                continue
    return found
