from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared import inbound  # the SDK's reading of the same rules, as a second opinion

from aggregator.protocol.headers import (
    BadAnnotation,
    Mismatch,
    check_envelope,
    check_parameters,
    decode_value,
    encode_value,
    parameter_headers,
    read_annotations,
)
from aggregator.protocol.jsonrpc import HEADER_MISMATCH, INVALID_PARAMS, UNSUPPORTED_VERSION
from aggregator.protocol.revisions import CLIENT_CAPABILITIES_KEY, PROTOCOL_VERSION_KEY, STATELESS

pytestmark = pytest.mark.requirement("TR2", "TR3")

texts = st.text(st.characters(exclude_categories=["Cs"]))
META = {PROTOCOL_VERSION_KEY: STATELESS, CLIENT_CAPABILITIES_KEY: {}}
HEADERS = {"mcp-protocol-version": STATELESS, "mcp-method": "tools/call", "mcp-name": "a"}


@given(texts)
def test_every_text_travels_in_a_header_and_back(text: str) -> None:
    encoded = encode_value(text)
    assert encoded.isascii()
    assert encoded.isprintable()
    assert encoded == encoded.strip()
    assert decode_value(encoded) == text
    assert inbound.decode_header_value(encoded) == text


@given(texts | st.from_regex(r"=\?base64\?[A-Za-z0-9+/=]{0,9}\?=", fullmatch=True))
def test_no_two_headers_stand_for_one_text_unless_one_is_plain(text: str) -> None:
    decoded = decode_value(text)
    if decoded is not None and decoded != text:
        assert encode_value(decoded) in (text, decoded)


@pytest.mark.parametrize(
    "text", ["=?base64?YQ?=", "=?base64?YR==?=", "=?base64?Y Q==?=", "=?base64?/w==?=", "=?base64?é?="]
)
def test_a_sentinel_that_is_not_canonical_stands_for_nothing(text: str) -> None:
    assert decode_value(text) is None


@pytest.mark.parametrize(
    ("params", "headers", "code"),
    [
        ({"name": "a"}, {}, INVALID_PARAMS),
        ({"name": "a", "_meta": {}}, {}, INVALID_PARAMS),
        ({"name": "a", "_meta": META}, {"mcp-method": "tools/list"}, HEADER_MISMATCH),
        ({"name": "a", "_meta": META}, {"mcp-name": "A"}, HEADER_MISMATCH),
        ({"name": "=?base64?YQ==?=", "_meta": META}, {"mcp-name": "=?base64?YQ==?="}, HEADER_MISMATCH),
        (
            {"name": "a", "_meta": {**META, PROTOCOL_VERSION_KEY: "2099-01-01"}},
            {"mcp-protocol-version": "2099-01-01"},
            UNSUPPORTED_VERSION,
        ),
        ({"name": "a", "_meta": {**META, CLIENT_CAPABILITIES_KEY: None}}, {}, INVALID_PARAMS),
    ],
)
def test_an_envelope_that_is_not_whole_or_differs_is_refused(params: Any, headers: dict[str, str], code: int) -> None:
    with pytest.raises(Mismatch) as refused:
        check_envelope("tools/call", params, {**HEADERS, **headers})
    assert refused.value.code == code


@pytest.mark.parametrize("name", ["a", "ünï", " a ", "=?base64?YQ==?=", ""])
def test_an_envelope_that_agrees_with_its_headers_passes(name: str) -> None:
    check_envelope("tools/call", {"name": name, "_meta": META}, {**HEADERS, "mcp-name": encode_value(name)})
    uri = {"mcp-method": "resources/read", "mcp-name": encode_value(name)}
    check_envelope("resources/read", {"uri": name, "_meta": META}, {**HEADERS, **uri})


SCHEMA = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "nested": {"type": "object", "properties": {"n": {"type": "integer", "x-mcp-header": "Deep-N"}}},
        "flag": {"type": "boolean", "x-mcp-header": "Flag"},
        "properties": {"type": "string", "default": {"x-mcp-header": "data, not an annotation"}},
    },
}
arguments = st.fixed_dictionaries(
    {},
    optional={
        "region": texts | st.none(),
        "nested": st.fixed_dictionaries({}, optional={"n": st.integers(-(10**15), 10**15)}),
        "flag": st.booleans(),
        "other": st.integers(),
    },
)


@given(arguments)
def test_the_headers_we_make_are_those_the_sdk_makes_and_pass_our_own_check(given_arguments: dict[str, Any]) -> None:
    annotated = read_annotations(SCHEMA)
    made = dict(parameter_headers(annotated, given_arguments))
    check_parameters(annotated, given_arguments, made)
    theirs = inbound.mcp_param_headers(inbound.x_mcp_header_map(SCHEMA), given_arguments)
    assert {key: inbound.decode_header_value(value) for key, value in made.items()} == {
        key.lower(): inbound.decode_header_value(value) for key, value in theirs.items()
    }
    for key in made:
        with pytest.raises(Mismatch):
            check_parameters(annotated, given_arguments, {name: value for name, value in made.items() if name != key})
        with pytest.raises(Mismatch):
            check_parameters(annotated, given_arguments, {**made, key: made[key] + "x"})


@pytest.mark.parametrize(
    ("header", "value", "same"),
    [
        ("3", 3, True),
        ("3.0", 3, True),
        ("3", 3.0, True),
        ("-3", -3, True),
        ("3.5", 3, False),
        ("03", 3, True),
        ("3e0", 3, False),
        ("0x3", 3, False),
        ("", 3, False),
        ("٣", 3, False),
        ("1", True, False),
        ("9" * 5000, 9, False),
        ("3", "3", True),
        ("3", [3], False),
        ("3", None, False),
    ],
)
def test_integers_compare_as_numbers_and_nothing_else_does(header: str, value: Any, same: bool) -> None:
    annotated = ((("n",), "N", "integer"),)
    if same:
        check_parameters(annotated, {"n": value}, {"mcp-param-n": header})
    else:
        with pytest.raises(Mismatch) as refused:
            check_parameters(annotated, {"n": value}, {"mcp-param-n": header})
        assert refused.value.code == HEADER_MISMATCH


@pytest.mark.parametrize(
    ("properties", "fault"),
    [
        ({"a": {"type": "string", "x-mcp-header": "A"}}, None),
        ({"a": {"type": "number", "x-mcp-header": "A"}}, "needs a string"),
        ({"a": {"type": ["string"], "x-mcp-header": "A"}}, "needs a string"),
        ({"a": {"type": {"x": 1}, "x-mcp-header": "A"}}, "needs a string"),
        ({"a": {"x-mcp-header": "A"}}, "needs a string"),
        ({"a": {"type": "string", "x-mcp-header": "A B"}}, "no"),
        ({"a": {"type": "string", "x-mcp-header": "A\n"}}, "no"),
        ({"a": {"type": "string", "x-mcp-header": ""}}, "no"),
        ({"a": {"type": "string", "x-mcp-header": None}}, "no"),
        ({"a": {"type": "string", "x-mcp-header": "A"}, "b": {"type": "string", "x-mcp-header": "a"}}, "twice"),
        ({"a": {"items": {"type": "string", "x-mcp-header": "A"}}}, "outside"),
        ({"a": {"anyOf": [{"type": "string", "x-mcp-header": "A"}]}}, "outside"),
        ({"a": {"$defs": {"d": {"type": "string", "x-mcp-header": "A"}}}}, "outside"),
        ({"a": {"enum": [{"x-mcp-header": "A"}], "const": {"x-mcp-header": 1}}}, None),
        ({"x-mcp-header": {"type": "string"}}, None),
    ],
)
def test_an_annotation_is_valid_on_a_scalar_in_a_chain_of_properties(properties: Any, fault: str | None) -> None:
    schema = {"type": "object", "properties": properties}
    if fault is None:
        read_annotations(schema)
    else:
        with pytest.raises(BadAnnotation, match=fault):
            read_annotations(schema)


@pytest.mark.parametrize(
    "schema", [None, [], "x", 7, True, {"properties": []}, {"properties": {"a": 1}}, {"allOf": {}}]
)
def test_a_schema_of_another_shape_has_no_annotations(schema: Any) -> None:
    assert read_annotations(schema) == ()


def test_a_schema_of_any_depth_is_walked() -> None:
    schema: dict[str, Any] = {"type": "string", "x-mcp-header": "A"}
    for _ in range(2_000):
        schema = {"properties": {"a": schema}}
    ((path, _, _),) = read_annotations(schema)
    assert len(path) == 2_000
