"""Characters that a reader does not see, in what an upstream says of itself: taken away, or told.

A person who reads a tool's description and the model that reads it must read
the same. What is for reading (titles, descriptions) is rewritten without such
characters; what belongs to a call (values of an enum, names of parameters) is
left as it is, since the upstream would not know it otherwise, and told instead.
Pure text; this file does not know catalogs. The names of tools are `names`' own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, TypeGuard

from .jsonrpc import Json

MAX_DESCRIPTION = 16 * 1024  # characters; the longest that real servers send is near 10,000
MAX_TITLE = 256

# C0 but for tab and line feed, C1; soft hyphen, joiners and other fillers; zero width; directions (CVE-2021-42574,
# "Trojan Source"); line separators; invisible operators; variation selectors; interlinear marks; tags (U+E0000-E007F,
# in which whole sentences can be hidden from people and not from models).
HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)

# In JSON that `jsonrpc.dump` wrote: every escape but those of a quote, a backslash, a tab and a line feed.
_PERHAPS_HIDDEN = re.compile(rb'\\[^"\\nt]')

_BREAKS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")

_FOR_READING = frozenset({"title", "description", "$comment"})
_LITERAL = frozenset({"enum", "const", "default", "examples"})
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})


def clean_text(text: str, limit: int = MAX_DESCRIPTION) -> str:
    """`text` without hidden characters, its lines kept; beyond `limit` characters it ends and says so."""
    if not (text.isascii() and text.replace("\n", "").isprintable()):
        text = HIDDEN.sub("", _BREAKS.sub("\n", text))
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… [shortened: {limit} of {len(text)} characters]"


def clean_line(text: str, limit: int = MAX_TITLE) -> str:
    """`text` as one line without hidden characters, of at most `limit` characters."""
    if not (text.isascii() and text.isprintable()):
        text = " ".join(HIDDEN.sub("", _BREAKS.sub("\n", text)).split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def may_hide_something(written: bytes) -> bool:
    """Whether `hides_something` has to be asked of what `jsonrpc.dump` wrote so; nearly always not."""
    return not written.isascii() or b"\x7f" in written or _PERHAPS_HIDDEN.search(written) is not None


def hides_something(value: Json) -> bool:
    """Whether any text in this JSON object, keys too, holds a hidden character."""
    texts: list[str] = []
    nodes: list[Any] = [value]
    for node in nodes:  # grows while it is read
        if isinstance(node, dict):
            texts += node
            node = node.values()
        for item in node:
            kind = type(item)
            if kind is str:
                texts.append(item)
            elif kind is dict or kind is list:
                nodes.append(item)
    whole = "".join(texts)
    return not (whole.isascii() and whole.isprintable()) and HIDDEN.search(whole) is not None


def readable_schema(schema: Any) -> Any:
    """A JSON Schema whose titles and descriptions are clean, wherever they stand; what it accepts is the same."""
    if isinstance(schema, list):
        return [readable_schema(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made: Json = {}
    for key, value in schema.items():
        if key in _LITERAL:
            made[key] = value
        elif key in _NAMED and isinstance(value, dict):
            made[key] = {name: readable_schema(inner) for name, inner in value.items()}
        elif key in _FOR_READING and isinstance(value, str):
            made[key] = clean_text(value)
        else:
            made[key] = readable_schema(value)
    return made


def hidden_in_schema(schema: Any) -> Iterator[str]:
    """What of a JSON Schema belongs to a call and holds hidden characters, one sentence each."""
    stack: list[tuple[str, Any]] = [("", schema)]
    while stack:
        path, node = stack.pop()
        if isinstance(node, list):
            stack.extend((path, item) for item in node)
        if not isinstance(node, dict):
            continue
        for key, value in node.items():
            if key in _LITERAL:
                where = f"'{key}'" + (f" of '{path}'" if path else "")
                yield from (f"{found} in {where}" for found in _code_points(value))
            elif key in _NAMED and isinstance(value, dict):
                for name, inner in value.items():
                    shown = clean_line(name, 60)
                    yield from (f"{found} in the name '{shown}'" for found in _code_points(name))
                    stack.append((f"{path}.{shown}" if path else shown, inner))
            else:
                stack.append((path, value))


def _code_points(value: Any) -> Iterator[str]:
    """The hidden characters of a JSON value by number, at most one text for all of them."""
    found: dict[str, None] = {}
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, str):
            found.update((f"U+{ord(char):04X}", None) for char in HIDDEN.findall(node))
        elif isinstance(node, dict):
            stack.extend((*node, *node.values()))
        elif isinstance(node, list):
            stack.extend(node)
    if found:
        yield ", ".join(list(found)[:5])


def is_name(name: Any) -> TypeGuard[str]:
    """Text that can be sent back to its upstream: half of a surrogate pair cannot."""
    if not isinstance(name, str) or not name:
        return False
    return name.isascii() or not any("\ud800" <= c <= "\udfff" for c in name)


def text_or_empty(value: Any) -> str:
    return value if isinstance(value, str) else ""
