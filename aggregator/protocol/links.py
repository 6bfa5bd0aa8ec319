"""The URIs of resources wherever they stand in what an upstream says, shown as `uris` publishes them.

A client uses the URIs that it was shown in arguments, too: where one is a whole
text there, its upstream gets its own. Results keep every field that is not named here, and what needs no other URI is
given back as the same object. URIs inside texts are the upstream's prose; nobody
can rewrite those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .jsonrpc import Json

Publish = Callable[[str], str]

# MCP Apps: where a tool, or its result, names the page that shows it; before 2026-01 in one flat key, and the key that
# the first of its clients had.
_NESTED, _NESTED_KEY = "ui", "resourceUri"
_FLAT = ("ui/resourceUri", "openai/outputTemplate")


def ui_uris(item: Json) -> list[str]:
    """The pages that a tool names, for a list of what can be read: many servers list them nowhere else."""
    if not isinstance(meta := item.get("_meta"), dict):
        return []
    nested = meta.get(_NESTED)
    found = [meta.get(key) for key in _FLAT]
    if isinstance(nested, dict):
        found.append(nested.get(_NESTED_KEY))
    return [uri for uri in found if isinstance(uri, str)]


def with_published_ui(item: Json, publish: Publish) -> Json:
    """A tool, or a result, whose `_meta` names its page by the published URI."""
    meta = item.get("_meta")
    if not isinstance(meta, dict):
        return item
    made = meta
    for key in _FLAT:
        made = _with(made, key, publish)
    nested = made.get(_NESTED)
    if isinstance(nested, dict) and (inner := _with(nested, _NESTED_KEY, publish)) is not nested:
        made = {**made, _NESTED: inner}
    return item if made is meta else {**item, "_meta": made}


def with_published_links(method: str, result: Json, publish: Publish) -> Json:
    """The result of `method`, with the published URI of every resource that it contains, embeds or links to."""
    match method:
        case "tools/call":
            return with_published_ui(_each(result, "content", lambda block: _block(block, publish)), publish)
        case "prompts/get":
            return _each(result, "messages", lambda message: _message(message, publish))
        case "resources/read":
            return _each(result, "contents", lambda content: _with(content, "uri", publish))
        case "tasks/get" if isinstance(inner := result.get("result"), dict):  # what the tool would have answered
            shown = with_published_links("tools/call", inner, publish)
            return result if shown is inner else {**result, "result": shown}
        case _:
            return result


def with_own_uris(arguments: Json, own: Publish) -> Json:
    """The arguments of a tool or a prompt, with the upstream's own URI for each that is shown otherwise: `own` is the
    inverse of publishing, for one upstream. The same object if there is none."""
    made: Json = _own(arguments, own)
    return made


def _own(value: Any, own: Publish) -> Any:
    if isinstance(value, str):
        return own(value)
    if isinstance(value, dict):
        fields = {key: _own(inner, own) for key, inner in value.items()}
        return value if all(fields[key] is inner for key, inner in value.items()) else fields
    if isinstance(value, list):
        items = [_own(inner, own) for inner in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else items
    return value


def with_published_notice(params: Json, publish: Publish) -> Json:
    """The parameters of ``notifications/resources/updated``."""
    return _with(params, "uri", publish)


def _message(message: Json, publish: Publish) -> Json:
    content = message.get("content")
    if isinstance(content, list):
        return _each(message, "content", lambda block: _block(block, publish))
    if isinstance(content, dict) and (shown := _block(content, publish)) is not content:
        return {**message, "content": shown}
    return message


def _block(block: Json, publish: Publish) -> Json:
    """A content block: a link to a resource, or a resource embedded."""
    kind = block.get("type")
    if kind == "resource_link":
        return _with(block, "uri", publish)
    if kind == "resource" and isinstance(resource := block.get("resource"), dict):
        shown = _with(resource, "uri", publish)
        return block if shown is resource else {**block, "resource": shown}
    return block


def _each(holder: Json, key: str, change: Callable[[Json], Json]) -> Json:
    items = holder.get(key)
    if not isinstance(items, list):
        return holder
    changed: list[Any] = [change(item) if isinstance(item, dict) else item for item in items]
    if all(new is old for new, old in zip(changed, items, strict=True)):
        return holder
    return {**holder, key: changed}


def _with(holder: Json, key: str, publish: Publish) -> Json:
    uri = holder.get(key)
    if not isinstance(uri, str) or (shown := publish(uri)) == uri:
        return holder
    return {**holder, key: shown}
