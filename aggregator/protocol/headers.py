"""The headers by which 2026-07-28 repeats a request's body, checked against it and made for upstreams.

"Servers that process the request body MUST reject requests where the values
specified in the headers do not match the values in the request body" (basic/transports/streamable-http).
This file knows header texts and JSON Schema positions; it reads no socket.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any

from . import jsonrpc
from .jsonrpc import Json
from .revisions import CLIENT_CAPABILITIES_KEY, FOR_CLIENTS, PROTOCOL_VERSION_KEY, STATELESS
from .tasks import METHODS as TASK_METHODS

VERSION_HEADER = "mcp-protocol-version"
METHOD_HEADER = "mcp-method"
NAME_HEADER = "mcp-name"
PARAMETER_PREFIX = "mcp-param-"

# Which parameter `Mcp-Name` repeats.
NAMED_BY = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    **dict.fromkeys(sorted(TASK_METHODS), "taskId"),  # SEP-2663, routing headers
}

_SENTINEL = re.compile(r"=\?base64\?(.*)\?=", re.ASCII)
_PLAIN = re.compile(r"[\x20-\x7e]*")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_DECIMAL = re.compile(r"-?[0-9]+(\.0+)?", re.ASCII)
_HEADER_TYPES = frozenset({"string", "integer", "boolean"})

# JSON Schema 2020-12 keywords that hold schemas, by the shape of their value. Data keywords (`default`, `const`,
# `enum`, `examples`) and `$ref` are absent: data is no annotation, and nothing is ever dereferenced (SEP-2106).
_ONE = frozenset(
    "items contains unevaluatedItems additionalProperties propertyNames unevaluatedProperties "
    "not if then else contentSchema".split()
)
_MANY = frozenset("allOf anyOf oneOf prefixItems".split())
_NAMED = frozenset("patternProperties dependentSchemas $defs definitions".split())
_WITH_SCHEMAS = _ONE | _MANY | _NAMED | {"properties"}


Annotated = tuple[tuple[tuple[str, ...], str, str], ...]


class BadAnnotation(ValueError):
    """A tool that a client must not be shown, and why."""


class Mismatch(ValueError):
    """A stateless request that contradicts itself or lacks what the revision demands; `code` goes on the wire."""

    def __init__(self, code: int, reason: str, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.data = data


def check_envelope(method: str, params: Json, headers: Mapping[str, str]) -> None:
    """Whether a request that claims to be of 2026-07-28 is whole and agrees with its headers.

    Raises:
        Mismatch: -32602 for a missing `_meta` key, -32020 for a header that differs, -32022 for another revision.
    """
    meta = params.get("_meta")
    if not isinstance(meta, dict):
        raise Mismatch(jsonrpc.INVALID_PARAMS, f"params._meta must be an object with '{PROTOCOL_VERSION_KEY}'")
    for key in (PROTOCOL_VERSION_KEY, CLIENT_CAPABILITIES_KEY):
        if key not in meta:
            raise Mismatch(jsonrpc.INVALID_PARAMS, f"params._meta lacks '{key}'")
    revision = meta[PROTOCOL_VERSION_KEY]
    if headers.get(VERSION_HEADER) != revision:
        raise Mismatch(jsonrpc.HEADER_MISMATCH, "MCP-Protocol-Version differs from the revision in params._meta")
    if headers.get(METHOD_HEADER) != method:
        raise Mismatch(jsonrpc.HEADER_MISMATCH, "Mcp-Method differs from the request's method")
    if (named_by := NAMED_BY.get(method)) is not None:
        name = params.get(named_by)
        if name is not None and decode_value(headers.get(NAME_HEADER)) != name:
            raise Mismatch(jsonrpc.HEADER_MISMATCH, f"Mcp-Name differs from params.{named_by}")
    if revision != STATELESS:
        raise unsupported(str(revision))
    if not isinstance(meta[CLIENT_CAPABILITIES_KEY], dict):
        raise Mismatch(jsonrpc.INVALID_PARAMS, f"params._meta['{CLIENT_CAPABILITIES_KEY}'] must be an object")


def unsupported(revision: str) -> Mismatch:
    data = {"supported": list(FOR_CLIENTS), "requested": revision}
    return Mismatch(jsonrpc.UNSUPPORTED_VERSION, "Unsupported protocol version", data)


def encode_value(text: str) -> str:
    """`text` as a header value: verbatim if it survives, else in the revision's base64 sentinel."""
    if _PLAIN.fullmatch(text) and text == text.strip() and not _SENTINEL.fullmatch(text):
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def decode_value(text: str | None) -> str | None:
    """Inverse of `encode_value`; None for a sentinel that is not canonical: it must match nothing."""
    if text is None or (match := _SENTINEL.fullmatch(text)) is None:
        return text
    try:
        decoded = base64.b64decode(match[1], validate=True)
        if base64.b64encode(decoded).decode() != match[1]:
            return None
        return decoded.decode()
    except ValueError:  # binascii.Error and UnicodeDecodeError are of this kind, and what is not ASCII raises it bare
        return None


ANNOTATION = "x-mcp-header"


def read_annotations(schema: Any) -> Annotated:
    """(path, header suffix, type) of each parameter that `schema` wants repeated in a header.

    Raises:
        BadAnnotation: why the tool must be dropped ("clients MUST exclude tools with invalid `x-mcp-header`
            annotations").
    """
    found: list[tuple[tuple[str, ...], str, str]] = []
    seen: set[str] = set()
    for path, node in _schemas(schema):
        if ANNOTATION not in node:
            continue
        header = node[ANNOTATION]
        if not path:
            raise BadAnnotation("x-mcp-header stands outside a chain of 'properties'")
        if not isinstance(header, str) or not _TOKEN.fullmatch(header):
            raise BadAnnotation(f"x-mcp-header of '{'.'.join(path)}' is not a header token")
        kind = node.get("type")
        if not isinstance(kind, str) or kind not in _HEADER_TYPES:
            raise BadAnnotation(f"x-mcp-header of '{'.'.join(path)}' needs a string, integer or boolean")
        if header.lower() in seen:
            raise BadAnnotation(f"x-mcp-header '{header}' stands twice")
        seen.add(header.lower())
        found.append((path, header, kind))
    return tuple(found)


def parameter_headers(annotated: Annotated, arguments: Json) -> list[tuple[str, str]]:
    """The `Mcp-Param-*` headers for a call; absent and null arguments have none."""
    made = []
    for path, suffix, _ in annotated:
        if (text := _header_text(_at(arguments, path))) is not None:
            made.append((PARAMETER_PREFIX + suffix.lower(), encode_value(text)))
    return made


def foreign_parameters(annotated: Annotated, headers: Mapping[str, str]) -> list[tuple[str, str]]:
    """The client's `Mcp-Param-*` headers that stand for no parameter we know of. An intermediary must forward them
    (2026-07-28, streamable HTTP): the upstream may have a newer schema than we."""
    foreign = [(name, value) for name, value in headers.items() if name.startswith(PARAMETER_PREFIX)]
    if foreign and annotated:
        known = {PARAMETER_PREFIX + suffix.lower() for _, suffix, _ in annotated}
        foreign = [(name, value) for name, value in foreign if name not in known]
    return foreign


def check_parameters(annotated: Annotated, arguments: Json, headers: Mapping[str, str]) -> None:
    """Whether the client's `Mcp-Param-*` headers say what its arguments say; integers compare as numbers.

    Raises:
        Mismatch: -32020 naming the header.
    """
    for path, suffix, kind in annotated:
        name = PARAMETER_PREFIX + suffix.lower()
        value, given = _at(arguments, path), decode_value(headers.get(name))
        if (name in headers) != (value is not None):
            raise Mismatch(jsonrpc.HEADER_MISMATCH, f"{name} and the argument '{'.'.join(path)}' must come together")
        if given is None and value is None:
            continue
        same = given == _header_text(value)
        if not same and kind == "integer" and given is not None and _DECIMAL.fullmatch(given) and len(given) < 64:
            same = (
                not isinstance(value, bool) and isinstance(value, int | float) and int(given.partition(".")[0]) == value
            )
        if not same:
            raise Mismatch(jsonrpc.HEADER_MISMATCH, f"{name} differs from the argument '{'.'.join(path)}'")


def _header_text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    return None


def _at(arguments: Json, path: tuple[str, ...]) -> Any:
    node: Any = arguments
    for key in path:
        if not isinstance(node, dict):
            return None
        node = node.get(key)
    return node


def _schemas(root: Any) -> Iterator[tuple[tuple[str, ...] | None, Json]]:
    """Each schema position below `root` with its path of `properties` keys; the path is None once another keyword
    was crossed and () at the root. An explicit stack, so that depth costs memory only."""
    stack: list[tuple[tuple[str, ...] | None, Any]] = [((), root)]
    while stack:
        path, node = stack.pop()
        if not isinstance(node, dict):
            continue
        yield path, node
        for key, value in node.items():
            if key not in _WITH_SCHEMAS:
                continue
            if key == "properties" and isinstance(value, dict):
                stack.extend((None if path is None else (*path, name), sub) for name, sub in value.items())
            elif key in _ONE:
                stack.append((None, value))
            elif key in _MANY and isinstance(value, list):
                stack.extend((None, sub) for sub in value)
            elif key in _NAMED and isinstance(value, dict):
                stack.extend((None, sub) for sub in value.values())
