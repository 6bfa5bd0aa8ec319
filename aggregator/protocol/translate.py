"""Requests and results between revisions: which fields we own, which we make, which we take away.

Everything that is not named here travels as it came. Pure; who asked and who
answered are arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .jsonrpc import INTERNAL_ERROR, Call, Failure, Json, Success, dump, failure
from .revisions import (
    CLIENT_CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    ENVELOPE_KEYS,
    LOG_LEVEL_KEY,
    NOT_FOUND_BEFORE,
    PROTOCOL_VERSION_KEY,
    SERVER_INFO_KEY,
    STATELESS,
    STATELESS_RESULT_FIELDS,
    is_stateless,
    not_found_code,
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
    params: Json,
    revision: str,
    envelope: Envelope,
    *,
    token: str | None,
    client: Mapping[str, Any],
    askable: Json | None = None,
) -> Json:
    """`params` as an upstream of `revision` wants them: our envelope, our progress token, the rest as it came.

    `client` is our own identity. Capabilities are passed on as they came between stateless peers; of a client with
    handshakes, `askable` is what it can be asked.
    """
    meta = params.get("_meta")
    kept = {key: value for key, value in meta.items() if key not in OUR_OWN} if isinstance(meta, dict) else {}
    if is_stateless(revision):
        kept[PROTOCOL_VERSION_KEY] = STATELESS
        kept[CLIENT_CAPABILITIES_KEY] = envelope.capabilities if is_stateless(envelope.revision) else askable or {}
        kept[CLIENT_INFO_KEY] = dict(client)
        # A handshake client that set no level leaves the choice to its server; a stateless server would send nothing.
        level = envelope.log_level or (None if is_stateless(envelope.revision) else DEFAULT_LOG_LEVEL)
        if level is not None:
            kept[LOG_LEVEL_KEY] = level
    if token is not None:
        kept["progressToken"] = token
    rest = {key: value for key, value in params.items() if key != "_meta"}
    return {**rest, "_meta": kept} if kept else rest


def result_for_client(
    result: Json, upstream_revision: str, client_revision: str, method: str = "tools/call"
) -> Json | None:
    """A result of `method` as a client of `client_revision` can read it, or None if there is no such form: an
    older client would take a question (``input_required``) or a task for an empty success."""
    if is_stateless(client_revision):
        if not is_stateless(upstream_revision) or "resultType" not in result:
            # From an older upstream a field of that name means nothing, and must not pass for one that does.
            result = {**result, "resultType": "complete"}
        if method == "resources/read" and result["resultType"] == "complete":
            # 2026-07-28, caching: both are required. It was read with this person's rights; 0 is "do not keep it".
            ttl = result.get("ttlMs") if is_stateless(upstream_revision) else None
            good = isinstance(ttl, int) and not isinstance(ttl, bool) and ttl >= 0
            result = {**result, "ttlMs": ttl if good else 0, "cacheScope": "private"}
        return result
    if not is_stateless(upstream_revision):
        return result
    if result.get("resultType", "complete") != "complete":
        return None
    shown = {key: value for key, value in result.items() if key not in STATELESS_RESULT_FIELDS}
    if isinstance(meta := shown.get("_meta"), dict) and SERVER_INFO_KEY in meta:
        shown["_meta"] = {key: value for key, value in meta.items() if key != SERVER_INFO_KEY}
        if not shown["_meta"]:
            del shown["_meta"]
    if method != "tools/call":
        return shown
    shown.setdefault("content", [])
    # 2025-11-25: structuredContent is an object; another value would fail the client's parser.
    if "structuredContent" in shown and not isinstance(shown["structuredContent"], dict):
        value = shown.pop("structuredContent")
        if not shown["content"]:
            shown["content"] = [{"type": "text", "text": dump(value).decode()}]
    return shown


def error_for_client(error: Json, method: str, upstream_revision: str, client_revision: str, subject: str = "") -> Json:
    """An upstream's error as the client's revision writes it, every field kept but the code and the URI of a resource
    that was not found. `subject` is that URI as the client knows it."""
    if method != "resources/read" or not _is_not_found(error, upstream_revision):
        return error
    return {**error, "code": not_found_code(client_revision), "data": {**_object(error.get("data")), "uri": subject}}


def _is_not_found(error: Json, revision: str) -> bool:
    """2026-07-28 has one code for every bad parameter; of a missing resource it says the URI (SEP-2164)."""
    code = error.get("code")
    if code == NOT_FOUND_BEFORE:
        return True
    return is_stateless(revision) and code == not_found_code(revision) and "uri" in _object(error.get("data"))


def signed(result: Json, server: Mapping[str, Any]) -> Json:
    """A stateless result with our identity: an upstream's own would name somebody whom the client never asked."""
    meta = result.get("_meta")
    return {**result, "_meta": {**(meta if isinstance(meta, dict) else {}), SERVER_INFO_KEY: dict(server)}}


def tool_error(text: str, revision: str) -> Json:
    """A failed call in the form that a model can read and act on."""
    result: Json = {"content": [{"type": "text", "text": text}], "isError": True}
    return {"resultType": "complete", **result} if is_stateless(revision) else result


def failed(call: Call, text: str, revision: str) -> Success | Failure:
    """The answer to a call that could not be relayed: of a tool a result, which a model reads; else an error."""
    if call.method == "tools/call":
        return Success(call.id, tool_error(text, revision))
    return failure(call.id, INTERNAL_ERROR, text)


def text_result(text: str, revision: str) -> Json:
    result: Json = {"content": [{"type": "text", "text": text}], "isError": False}
    return {"resultType": "complete", **result} if is_stateless(revision) else result


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}
