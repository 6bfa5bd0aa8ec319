"""Fields of the wrong kind: what a typed client would refuse a whole list for."""

from __future__ import annotations

from typing import Any

import pytest

from aggregator.protocol.catalog import Catalog, build_catalog
from aggregator.protocol.drafts import for_handshake_client
from aggregator.protocol.field_kinds import mended_prompt, mended_resource, mended_tool
from aggregator.protocol.source import Source

Json = dict[str, Any]
OBJECT: Json = {"type": "object"}


def tool(**more: Any) -> Json:
    return {"name": "t", "inputSchema": OBJECT, **more}


RICH = tool(
    annotations={"title": "T", "readOnlyHint": True, "openWorldHint": False, "own": None},
    execution={"taskSupport": "optional"},
    icons=[{"src": "data:,", "mimeType": "image/png", "sizes": ["any"], "theme": "dark", "own": 1}],
    outputSchema={"type": "array"},
    inputSchema={"type": "object", "properties": {"a": {}, "b": True}, "required": ["a"], "$schema": "x", "anyOf": []},
    _meta={"own": None},
    own=None,
)


def test_what_is_as_it_should_be_is_the_same_object() -> None:
    assert mended_tool(RICH) is RICH
    prompt: Json = {"name": "p", "arguments": [{"name": "a", "title": "A", "required": True, "own": None}], "own": []}
    assert mended_prompt(prompt) is prompt
    annotations = {"audience": ["user", "assistant"], "priority": 1, "lastModified": "2025-01-12T15:00:58Z", "own": 0}
    resource: Json = {"uri": "x://y", "mimeType": "text/plain", "size": 7, "annotations": annotations, "own": None}
    assert mended_resource(resource) is resource


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"annotations": None}, {}),
        ({"annotations": []}, {}),
        ({"annotations": {"readOnlyHint": "true", "title": 1, "idempotentHint": True}}, {"idempotentHint": True}),
        ({"execution": "x"}, {}),
        ({"execution": {"taskSupport": "maybe", "own": 1}}, {"own": 1}),
        ({"icons": None}, {}),
        ({"icons": ["x", {}, {"src": 1}, {"src": "data:,", "sizes": "48x48", "theme": "blue"}]}, [{"src": "data:,"}]),
        ({"_meta": []}, {}),
        ({"outputSchema": None}, {}),
        ({"outputSchema": True}, {}),
        ({"outputSchema": {"type": "object", "properties": [], "required": None}}, {"type": "object"}),
        ({"inputSchema": None}, OBJECT),
        ({"inputSchema": {}}, OBJECT),
        ({"inputSchema": {"anyOf": [OBJECT]}}, {"anyOf": [OBJECT], "type": "object"}),
        ({"inputSchema": {"type": ["object", "null"]}}, OBJECT),
        ({"inputSchema": {"type": "object", "properties": []}}, OBJECT),
        (
            {"inputSchema": {"type": "object", "properties": {"a": None, "b": {"type": "string"}}}},
            {"type": "object", "properties": {"a": {}, "b": {"type": "string"}}},
        ),
        ({"inputSchema": {"type": "object", "required": True}}, OBJECT),
        ({"inputSchema": {"type": "object", "required": ["a", 1]}}, {"type": "object", "required": ["a"]}),
        ({"inputSchema": {"type": "object", "$schema": 1}}, OBJECT),
    ],
)
def test_a_field_of_a_tool_is_left_out_where_no_client_could_read_it(fields: Json, left: Any) -> None:
    ((key, _),) = fields.items()
    whole = tool(**fields)
    before = repr(whole)
    assert mended_tool(whole).get(key, {}) == left
    assert repr(whole) == before, "what the upstream listed stays what it was"


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"arguments": None}, None),
        ({"arguments": {}}, None),
        ({"arguments": ["a", {}, {"name": 1}, {"name": "a", "required": "yes"}]}, [{"name": "a"}]),
        ({"arguments": [{"name": "a", "description": None, "title": 2}]}, [{"name": "a"}]),
        ({"icons": {}}, None),
        ({"description": None}, None),
        ({"description": 1}, None),
        ({"_meta": None}, None),
    ],
)
def test_a_field_of_a_prompt_likewise(fields: Json, left: Any) -> None:
    ((key, _),) = fields.items()
    assert mended_prompt({"name": "p", **fields}).get(key) == left


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        ({"mimeType": None}, None),
        ({"description": 1}, None),
        ({"size": "12"}, None),
        ({"size": True}, None),
        ({"annotations": None}, None),
        ({"annotations": {"audience": ["robot", "user"]}}, {"audience": ["user"]}),
        ({"annotations": {"audience": "user", "priority": 7, "own": 1}}, {"own": 1}),
        ({"annotations": {"priority": None}}, {}),
        ({"annotations": {"lastModified": "yesterday"}}, {}),
        ({"annotations": {"lastModified": "2025-01-12T15:00:58"}}, {}),
        ({"annotations": {"lastModified": "2025-02-30T15:00:58Z"}}, {}),
        ({"annotations": {"lastModified": "2025-01-12T15:00:58.123456789+01:00"}}, None),
        ({"icons": None}, None),
        ({"_meta": 7}, None),
    ],
)
def test_a_field_of_a_resource_likewise(fields: Json, left: Any) -> None:
    ((key, value),) = fields.items()
    assert mended_resource({"uri": "x://y", **fields}).get(key) == (value if "789" in str(value) else left)


def test_a_property_that_is_a_boolean_schema_is_an_object_for_older_clients() -> None:
    shown = for_handshake_client(tool(inputSchema={"type": "object", "properties": {"a": True, "b": False, "c": {}}}))
    assert shown["inputSchema"]["properties"] == {"a": {}, "b": {"not": {}}, "c": {}}
    shown = for_handshake_client(tool(outputSchema={"type": "object", "properties": {"a": True}}))
    assert shown["outputSchema"]["properties"] == {"a": {}}
    assert for_handshake_client(RICH)["inputSchema"]["properties"] == {"a": {}, "b": {}}


def catalog(**lists: Any) -> Catalog:
    return build_catalog(
        [Source("a", "a", "A", capabilities={"resources": {}}, **{"tools": (), **lists})], name_length=64
    )


@pytest.mark.parametrize("schema", [[], True, "object", {"type": "array"}, {"type": ["string"]}, {"type": 7}])
def test_a_tool_that_takes_no_object_is_left_out(schema: Any) -> None:
    found = catalog(tools=(tool(inputSchema=schema),))
    assert found.tools == ()
    assert found.left_out["a"] == ("a tool without a usable name or inputSchema: 't'",)


def test_the_lists_have_it_mended_and_whoever_wrote_it_is_told() -> None:
    found = catalog(
        tools=(tool(annotations=None, icons=[7], inputSchema={"properties": []}),),
        prompts=({"name": "p", "arguments": {}},),
        resources=({"uri": "x://r", "name": "r", "size": "1", "mimeType": None},),
        templates=({"uriTemplate": "x://{t}", "name": "t", "annotations": []},),
    )
    (shown,) = found.tools
    assert "annotations" not in shown
    assert shown["inputSchema"] == OBJECT
    assert "arguments" not in found.lists["prompts"].shown[0]
    assert not {"size", "mimeType"} & set(found.lists["resources"].shown[0])
    assert "annotations" not in found.lists["resourceTemplates"].shown[0]
    assert found.flagged["a"] == (
        "t: 'inputSchema', 'icons' not as MCP has it; mended",
        "the prompt p: 'arguments' not as MCP has it; mended",
        "the resource x://r: 'size' not as MCP has it; mended",
        "the template x://{t}: 'annotations' not as MCP has it; mended",
    ), "of what is null nothing is said"
