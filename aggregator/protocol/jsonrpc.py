"""JSON-RPC 2.0 messages, read strictly and written safely.

What a policy inspected and what an upstream receives must be the same text, so
a message that two parsers could read differently is refused: repeated keys,
keys of the envelope that differ only in case, NaN and infinities, lone
surrogates. This file does not know what any method means.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
HEADER_MISMATCH = -32020  # 2026-07-28
MISSING_CAPABILITY = -32021  # 2026-07-28
UNSUPPORTED_VERSION = -32022  # 2026-07-28

# Levels of arrays and objects. Python's own limit lies near 1000 and moves with the stack: what was read here must be
# writable, comparable and readable everywhere else too. pydantic, behind many servers, stops near 200.
MAX_DEPTH = 128
MAX_BATCH = 50  # messages; each may be a call of its own

# Texts, commas, arrays and objects of one message: about twice its values. Reading so many takes a quarter of a second,
# in which nobody else is served; 16 MiB of "[]," took three and 400 MB. A table of 10,000 rows and 25 columns fits.
MAX_TOKENS = 500_000
_TOKEN = re.compile(rb'"[^"]*"?|[,\[{]')  # once no text holds an escaped quote

Id = str | int
Json = dict[str, Any]

_ENVELOPE = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_PARAMS = frozenset({"name", "uri", "arguments", "_meta", "cursor"})


class Unreadable(ValueError):
    """The bytes are no JSON-RPC message that we are willing to act on. `code` is the JSON-RPC error code to answer."""

    def __init__(self, code: int, reason: str, id: Id | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.id = id


@dataclass(frozen=True, slots=True)
class Call:
    """A request: it wants an answer with the same `id`."""

    id: Id
    method: str
    params: Json


@dataclass(frozen=True, slots=True)
class Notice:
    """A notification: it wants none."""

    method: str
    params: Json


@dataclass(frozen=True, slots=True)
class Success:
    id: Id
    result: Json


@dataclass(frozen=True, slots=True)
class Failure:
    """An error answer. `error` keeps every field as it came; `id` is None when the other side could not read ours."""

    id: Id | None
    error: Json

    @property
    def code(self) -> int:
        code: int = self.error["code"]
        return code

    @property
    def message(self) -> str:
        message: str = self.error["message"]
        return message


Message = Call | Notice | Success | Failure
Batch = tuple[Message | Unreadable, ...]


def parse_strict(body: bytes) -> Message | Batch:
    """What a client sent: one message, or, as an array, several.

    Raises:
        Unreadable: for anything that is not unambiguous JSON-RPC; of a batch, its single parts say so themselves.
    """
    value = _load_strict(body)
    if not isinstance(value, list):
        return _parse_part(value)
    if not 0 < len(value) <= MAX_BATCH:
        raise Unreadable(INVALID_REQUEST, f"a batch holds 1 to {MAX_BATCH} messages, not {len(value)}")
    return tuple(_tried(part) for part in value)


def parse_loose(body: bytes) -> tuple[Message, ...]:
    """What an upstream sent: one message, or an array of them (2025-03-26).

    What it writes is re-written by us, so repeated keys can deceive nobody behind us.

    Raises:
        Unreadable: if any of it is not JSON-RPC.
    """
    try:
        _refuse_too_many(body)
        value = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
        _refuse_depth(body, value)
    except (ValueError, RecursionError) as exc:
        raise Unreadable(PARSE_ERROR, f"not JSON: {_reason(exc)}") from exc
    parts = value if isinstance(value, list) else [value]
    if not parts or not all(isinstance(part, dict) for part in parts):
        raise Unreadable(INVALID_REQUEST, "not a JSON-RPC object")
    return tuple(parse_message(part) for part in parts)


def _tried(part: Any) -> Message | Unreadable:
    try:
        return _parse_part(part)
    except Unreadable as exc:
        return exc


def _parse_part(value: Any) -> Message:
    if not isinstance(value, dict):
        raise Unreadable(INVALID_REQUEST, "a message must be a JSON object")
    _refuse_case_variants(value, _ENVELOPE)
    if isinstance(params := value.get("params"), dict):
        _refuse_case_variants(params, _PARAMS)
    return parse_message(value)


def parse_message(value: Json) -> Message:
    """A decoded object as a message; unknown fields of the envelope are ignored, those inside are kept."""
    id = value.get("id")
    if isinstance(id, bool) or not isinstance(id, str | int | None):
        raise Unreadable(INVALID_REQUEST, "'id' must be a string or an integer")
    if value.get("jsonrpc") != "2.0":
        raise Unreadable(INVALID_REQUEST, "'jsonrpc' must be \"2.0\"", id)
    if "method" in value:
        method, params = value["method"], value.get("params", {})
        if not isinstance(method, str):
            raise Unreadable(INVALID_REQUEST, "'method' must be a string", id)
        if not isinstance(params, dict):
            raise Unreadable(INVALID_PARAMS, "'params' must be an object", id)
        if "id" not in value:
            return Notice(method, params)
        if id is None:
            raise Unreadable(INVALID_REQUEST, "'id' must not be null")
        return Call(id, method, params)
    if "error" in value:
        error = value["error"]
        if not isinstance(error, dict):
            raise Unreadable(INVALID_REQUEST, "'error' must be an object", id)
        code = error.get("code")
        if isinstance(code, bool) or not isinstance(code, int) or not isinstance(error.get("message"), str):
            raise Unreadable(INVALID_REQUEST, "'error' must hold an integer 'code' and a text 'message'", id)
        return Failure(id, error)
    if "result" in value and id is not None:
        result = value["result"]
        if not isinstance(result, dict):
            raise Unreadable(INVALID_REQUEST, "'result' must be an object", id)
        return Success(id, result)
    raise Unreadable(INVALID_REQUEST, "neither a request, a notification nor an answer", id)


def render(message: Message) -> bytes:
    """A message as JSON on one line, ready for a body or an SSE ``data`` field.

    Raises:
        Unreadable: if a value in it cannot be written as JSON (an infinity that came as ``1e999``, too deep a nesting).
    """
    body: Json = {"jsonrpc": "2.0"}
    match message:
        case Call(id, method, params):
            body |= {"id": id, "method": method, "params": params}
        case Notice(method, params):
            body |= {"method": method, "params": params}
        case Success(id, result):
            body |= {"id": id, "result": result}
        case Failure(id, error):
            body |= {"id": id, "error": error}
    return dump(body)


def dump(value: Any) -> bytes:
    """Compact JSON in UTF-8; text that has no UTF-8 form (a lone surrogate) stays escaped, as it came.

    Raises:
        Unreadable: see `render`.
    """
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError) as exc:
        raise Unreadable(INTERNAL_ERROR, f"cannot be written as JSON: {_reason(exc)}") from exc


def failure(id: Id | None, code: int, message: str, data: Mapping[str, Any] | None = None) -> Failure:
    return Failure(id, {"code": code, "message": message, **({} if data is None else {"data": dict(data)})})


def _load_strict(body: bytes) -> Any:
    try:
        _refuse_too_many(body)
        # utf-8, not json's guess: JSON text exchanged between systems MUST be UTF-8 without a BOM (RFC 8259 8.1).
        value = json.loads(
            body.decode(),
            object_pairs_hook=_unique,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        _refuse_depth(body, value)
    except (ValueError, RecursionError) as exc:
        raise Unreadable(PARSE_ERROR, f"the body is not JSON: {_reason(exc)}") from exc
    if b"\\ud" in body or b"\\uD" in body:
        _refuse_lone_surrogates(value)
    return value


def _refuse_too_many(body: bytes) -> None:
    """Before anything is made of them. Commas and brackets within a text, however long, are one token."""
    if sum(map(body.count, (b",", b"[", b"{", b'"'))) <= MAX_TOKENS:
        return  # the usual case, told by a look at the bytes
    body = body.replace(rb"\\", b"").replace(rb"\"", b"")
    if next(islice(_TOKEN.finditer(body), MAX_TOKENS, None), None) is not None:
        raise ValueError(f"more than {MAX_TOKENS} texts, commas and brackets")


def _refuse_depth(body: bytes, value: Any) -> None:
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return  # the usual case, told without a walk
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise ValueError("nested too deeply")


def _refuse_lone_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError) as exc:
        raise Unreadable(PARSE_ERROR, "the body holds half of a surrogate pair, which is no text") from exc


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object names a key twice")
    return found


def _refuse_case_variants(value: Json, known: frozenset[str]) -> None:
    """``{"name": ..., "Name": ...}``: a reader that folds case would act on the other one (GHSA-4gph-2hhr-5mwg)."""
    for key in value:
        if key not in known and key.casefold() in known:
            raise Unreadable(INVALID_REQUEST, f"the key '{key[:40]}' differs from a known one only in case")


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def _reason(exc: BaseException) -> str:
    return "nested too deeply" if isinstance(exc, RecursionError) else str(exc)[:120]
