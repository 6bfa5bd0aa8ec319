"""What upstreams list, with the fields whose kind MCP fixes being of that kind.

A typed client reads a list as a whole: for one ``"properties": []`` or
``"annotations": null`` it refuses all of it. Met directly, an upstream that lists
such a thing loses its own list by that; here everybody would lose theirs. Such a field
is therefore left out, or mended where it can only mean one thing. Fields that are
not named here stay as they came. Pure; what a field says is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from .jsonrpc import Json

_GONE: Final = object()  # what stands for a field that cannot stay

# Gives back the value itself, a mended one, or `_GONE`.
_Check = Callable[[Any], Any]

_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")


def mended_tool(tool: Json) -> Json:
    """The same object if it is as it should be. `takes_object` must be true of its input schema."""
    made = _with(tool, _TOOL)
    return made if isinstance(made.get("inputSchema"), dict) else {**made, "inputSchema": {"type": "object"}}


def mended_prompt(prompt: Json) -> Json:
    """The same object if it is as it should be."""
    return _with(prompt, _PROMPT)


def mended_resource(resource: Json) -> Json:
    """A resource, or a template of resources; the same object if it is as it should be."""
    return _with(resource, _RESOURCE)


def takes_object(schema: Any) -> bool:
    """Whether arguments, which are an object, can satisfy an input schema. None stands for one that is not there."""
    if schema is None:
        return True
    kind = schema.get("type", "object") if isinstance(schema, dict) else None
    return kind == "object" or (isinstance(kind, list) and "object" in kind)


def with_object_properties(schema: Json) -> Json:
    """A schema for revisions before 2026-07-28, where each property is described by an object: ``true`` is ``{}``. The
    same object if all are."""
    properties = schema.get("properties")
    if not isinstance(properties, dict) or not any(isinstance(value, bool) for value in properties.values()):
        return schema
    written: dict[bool, Json] = {True: {}, False: {"not": {}}}
    made = {key: written[value] if isinstance(value, bool) else value for key, value in properties.items()}
    return {**schema, "properties": made}


def mended_fields(item: Json, made: Json) -> str:
    """Which fields of `item` are others in `made`, in words; empty if none, or none that said anything."""
    keys = [f"'{key}'" for key, value in item.items() if value is not None and made.get(key, _GONE) is not value]
    return f"{', '.join(keys)} not as MCP has it; mended" if keys else ""


def _with(item: Json, checks: Mapping[str, _Check]) -> Json:
    made = item
    for key, check in checks.items():
        if key not in item or (kept := check(value := item[key])) is value:
            continue
        if made is item:
            made = dict(item)
        if kept is _GONE:
            del made[key]
        else:
            made[key] = kept
    return made


def _text(value: Any) -> Any:
    return value if isinstance(value, str) else _GONE


def _flag(value: Any) -> Any:
    return value if isinstance(value, bool) else _GONE


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else _GONE


def _share(value: Any) -> Any:
    return value if _number(value) is not _GONE and 0 <= value <= 1 else _GONE


def _moment(value: Any) -> Any:
    """ISO 8601 with a date, a time of day and an offset."""
    match = _MOMENT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return _GONE
    try:
        datetime.fromisoformat(match[1])
    except ValueError:
        return _GONE
    return value


def _object(value: Any) -> Any:
    return value if isinstance(value, dict) else _GONE


def _one_of(*known: str) -> _Check:
    return lambda value: value if isinstance(value, str) and value in known else _GONE


def _fields(checks: Mapping[str, _Check], *, needs: str | None = None) -> _Check:
    """An object; one that has not the text that it `needs` is none."""

    def check(value: Any) -> Any:
        if not isinstance(value, dict) or (needs is not None and not isinstance(value.get(needs), str)):
            return _GONE
        return _with(value, checks)

    return check


def _each(check: _Check) -> _Check:
    """A list; what in it is of the wrong kind is left out."""

    def check_all(value: Any) -> Any:
        if not isinstance(value, list):
            return _GONE
        kept = [made for item in value if (made := check(item)) is not _GONE]
        same = len(kept) == len(value) and all(new is old for new, old in zip(kept, value, strict=True))
        return value if same else kept

    return check_all


def _properties(value: Any) -> Any:
    """JSON Schema 2020-12: each is a schema, which is an object or a boolean."""
    if not isinstance(value, dict):
        return _GONE
    if all(isinstance(schema, dict | bool) for schema in value.values()):
        return value
    return {key: schema if isinstance(schema, dict | bool) else {} for key, schema in value.items()}


_SCHEMA: Mapping[str, _Check] = {"$schema": _text, "properties": _properties, "required": _each(_text)}


def _input_schema(value: Any) -> Any:
    """2026-07-28, Tool: `inputSchema` has ``"type": "object"``, which is also what it means without."""
    if not isinstance(value, dict):
        return _GONE
    made = _with(value, _SCHEMA)
    return made if made.get("type") == "object" else {**made, "type": "object"}


_ICONS = _each(
    _fields({"mimeType": _text, "sizes": _each(_text), "theme": _one_of("light", "dark")}, needs="src"),
)
_COMMON: Mapping[str, _Check] = {"icons": _ICONS, "_meta": _object}
_HINTS = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
_TOOL: Mapping[str, _Check] = {
    **_COMMON,
    "inputSchema": _input_schema,
    "outputSchema": _fields(_SCHEMA),
    "annotations": _fields({"title": _text, **dict.fromkeys(_HINTS, _flag)}),
    "execution": _fields({"taskSupport": _one_of("forbidden", "optional", "required")}),
}
_PROMPT: Mapping[str, _Check] = {
    **_COMMON,
    "description": _text,
    "arguments": _each(_fields({"title": _text, "description": _text, "required": _flag}, needs="name")),
}
_RESOURCE: Mapping[str, _Check] = {
    **_COMMON,
    "description": _text,
    "mimeType": _text,
    "size": _number,
    "annotations": _fields(
        {"audience": _each(_one_of("user", "assistant")), "priority": _share, "lastModified": _moment}
    ),
}
