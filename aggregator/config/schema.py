"""The JSON Schema of the file, for editors. Made from `vocabulary`; owns nothing but the outer form."""

from __future__ import annotations

import json
from typing import Any

from .vocabulary import File


def render_schema() -> str:
    """The schema as text, ended by a line break: what ``mcp-aggregator schema`` prints and docs/ holds."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def json_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of a configuration file."""
    generated = _plain(File.model_json_schema(by_alias=True))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mcp-aggregator configuration",
        **generated,
        "description": "One MCP endpoint for many MCP servers. Any text may be ${NAME} or ${NAME:-default}.",
    }


def _plain(schema: Any) -> Any:
    """Without pydantic's invented titles, and without null: an absent key is absent."""
    match schema:
        case dict():
            if isinstance(schema.get("anyOf"), list):
                schema = {**schema, "anyOf": [each for each in schema["anyOf"] if each != {"type": "null"}]}
                if len(schema["anyOf"]) == 1:
                    schema = {**schema.pop("anyOf")[0], **schema}
            no_default = schema.get("default", ...) is None
            return {
                key: _plain(value)
                for key, value in schema.items()
                if not (key == "title" and isinstance(value, str)) and not (key == "default" and no_default)
            }
        case list():
            return [_plain(each) for each in schema]
    return schema
