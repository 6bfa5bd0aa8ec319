"""Requests and results between revisions: which fields we own, which we make, which we take away.

Everything that is not named here travels as it came. Pure; who asked and who
answered are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .jsonrpc import Json, dump
from .revisions import (
    CLIENT_CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    ENVELOPE_KEYS,
    LOG_LEVEL_KEY,
    PROTOCOL_VERSION_KEY,
    SERVER_INFO_KEY,
    STATELESS,
    STATELESS_RESULT_FIELDS,
    is_stateless,
)

DEFAULT_LOG_LEVEL = "info"
OUR_OWN = frozenset({"progressToken"}) | ENVELOPE_KEYS


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a client says about itself with one request, whatever its revision."""

    revision: str
    capabilities: Json
    progress_token: str | int | None = None
    log_level: str | None = None


def read_envelope(
    params: Json, revision: str, *, log_level: str | None = None, capabilities: Json | None = None
) -> Envelope:
    """The envelope of a request; a handshake client's `log_level` and `capabilities` are its session's."""
    meta = params.get("_meta")
    if not isinstance(meta, dict):
        return Envelope(revision, capabilities or {}, None, log_level)
    token = meta.get("progressToken")
    if isinstance(token, bool) or not isinstance(token, str | int):
        token = None
    if is_stateless(revision):
        level = meta.get(LOG_LEVEL_KEY)
        return Envelope(
            revision, meta.get(CLIENT_CAPABILITIES_KEY, {}), token, level if isinstance(level, str) else None
        )
    return Envelope(revision, capabilities or {}, token, log_level)


def params_for_upstream(
    params: Json, revision: str, envelope: Envelope, *, token: str | None, client: Mapping[str, Any]
) -> Json:
    """`params` as an upstream of `revision` wants them: our envelope, our progress token, the rest as it came.

    `client` is our own identity. Capabilities are passed on only between stateless peers, where answers to what they
    invite come with a retry of the same request.
    """
    meta = params.get("_meta")
    kept = {key: value for key, value in meta.items() if key not in OUR_OWN} if isinstance(meta, dict) else {}
    if is_stateless(revision):
        kept[PROTOCOL_VERSION_KEY] = STATELESS
        kept[CLIENT_CAPABILITIES_KEY] = envelope.capabilities if is_stateless(envelope.revision) else {}
        kept[CLIENT_INFO_KEY] = dict(client)
        # A handshake client that set no level leaves the choice to its server; a stateless server would send nothing.
        level = envelope.log_level or (None if is_stateless(envelope.revision) else DEFAULT_LOG_LEVEL)
        if level is not None:
            kept[LOG_LEVEL_KEY] = level
    if token is not None:
        kept["progressToken"] = token
    rest = {key: value for key, value in params.items() if key != "_meta"}
    return {**rest, "_meta": kept} if kept else rest


def result_for_client(result: Json, upstream_revision: str, client_revision: str) -> Json | None:
    """A ``tools/call`` result as a client of `client_revision` can read it, or None if there is no such form: an
    older client would take a question (``input_required``) or a task for an empty success."""
    if is_stateless(client_revision):
        if is_stateless(upstream_revision) and "resultType" in result:
            return result
        # From an older upstream a field of that name means nothing, and must not pass for one that does.
        return {**result, "resultType": "complete"}
    if not is_stateless(upstream_revision):
        return result
    if result.get("resultType", "complete") != "complete":
        return None
    shown = {key: value for key, value in result.items() if key not in STATELESS_RESULT_FIELDS}
    if isinstance(meta := shown.get("_meta"), dict) and SERVER_INFO_KEY in meta:
        shown["_meta"] = {key: value for key, value in meta.items() if key != SERVER_INFO_KEY}
        if not shown["_meta"]:
            del shown["_meta"]
    shown.setdefault("content", [])
    # 2025-11-25: structuredContent is an object; another value would fail the client's parser.
    if "structuredContent" in shown and not isinstance(shown["structuredContent"], dict):
        value = shown.pop("structuredContent")
        if not shown["content"]:
            shown["content"] = [{"type": "text", "text": dump(value).decode()}]
    return shown


def signed(result: Json, server: Mapping[str, Any]) -> Json:
    """A stateless result with our identity: an upstream's own would name somebody whom the client never asked."""
    meta = result.get("_meta")
    return {**result, "_meta": {**(meta if isinstance(meta, dict) else {}), SERVER_INFO_KEY: dict(server)}}


def tool_error(text: str, revision: str) -> Json:
    """A failed call in the form that a model can read and act on."""
    result: Json = {"content": [{"type": "text", "text": text}], "isError": True}
    return {"resultType": "complete", **result} if is_stateless(revision) else result


def text_result(text: str, revision: str) -> Json:
    result: Json = {"content": [{"type": "text", "text": text}], "isError": False}
    return {"resultType": "complete", **result} if is_stateless(revision) else result
