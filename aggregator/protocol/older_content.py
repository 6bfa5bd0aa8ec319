"""Content blocks that a client's revision does not know yet, in words that it can show.

A typed client of such a revision fails the whole result for one block of an
unknown kind. An upstream that had spoken the client's revision would not have sent
it; as we spoke a newer one for the client, the older form is ours to make. Kinds
that no revision names are passed on as they came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .jsonrpc import Json

# In which revision a kind of content first was.
_SINCE: Mapping[str, str] = {"audio": "2025-03-26", "resource_link": "2025-06-18"}
_NEWEST = max(_SINCE.values())  # revisions are dates, so that their order is that of texts


def for_older_client(method: str, result: Json, revision: str) -> Json:
    """The result of ``tools/call`` or ``prompts/get`` for a client of `revision`; the same object if it can read it."""
    if revision >= _NEWEST:
        return result
    if method == "tools/call" and isinstance(content := result.get("content"), list):
        return _changed(result, "content", [_shown(block, revision) for block in content])
    if method == "prompts/get" and isinstance(messages := result.get("messages"), list):
        return _changed(result, "messages", [_message(message, revision) for message in messages])
    return result


def _message(message: Any, revision: str) -> Any:
    if not isinstance(message, dict) or (shown := _shown(message.get("content"), revision)) is message.get("content"):
        return message
    return {**message, "content": shown}


def _shown(block: Any, revision: str) -> Any:
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(kind, str) or revision >= _SINCE.get(kind, ""):
        return block
    if kind == "audio":
        return {"type": "text", "text": f"[audio, {block.get('mimeType')}: this client's revision of MCP has none]"}
    said = [str(block[key]) for key in ("title", "name", "description") if isinstance(block.get(key), str)]
    return {"type": "text", "text": f"[resource {block.get('uri')}: {', '.join(dict.fromkeys(said))}]"}


def _changed(result: Json, key: str, items: list[Any]) -> Json:
    same = all(new is old for new, old in zip(items, result[key], strict=True))
    return result if same else {**result, key: items}
