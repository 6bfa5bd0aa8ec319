"""How tools and prompts look on one line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.cli.signatures import MAX_SIGNATURE, description_of, prompt_signature, tool_signature, type_name


def schema(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


INTEGER, TEXT = {"type": "integer"}, {"type": "string"}


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (schema(), "t()"),
        (None, "t()"),
        ("nonsense", "t()"),
        ({"properties": ["a"], "required": "a"}, "t()"),
        (schema(("a", "b"), a=INTEGER, b=TEXT), "t(a: int, b: str)"),
        (schema(("b",), a=INTEGER, b=TEXT), "t(b: str, a: int = ...)"),
        (schema(a={**INTEGER, "default": 2}), "t(a: int = 2)"),
        (schema(a={**TEXT, "default": "x"}), "t(a: str = 'x')"),
        (schema(a={"type": "boolean", "default": False}), "t(a: bool = False)"),
        (schema(a={**TEXT, "default": None}), "t(a: str = None)"),
        (schema(a={**TEXT, "default": "x" * 99}), "t(a: str = ...)"),
        (schema(("a",), a={"type": "array", "items": TEXT}), "t(a: list[str])"),
        (schema(("a",), a=True), "t(a: Any)"),
        (schema(("a\x1b[31m",), **{"a\x1b[31m": TEXT}), "t(a[31m: str)"),
    ],
)
def test_a_tool_is_shown_with_its_parameters(given: Any, shown: str) -> None:
    assert tool_signature("t", given) == shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({}, "Any"),
        ({"type": "number"}, "float"),
        ({"type": "array"}, "list"),
        ({"type": "what"}, "Any"),
        ({"properties": {}}, "dict"),
        ({"type": ["string", "null"]}, "str | None"),
        ({"enum": ["a", "b", 3]}, "'a' | 'b' | 3"),
        ({"enum": list("abcdefg")}, "'a' | 'b' | 'c' | 'd' | 'e' | ..."),
        ({"const": "a"}, "'a'"),
        ({"anyOf": [TEXT, {"type": "null"}]}, "str | None"),
        ({"oneOf": [TEXT, {}]}, "Any"),
        ({"type": "array", "items": {"anyOf": [TEXT, INTEGER]}}, "list[str | int]"),
        ({"$ref": "#/$defs/a"}, "Any"),
    ],
)
def test_a_schema_is_shown_as_a_type(given: Any, shown: str) -> None:
    assert type_name(given) == shown


def test_a_schema_within_itself_ends() -> None:
    endless: dict[str, Any] = {"type": "array"}
    endless["items"] = endless
    assert type_name(endless) == "list[list[list[list[list[Any]]]]]"


def test_a_prompt_takes_texts() -> None:
    arguments = [{"name": "code", "required": True}, {"name": "tone"}, "nonsense"]
    assert prompt_signature("review", arguments) == "review(code: str, tone: str = ...)"
    assert prompt_signature("review", None) == "review()"


def test_a_description_is_one_line() -> None:
    assert description_of({"description": "Adds\n  two\x1b[2J numbers."}) == "Adds two[2J numbers."
    assert description_of({"description": 3}) == ""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values, st.text(min_size=1))
def test_whatever_a_server_lists_makes_one_printable_line(schema: Any, name: str) -> None:
    shown = tool_signature(name, {"properties": schema, "required": schema} if isinstance(schema, dict) else schema)
    assert len(shown) <= MAX_SIGNATURE
    assert "\n" not in shown
    assert "\x1b" not in shown
