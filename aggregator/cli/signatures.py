"""Tools, prompts and resources as one line that a person reads: ``add(a: int, b: int = 2)``.

Pure: what a server lists in, text out. Nothing in it is believed: a name, a
type or a default that makes no sense is shown as well as it can be, and never
holds a control character.
"""

from __future__ import annotations

import json
from typing import Any

from ..protocol.jsonrpc import Json
from ..protocol.texts import clean_line

MAX_SIGNATURE = 400  # characters; some servers have tools of fifty parameters
MAX_DEFAULT = 30
MAX_CHOICES = 5
MAX_DEPTH = 4  # of types within types

_TYPES = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "object": "dict",
    "array": "list",
    "null": "None",
}


def tool_signature(name: str, schema: Any) -> str:
    """The tool `name` with the parameters of its input schema: those that are required first, in the schema's order."""
    schema = schema if isinstance(schema, dict) else {}
    properties = schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    required = schema.get("required")
    needed = [each for each in required if isinstance(each, str)] if isinstance(required, list) else []
    ordered = [*(each for each in properties if each in needed), *(each for each in properties if each not in needed)]
    parameters = ", ".join(_parameter(each, properties[each], needed=each in needed) for each in ordered)
    return clean_line(f"{name}({parameters})", MAX_SIGNATURE)


def prompt_signature(name: str, arguments: Any) -> str:
    """A prompt takes texts."""
    given = [each for each in arguments if isinstance(each, dict)] if isinstance(arguments, list) else []
    parameters = ", ".join(f"{each.get('name')}{': str' if each.get('required') else ': str = ...'}" for each in given)
    return clean_line(f"{name}({parameters})", MAX_SIGNATURE)


def _parameter(name: str, schema: Any, *, needed: bool) -> str:
    shown = f"{name}: {type_name(schema)}"
    if needed:
        return shown
    if isinstance(schema, dict) and "default" in schema:
        return f"{shown} = {_default(schema['default'])}"
    return f"{shown} = ..."


def type_name(schema: Any, depth: int = 0) -> str:
    """A JSON Schema as a Python type, roughly: ``list[str]``, ``'a' | 'b'``, ``Any`` where it says nothing simple."""
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        return "Any"
    if isinstance(choices := schema.get("enum"), list) and choices:
        shown = [_default(each) for each in choices[:MAX_CHOICES]]
        return " | ".join([*shown, *(["..."] if len(choices) > MAX_CHOICES else [])])
    if "const" in schema:
        return _default(schema["const"])
    for key in ("anyOf", "oneOf"):
        if isinstance(several := schema.get(key), list) and several:
            return _either([type_name(each, depth + 1) for each in several])
    match schema.get("type"):
        case list() as several:
            return _either([type_name({**schema, "type": each}, depth + 1) for each in several])
        case "array" if isinstance(schema.get("items"), dict):
            return f"list[{type_name(schema['items'], depth + 1)}]"
        case str() as kind:
            return _TYPES.get(kind, "Any")
        case _:
            return "dict" if "properties" in schema else "Any"


def _either(names: list[str]) -> str:
    different = list(dict.fromkeys(names))
    return "Any" if "Any" in different else " | ".join(different)


def _default(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value)
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_DEFAULT else "..."


def description_of(item: Json) -> str:
    """What an item says of itself, on one line; empty if nothing."""
    text = item.get("description")
    return clean_line(text, 4000) if isinstance(text, str) else ""
